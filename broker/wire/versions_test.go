package wire

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestTableAgreesWithKmsg(t *testing.T) {
	for key := range MaxKey + 1 {
		a := apis[key]
		if a.Key != key || a.Name == "" || a.Served == (a.Reason != "") || a.AcceptMin < a.Min {
			t.Errorf("row %d is odd: %+v", key, a)
		}
		req := kmsg.RequestForKey(key)
		if req == nil {
			t.Errorf("key %d: kmsg does not know it", key)
			continue
		}
		if name := kmsg.NameForKey(key); name != a.Name {
			t.Errorf("key %d is %s, not %s", key, name, a.Name)
		}
		if a.Max > req.MaxVersion() {
			t.Errorf("%s: v%d is beyond kmsg's v%d", a.Name, a.Max, req.MaxVersion())
		}
		for v := range a.Max + 1 {
			req.SetVersion(v)
			if req.IsFlexible() != flexible(key, v) {
				t.Errorf("%s v%d: flexible is %v in kmsg", a.Name, v, req.IsFlexible())
			}
		}
	}
	if kmsg.RequestForKey(MaxKey+1) != nil {
		t.Log("kmsg knows more keys than Kafka 4.4")
	}
}

func TestAccepts(t *testing.T) {
	for _, c := range []struct {
		key, version int16
		want         bool
	}{
		{0, 2, false}, {0, 3, true}, {0, 13, true}, {0, 14, false}, {1, 3, false}, {1, 18, true}, {22, 6, false}, {4, 0, false},
		{-1, 0, false}, {95, 0, false}, {18, -1, false}, {11, 0, true},
	} {
		if got := Accepts(c.key, c.version); got != c.want {
			t.Errorf("key %d v%d: %v", c.key, c.version, got)
		}
	}
	for _, a := range ServedAPIs() {
		if a.Key == KeyProduce && a.Min != 0 {
			t.Error("Produce must be advertised from v0 on (KAFKA-18659)")
		}
		if a.Key != KeyProduce && layouts[a.Key] == "" {
			t.Errorf("%s is served and has no layout", a.Name)
		}
	}
}
