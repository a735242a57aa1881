package classic

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
)

var update = flag.Bool("update", false, "rewrite the expected outputs and golden files in testdata")

// TestScripts plays the files in testdata/script. A file is a sequence of blocks: a command line, "----", and what came of it,
// up to an empty line. Commands are documented at script.run.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/script/*.txt")
	if err != nil || len(files) < 5 {
		t.Fatalf("scripts: %v, %v", files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) { playScript(t, file) })
	}
}

func playScript(t *testing.T, file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	s := newScript(t)
	for _, block := range strings.Split(strings.TrimSpace(string(text)), "\n\n") {
		lines := strings.Split(block, "\n")
		for len(lines) > 0 && strings.HasPrefix(lines[0], "#") {
			out.WriteString(lines[0] + "\n")
			lines = lines[1:]
		}
		if len(lines) == 0 {
			out.WriteString("\n")
			continue
		}
		command, rest := lines[0], lines[1:]
		got := s.run(command)
		if len(rest) > 0 && rest[0] == "----" {
			rest = rest[1:]
		}
		if want := strings.Join(rest, "\n"); !*update && want != got {
			t.Errorf("%s\n  got:\n%s\n  want:\n%s", command, got, want)
		}
		fmt.Fprintf(&out, "%s\n----\n%s\n\n", command, got)
	}
	if *update {
		if err := os.WriteFile(file, []byte(strings.TrimSpace(out.String())+"\n"), 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

type script struct {
	t     *testing.T
	cfg   Config
	g     *Group
	now   int64
	saves []Save
}

// epoch is the time at which a script begins; what it prints is relative to it.
const epoch = 1_000_000

func newScript(t *testing.T) *script {
	s := &script{t: t, now: epoch, cfg: Config{
		MaxMembers: 100, MaxPendingMembers: 100, MaxBytes: 1 << 20, InitialRebalanceDelayMillis: 3000, NewMemberJoinTimeoutMillis: 300_000,
	}}
	s.g = New(&s.cfg, "g", epoch)
	return s
}

type args map[string]string

func (a args) str(key, otherwise string) string {
	if v, ok := a[key]; ok {
		return v
	}
	return otherwise
}

func (a args) ptr(key string) *string {
	if v, ok := a[key]; ok {
		return &v
	}
	return nil
}

func (a args) int(t *testing.T, key string, otherwise int64) int64 {
	v, ok := a[key]
	if !ok {
		return otherwise
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		t.Fatalf("%s=%s: %v", key, v, err)
	}
	return n
}

// protocols reads "range:a+b,roundrobin:x" as two consumer protocols subscribing to topics a and b, and x.
func protocols(text string) (out []Protocol) {
	for _, p := range strings.Split(text, ",") {
		name, topics, _ := strings.Cut(p, ":")
		if name != "" {
			out = append(out, Protocol{Name: name, Metadata: subscription(strings.Split(topics, "+")...)})
		}
	}
	return out
}

func subscription(topics ...string) []byte {
	b := []byte{0, 0, 0, 0, 0, byte(len(topics))}
	for _, topic := range topics {
		b = append(b, 0, byte(len(topic)))
		b = append(b, topic...)
	}
	return append(b, 0xff, 0xff, 0xff, 0xff)
}

// run executes one command: a verb and key=value arguments. "+N" moves the clock first. Verbs: config, join, sync, heartbeat,
// leave, commit, tick, saved, restore, describe, expires, delete, unload.
func (s *script) run(command string) string {
	verb, a := "", args{}
	for _, field := range strings.Fields(command) {
		key, value, assigned := strings.Cut(field, "=")
		switch {
		case assigned:
			a[key] = value
		case strings.HasPrefix(field, "+"):
			s.now += args{"n": field[1:]}.int(s.t, "n", 0)
		default:
			verb = field
		}
	}
	switch verb {
	case "config":
		s.cfg.MaxMembers = int(a.int(s.t, "members", int64(s.cfg.MaxMembers)))
		s.cfg.MaxPendingMembers = int(a.int(s.t, "pending", int64(s.cfg.MaxPendingMembers)))
		s.cfg.MaxBytes = a.int(s.t, "bytes", s.cfg.MaxBytes)
		s.cfg.InitialRebalanceDelayMillis = a.int(s.t, "delay", s.cfg.InitialRebalanceDelayMillis)
		return s.state()
	case "join":
		return s.effects(s.g.Join(s.now, s.join(a)))
	case "sync":
		return s.effects(s.g.Sync(s.now, s.sync(a)))
	case "heartbeat":
		return text(s.g.Heartbeat(s.now, a["id"], a.ptr("instance"), int32(a.int(s.t, "gen", 0)))) + "\n" + s.state()
	case "commit":
		return text(s.g.CheckCommit(s.now, a["id"], a.ptr("instance"), int32(a.int(s.t, "gen", -1)))) + "\n" + s.state()
	case "leave":
		return s.leave(a)
	case "tick":
		return s.effects(s.g.Tick(s.now))
	case "saved":
		return s.saved(a)
	case "restore":
		return s.restore()
	case "describe":
		return s.describe()
	case "expires":
		return fmt.Sprint(s.g.Expires(s.now, a["topic"], s.now-a.int(s.t, "ago", 0), a.int(s.t, "expire", -1), a.int(s.t, "retention", 1000)))
	case "delete":
		return text(s.g.CheckDelete()) + " offsets " + text(s.g.CheckOffsetDelete())
	case "unload":
		return s.effects(s.g.Unload(s.now, kerr.NotCoordinator))
	}
	s.t.Fatalf("unknown verb %q", verb)
	return ""
}

func (s *script) join(a args) JoinRequest {
	version := a.int(s.t, "v", 9)
	return JoinRequest{
		Ticket: Ticket(a.int(s.t, "t", 0)), MemberID: a["id"], NewMemberID: a["new"], InstanceID: a.ptr("instance"),
		ClientID: a.str("client", "c"), ClientHost: "/127.0.0.1",
		SessionTimeoutMillis:   int32(a.int(s.t, "session", 10_000)),
		RebalanceTimeoutMillis: int32(a.int(s.t, "rebalance", 60_000)),
		ProtocolType:           a.str("type", "consumer"), Protocols: protocols(a.str("protos", "range:a")),
		RequireKnownMemberID: version >= 4, CanSkipAssignment: version >= 9, Reason: a["reason"],
	}
}

func (s *script) sync(a args) SyncRequest {
	r := SyncRequest{
		Ticket: Ticket(a.int(s.t, "t", 0)), Generation: int32(a.int(s.t, "gen", 0)), MemberID: a["id"], InstanceID: a.ptr("instance"),
		ProtocolType: a.ptr("type"), Protocol: a.ptr("proto"),
	}
	if a["assign"] != "" {
		r.Assignments = map[string][]byte{}
		for _, one := range strings.Split(a["assign"], ",") {
			id, value, _ := strings.Cut(one, ":")
			r.Assignments[id] = []byte(value)
		}
	}
	return r
}

func (s *script) leave(a args) string {
	var leavers []Leaver
	for _, one := range strings.Split(a["ids"], ",") {
		id, instance, static := strings.Cut(one, "@")
		l := Leaver{MemberID: id, Reason: a["reason"]}
		if static {
			l.InstanceID = &instance
		}
		leavers = append(leavers, l)
	}
	errs, err, e := s.g.Leave(s.now, leavers)
	var out []string
	for _, e := range errs {
		out = append(out, text(e))
	}
	return fmt.Sprintf("%s [%s]\n", text(err), strings.Join(out, " ")) + s.effects(e)
}

func (s *script) saved(a args) string {
	if len(s.saves) == 0 {
		return "nothing to save"
	}
	var err *kerr.Error
	if a["err"] != "" {
		err = kerr.NotCoordinator
		for _, e := range []*kerr.Error{kerr.CoordinatorNotAvailable, kerr.UnknownServerError} {
			if e.Message == a["err"] {
				err = e
			}
		}
	}
	last := s.saves[len(s.saves)-1]
	if err == nil {
		s.saves = s.saves[len(s.saves)-1:]
	} else {
		s.saves = nil
	}
	return s.effects(s.g.Saved(s.now, last.Seq, err))
}

// restore replaces the group by what its last save says after encoding and decoding.
func (s *script) restore() string {
	last := s.saves[len(s.saves)-1].Snapshot
	decoded, err := Decode(Encode(&last))
	if err != nil {
		s.t.Fatal(err)
	}
	g, e := Restore(&s.cfg, "g", s.now, decoded)
	s.g = g
	return s.effects(e)
}

func (s *script) describe() string {
	d := s.g.Describe()
	lines := []string{fmt.Sprintf("%s type=%q protocol=%q", d.State, d.ProtocolType, d.Protocol)}
	for _, m := range d.Members {
		lines = append(lines, fmt.Sprintf("member %s instance=%s client=%s host=%s metadata=%q assignment=%q",
			m.MemberID, optional(m.InstanceID), m.ClientID, m.ClientHost, m.Metadata, m.Assignment))
	}
	return strings.Join(lines, "\n")
}

func (s *script) effects(e Effects) string {
	var lines []string
	for _, r := range e.Joins {
		line := fmt.Sprintf("join %d: %s member=%s gen=%d", r.Ticket, text(r.Err), r.MemberID, r.Generation)
		if r.Err == nil {
			line += fmt.Sprintf(" type=%s protocol=%s leader=%s skip=%v", r.ProtocolType, r.Protocol, r.Leader, r.SkipAssignment)
			for _, m := range r.Members {
				line += fmt.Sprintf(" [%s %s %q]", m.MemberID, optional(m.InstanceID), m.Metadata)
			}
		}
		lines = append(lines, line)
	}
	for _, r := range e.Syncs {
		lines = append(lines, fmt.Sprintf("sync %d: %s type=%s protocol=%s assignment=%q", r.Ticket, text(r.Err), r.ProtocolType, r.Protocol, r.Assignment))
	}
	for _, n := range e.Notes {
		lines = append(lines, "note: "+n)
	}
	if e.Save != nil {
		s.saves = append(s.saves, *e.Save)
		var members []string
		for _, m := range e.Save.Snapshot.Members {
			members = append(members, fmt.Sprintf("%s=%s", m.MemberID, m.Assignment))
		}
		lines = append(lines, fmt.Sprintf("save %d: gen=%d leader=%s [%s]", e.Save.Seq, e.Save.Snapshot.Generation, e.Save.Snapshot.Leader, strings.Join(members, " ")))
	}
	return strings.Join(append(lines, s.state()), "\n")
}

func (s *script) state() string {
	s.invariants()
	g := s.g
	var pending []string
	for id := range g.pendingJoin {
		pending = append(pending, id)
	}
	slices.Sort(pending)
	out := fmt.Sprintf("%d ms: %s gen=%d members=%d waiting=%d", s.now-epoch, g.State(), g.Generation(), g.Members(), g.awaitingJoins)
	if len(pending) > 0 {
		out += fmt.Sprintf(" pending=%v", pending)
	}
	if g.leader != "" {
		out += " leader=" + g.leader
	}
	if g.WakeMillis() == 0 {
		return out
	}
	return out + fmt.Sprintf(" wake=%d", g.WakeMillis()-epoch)
}

// invariants checks what must hold between any two events.
func (s *script) invariants() {
	s.t.Helper()
	if err := s.g.check(); err != nil {
		s.t.Error(err)
	}
}

// check returns what is wrong with the group's bookkeeping.
func (g *Group) check() error {
	waiting, supported, size := 0, map[string]int{}, int64(0)
	for _, m := range g.order {
		if g.members[m.id] != m {
			return fmt.Errorf("member %s is in the order only", m.id)
		}
		if m.awaitingJoin() {
			waiting++
		}
		for _, p := range m.protocols {
			supported[p.Name]++
		}
		if m.instanceID != nil && g.static[*m.instanceID] != m.id {
			return fmt.Errorf("static member %s is mapped to %q", m.id, g.static[*m.instanceID])
		}
		if m.deadlineMillis == 0 && !m.heartbeatSatisfied() && g.state != Dead {
			return fmt.Errorf("member %s has no session deadline and nothing parked", m.id)
		}
		size += m.sizeBytes()
	}
	for id := range g.pendingSync {
		if g.members[id] == nil {
			return fmt.Errorf("%s is awaited for a sync and is no member", id)
		}
	}
	switch {
	case len(g.order) != len(g.members):
		return fmt.Errorf("%d members in order, %d in all", len(g.order), len(g.members))
	case waiting != g.awaitingJoins:
		return fmt.Errorf("%d members wait, %d are counted", waiting, g.awaitingJoins)
	case fmt.Sprint(supported) != fmt.Sprint(g.supported):
		return fmt.Errorf("supported protocols %v, counted %v", supported, g.supported)
	case size != g.sizeBytes:
		return fmt.Errorf("%d bytes, counted %d", size, g.sizeBytes)
	case (g.leader == "") != (len(g.members) == 0) || g.leader != "" && g.members[g.leader] == nil:
		return fmt.Errorf("leader %q of %d members", g.leader, len(g.members))
	case g.state == Empty && len(g.members) > 0:
		return fmt.Errorf("empty with %d members", len(g.members))
	case g.state == PreparingRebalance && g.joinDeadlineMillis == 0:
		return fmt.Errorf("a rebalance without an end")
	case g.state != PreparingRebalance && g.joinDeadlineMillis != 0:
		return fmt.Errorf("a join deadline in state %s", g.state)
	}
	return nil
}

func text(err *kerr.Error) string {
	if err == nil {
		return "ok"
	}
	return err.Message
}

func optional(s *string) string {
	if s == nil {
		return "-"
	}
	return *s
}
