package group

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"testing"
	"testing/synctest"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/tidemarkmq/tidemark/broker/group/classic"
)

// laterState is a whole record of a kind that this program does not know.
func laterState() []byte {
	b := append([]byte("TMGS"), 1, 200, 0)
	table := crc32.MakeTable(crc32.Castagnoli)
	body := []byte("what it says is not known here")
	b = binary.LittleEndian.AppendUint32(b, crc32.Update(crc32.Checksum(b, table), table, body))
	return append(b, body...)
}

// TestStateOfALaterKindIsLeftAlone: neither members that join nor anything else may overwrite it, before or after it was loaded.
func TestStateOfALaterKindIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newMemStore()
		store.rev = 7
		store.states["g"] = stored{laterState(), 7}
		h := open(t, store, 1, nil)
		defer h.stop()
		attempt := func(group string) {
			joined := h.Join(t.Context(), group, joining("", func(r *classic.JoinRequest) { r.RequireKnownMemberID = false }))
			h.expect("join", joined.Err, kerr.CoordinatorNotAvailable)
			h.expect("sync", h.Sync(t.Context(), group, classic.SyncRequest{MemberID: "m"}).Err, kerr.CoordinatorNotAvailable)
			h.expect("heartbeat", h.Heartbeat(group, "m", nil, 1), kerr.CoordinatorNotAvailable)
			h.expect("commit", h.commit(group, 0, 5), kerr.CoordinatorNotAvailable)
			h.expect("delete", h.Delete(t.Context(), group), kerr.CoordinatorNotAvailable)
			h.expect("describe", h.state(group), kerr.CoordinatorNotAvailable.Message)
			h.Expire(t.Context())
			if !bytes.Equal(store.states[group].state, laterState()) {
				t.Errorf("the state of %s was overwritten: %x", group, store.states[group].state)
			}
		}
		attempt("g")

		// A later program takes over a group that is served here, and writes what only it can read.
		h.form("h", 1)
		store.mu.Lock()
		store.rev++
		store.states["h"] = stored{laterState(), store.rev}
		store.mu.Unlock()
		members, _ := h.Describe("h")
		if _, err := h.Leave(t.Context(), "h", []classic.Leaver{{MemberID: members.Members[0].MemberID}}); err != kerr.NotCoordinator {
			t.Errorf("leave: %v", err)
		}
		attempt("h")
	})
}
