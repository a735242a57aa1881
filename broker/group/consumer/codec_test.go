package consumer

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/tidemarkmq/tidemark/broker/group/classic"
	"github.com/tidemarkmq/tidemark/broker/group/record"
)

var update = flag.Bool("update", false, "rewrite golden files")

func sample() Snapshot {
	instance, rack := "pod-0", "a"
	return Snapshot{
		Incarnation: 4711, Sequence: 12, Epoch: 9, AssignmentEpoch: 8,
		Topics: map[string]Topic{"orders": {topicN(1), 6}, "payments": {topicN(2), 1}},
		Members: []SnapshotMember{
			{
				MemberID: "m1", InstanceID: &instance, RackID: &rack, ClientID: "app", ClientHost: "/10.0.0.1", RebalanceTimeoutMillis: 300_000,
				Names: []string{"orders", "payments"}, Regex: "pay.*", Assignor: "range", State: Unrevoked, Epoch: 7, PreviousEpoch: 6,
				Target:   Assignment{topicN(1): {0, 1, 5}, topicN(2): {0}},
				Assigned: map[TopicID]map[int32]int32{topicN(1): {0: 7, 1: 6}}, Revoking: map[TopicID]map[int32]int32{topicN(1): {2: 5}},
			},
			{
				MemberID: "m2", Epoch: -2, State: MemberStable,
				Classic: &SnapshotClassic{45_000, []classic.Protocol{{Name: "range", Metadata: []byte{0, 1}}}},
			},
		},
	}
}

func TestRoundTrip(t *testing.T) {
	for name, s := range map[string]Snapshot{"sample": sample(), "zero": {}} {
		got, err := Decode(Encode(&s))
		if err != nil || !reflect.DeepEqual(got, s) {
			t.Errorf("%s: %v\n got %+v\nwant %+v", name, err, got, s)
		}
	}
}

func TestGolden(t *testing.T) {
	s := sample()
	const file = "testdata/state-v1.golden"
	if *update {
		if err := os.WriteFile(file, Encode(&s), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b, Encode(&s)) {
		t.Error("Encode no longer writes version 1 as the golden file has it: stored groups would change")
	}
	if got, err := Decode(b); err != nil || !reflect.DeepEqual(got, s) {
		t.Errorf("golden file: %+v, %v", got, err)
	}
	var text strings.Builder
	if err := Dump(&text, b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"incarnation 4711", "epoch 9, target of epoch 8", `"pod-0"`, "classic protocol", "pay.*"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("dump lacks %s:\n%s", want, text.String())
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	s := sample()
	body := appendBody(nil, &s)
	for i := range body {
		if _, err := Decode(record.Seal(record.Consumer, body[:i])); err == nil {
			t.Errorf("cut to %d bytes: accepted", i)
		}
	}
	if _, err := Decode(record.Seal(record.Consumer, append(bytes.Clone(body), 0))); err == nil {
		t.Error("a byte more: accepted")
	}
	later := append([]byte{2, 3}, 2, 0, 0) // version 2
	if _, err := Decode(record.Seal(record.Consumer, later)); !errors.Is(err, record.ErrUnknown) {
		t.Errorf("a later version: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range []Snapshot{{}, sample()} {
		f.Add(appendBody(nil, &s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		s, err := Decode(record.Seal(record.Consumer, body))
		if err != nil {
			return
		}
		g := Restore(testConfig(), "g", now, &s)
		checkOwners(t, g)
		again := g.Snapshot()
		if _, err := Decode(Encode(&again)); err != nil {
			t.Fatalf("%+v: %v", again, err)
		}
		g.Describe()
		g.Tick(now + 1)
	})
}
