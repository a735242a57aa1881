package quorum

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/tidemarkmq/tidemark/wal"
)

var a, b, c, d = Member{1, "a"}, Member{2, "b"}, Member{3, "c"}, Member{4, "d"}

func ensemble(t *testing.T, k *core, next ...Member) {
	t.Helper()
	for _, m := range next {
		if m != k.self {
			k.join(m)
			k.hold(m, 0)
		}
	}
	if !k.freeze(next) || !k.ready(0) {
		t.Fatalf("the ensemble cannot become %v", next)
	}
	k.changed()
}

func TestAcknowledged(t *testing.T) {
	k := newCore(a, 2)
	if k.hold(b, 100); k.acknowledged() != 0 {
		t.Fatal("somebody who is not a member counted")
	}
	k.join(b)
	if k.hold(b, 100) != 0 {
		t.Fatal("a newcomer counted")
	}
	k = newCore(a, 2)
	ensemble(t, k, a, b, c)
	for _, step := range []struct {
		m    Member
		to   wal.Position
		want wal.Position
	}{{b, 10, 10}, {c, 5, 10}, {c, 30, 30}, {b, 20, 30}, {b, 31, 31}} {
		if got := k.hold(step.m, step.to); got != step.want {
			t.Fatalf("%v holds %d: acknowledged %d, want %d", step.m, step.to, got, step.want)
		}
	}
	k = newCore(a, 3)
	ensemble(t, k, a, b, c)
	if k.hold(b, 10) != 0 || k.hold(c, 7) != 7 {
		t.Fatal("three must hold it")
	}
}

func TestChangeOfEnsemble(t *testing.T) {
	k := newCore(a, 2)
	ensemble(t, k, a, b, c)
	k.hold(b, 10)
	k.join(d)
	if k.freeze([]Member{a, c, d}) {
		t.Fatal("a newcomer without a replica was taken")
	}
	if !k.freeze([]Member{a}) || k.ready(9) || !k.ready(10) {
		t.Fatal("the ensemble shrinks below its quorum only when all that is acknowledged is committed")
	}
	k.thaw()
	k.hold(d, 4)
	if !k.freeze([]Member{a, c, d}) || k.ready(0) {
		t.Fatal("acknowledged entries would be on one disk")
	}
	if k.hold(b, 20) != 10 {
		t.Fatal("acknowledged while frozen")
	}
	if k.hold(d, 10); !k.ready(0) {
		t.Fatal("a and d hold what was acknowledged")
	}
	if gone := k.changed(); !slices.Equal(gone, []Member{b}) {
		t.Fatalf("gone: %v", gone)
	}
	if k.hold(b, 90) != 10 || k.hold(c, 15) != 15 {
		t.Fatal("the new ensemble does not count by itself")
	}
	k.join(b)
	k.hold(b, 3)
	if k.freeze([]Member{a, b, c}); k.ready(0) {
		t.Log("c holds it")
	}
	k.thaw()
	if k.hold(d, 16) != 16 {
		t.Fatal("the freeze did not end")
	}
}

// Whatever happens, what is acknowledged is held by enough of the ensemble that etcd has.
func TestAcknowledgedIsHeld(t *testing.T) {
	all := []Member{b, c, d, {5, "e"}, {6, "f"}}
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		k := newCore(a, 2+r.IntN(2))
		held, committed := map[Member]wal.Position{}, wal.Position(0)
		for range 200 {
			m := all[r.IntN(len(all))]
			if r.IntN(10) == 0 && k.acked > committed {
				committed += wal.Position(1 + r.IntN(int(k.acked-committed)))
			}
			switch r.IntN(6) {
			case 0:
				k.join(m)
			case 1:
				if k.next == nil {
					k.leave(m)
					if k.find(m) == nil {
						delete(held, m)
					}
				}
			case 2:
				if k.next == nil {
					next := []Member{a}
					for _, o := range all {
						if r.IntN(2) == 0 {
							next = append(next, o)
						}
					}
					k.freeze(next)
				}
			case 3:
				if k.ready(committed) {
					k.changed()
				} else if r.IntN(4) == 0 {
					k.thaw()
				}
			default:
				if k.find(m) != nil {
					held[m] += wal.Position(r.IntN(5))
					k.hold(m, held[m])
				}
			}
			n := 1
			for _, o := range k.ensemble {
				if o != a && held[o] >= k.acked {
					n++
				}
			}
			if k.acked > committed && n < k.quorum {
				t.Fatalf("seed %d: %d is acknowledged and held by %d of %v", seed, k.acked, n, k.ensemble)
			}
		}
	}
}

func TestDesired(t *testing.T) {
	for _, test := range []struct {
		name                           string
		present, lost, slow, live, out []Member
	}{
		{"alone", []Member{a}, nil, nil, nil, []Member{a}},
		{"grows", []Member{a}, nil, nil, []Member{c, b, d}, []Member{a, c, b}},
		{"keeps who is there", []Member{a, b, d}, nil, nil, []Member{c, b, d}, []Member{a, b, d}},
		{"replaces the dead", []Member{a, b, c}, nil, nil, []Member{b, d}, []Member{a, b, d}},
		{"drops the dead", []Member{a, b, c}, nil, nil, []Member{b}, []Member{a, b}},
		{"drops the last", []Member{a, b}, nil, nil, nil, []Member{a}},
		{"drops the lost, who comes back later", []Member{a, b, c}, []Member{b}, nil, []Member{b, c}, []Member{a, c}},
		{"replaces the slow", []Member{a, b, c}, nil, []Member{b}, []Member{b, c, d}, []Member{a, c, d}},
		{"nobody better", []Member{a, b, c}, nil, []Member{b}, []Member{b, c}, []Member{a, c, b}},
		{"another disk of the same broker", []Member{a, b, c}, nil, nil, []Member{{2, "new"}, c}, []Member{a, c, {2, "new"}}},
	} {
		if got := Desired(a, test.present, test.lost, test.slow, test.live, 3); !slices.Equal(got, test.out) {
			t.Errorf("%s: %v, want %v", test.name, got, test.out)
		}
	}
}
