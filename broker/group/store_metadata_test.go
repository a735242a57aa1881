package group

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/tidemarkmq/tidemark/broker/group/classic"
	"github.com/tidemarkmq/tidemark/metadata"
	"github.com/tidemarkmq/tidemark/metadata/memkv"
)

// TestOverTheMetadataStore plays a group's life over the store that brokers use, its answers lost now and then, with a
// restart in between.
func TestOverTheMetadataStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kv := memkv.New()
		kv.SetFaults(func(c memkv.Call) memkv.Fault {
			if c.Kind != memkv.OpTxn {
				return memkv.Fault{}
			}
			return memkv.Fault{Lost: c.N%5 == 0, Unknown: c.N%7 == 0}
		})
		begin := func(incarnation metadata.Incarnation) *house {
			store, err := metadata.Open(t.Context(), kv, metadata.Options{Prefix: "/test"})
			if err != nil {
				t.Fatal(err)
			}
			return open(t, newMemStore(), incarnation, func(o *Options) { o.States, o.Offsets = store, store })
		}
		h := begin(1)
		ids := h.form("g", 3)
		for i := range int32(20) {
			h.expect("commit", h.commitAs("g", ids[0], 1, ordersID, i, metadata.Offset(i)), none)
		}
		h.expect("simple commit", h.commit("simple/with strange\x00bytes", 300, 9), none)
		h.stop()

		h = begin(2)
		defer h.stop()
		for i, id := range ids {
			h.expect("heartbeat", h.Heartbeat("g", id, nil, 1), none)
			r := h.Sync(t.Context(), "g", classic.SyncRequest{Generation: 1, MemberID: id})
			if r.Err != nil || r.Assignment[0] != byte(i) {
				t.Errorf("sync of %s after the restart: %+v", id, r)
			}
		}
		for i := range int32(20) {
			h.expect("offset", h.offset("g", i, true), int64(i))
		}
		h.expect("simple offset", h.offset("simple/with strange\x00bytes", 300, false), int64(9))
		_, err := h.Leave(t.Context(), "g", []classic.Leaver{{MemberID: ids[0]}, {MemberID: ids[1]}, {MemberID: ids[2]}})
		h.expect("leave", err, none)
		h.expect("delete", h.Delete(t.Context(), "g"), none)
		h.expect("delete again", h.Delete(t.Context(), "g"), kerr.GroupIDNotFound)
		time.Sleep(7*24*time.Hour + time.Hour)
		h.expect("expired", h.state("simple/with strange\x00bytes"), "GROUP_ID_NOT_FOUND")
	})
}
