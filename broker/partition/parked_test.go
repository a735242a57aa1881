package partition

import (
	"errors"
	"testing"
)

// TestDuplicateInAClosedPartitionOfAFailedLog: the original will never be durable, and the duplicate hears of it.
func TestDuplicateInAClosedPartitionOfAFailedLog(t *testing.T) {
	r, held := newHeldRig(t)
	p := r.open(nil)
	b := mk(t, 3, 10, 0, idempotent(8, 0, 0))
	first, err := r.send(p, b)
	if err != nil {
		t.Fatal(err)
	}
	dup, err := r.send(p, b)
	if err != nil {
		t.Fatal(err)
	}
	r.set.Close(p.ID())
	held.letGo(1, errors.New("disk gone"))
	for _, o := range []*outcome{first, dup} {
		select {
		case res := <-o.c:
			if !errors.Is(res.err, ErrFailed) {
				t.Errorf("%+v, want ErrFailed", res)
			}
		default:
			t.Error("not answered")
		}
	}
}
