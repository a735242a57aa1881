package classic

import (
	"bytes"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/tidemarkmq/tidemark/broker/group/record"
)

func sample() Snapshot {
	instance := "rack-1/pod-0"
	return Snapshot{
		Incarnation: 4711, Sequence: 12, SinceMillis: 1_700_000_000_000, Generation: 7,
		ProtocolType: "consumer", Protocol: "range", Leader: "app-1",
		Members: []SnapshotMember{
			{
				MemberID: "app-1", InstanceID: &instance, ClientID: "app", ClientHost: "/10.0.0.1",
				RebalanceTimeoutMillis: 300_000, SessionTimeoutMillis: 45_000,
				Protocols:  []Protocol{{"range", subscription("orders", "payments")}, {"cooperative-sticky", subscription("orders")}},
				Assignment: []byte{0, 1, 2, 3},
			},
			{MemberID: "app-2", RebalanceTimeoutMillis: 1, SessionTimeoutMillis: 2, Protocols: []Protocol{{"range", []byte{}}}, Assignment: []byte{}},
		},
	}
}

// large repeats itself, as subscriptions do.
func large() Snapshot {
	s := sample()
	for range 200 {
		s.Members = append(s.Members, s.Members[0])
	}
	return s
}

func TestRoundTrip(t *testing.T) {
	for name, s := range map[string]Snapshot{"sample": sample(), "large": large(), "zero": {}, "since unknown": {SinceMillis: -1}} {
		b := Encode(&s)
		got, err := Decode(b)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !reflect.DeepEqual(got, s) {
			t.Errorf("%s:\n got %+v\nwant %+v", name, got, s)
		}
		if name == "large" && len(b) > 4<<10 {
			t.Errorf("a repetitive state of 200 members takes %d bytes", len(b))
		}
	}
}

func TestGolden(t *testing.T) {
	s := sample()
	if *update {
		if err := os.WriteFile("testdata/state-v1.golden", Encode(&s), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile("testdata/state-v1.golden")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b, Encode(&s)) {
		t.Error("Encode no longer writes version 1 as the golden file has it: stored groups would change")
	}
	got, err := Decode(b)
	if err != nil || !reflect.DeepEqual(got, s) {
		t.Errorf("golden file: %+v, %v", got, err)
	}
	var text strings.Builder
	if err := Dump(&text, b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"incarnation 4711", "Stable", "generation 7", `"rack-1/pod-0"`, `"cooperative-sticky"`, "00010203"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("dump lacks %s:\n%s", want, text.String())
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	s := sample()
	good := Encode(&s)
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 0x10
		if _, err := Decode(bad); err == nil {
			t.Errorf("byte %d flipped: accepted", i)
		}
		if _, err := Decode(good[:i]); err == nil {
			t.Errorf("cut to %d bytes: accepted", i)
		}
	}
	if _, err := Decode(append(bytes.Clone(good), 0)); err == nil {
		t.Error("a byte more: accepted")
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range []Snapshot{{}, sample(), large()} {
		f.Add(appendBody(nil, &s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		// The checksum would keep the fuzzer out, so it is made good.
		s, err := Decode(record.Seal(record.Classic, body))
		if err != nil {
			return
		}
		again, err := Decode(Encode(&s))
		if err != nil || !reflect.DeepEqual(again, s) {
			t.Fatalf("%+v became %+v, %v", s, again, err)
		}
		cfg := Config{MaxMembers: 3, MaxPendingMembers: 1, MaxBytes: 1 << 20}
		g, _ := Restore(&cfg, "g", epoch, s)
		if g.Members() > 0 {
			g.Describe()
			g.Tick(epoch + 1)
		}
	})
}
