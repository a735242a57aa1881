package wire

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"reflect"
	"runtime"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// decodedByKmsg calls fn for every key and version that the server hands to kmsg.
func decodedByKmsg(fn func(key, version int16)) {
	for _, a := range ServedAPIs() {
		for v := a.AcceptMin; a.Key != KeyProduce && v <= a.Max; v++ {
			fn(a.Key, v)
		}
	}
}

func TestCheckFollowsKmsg(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	decodedByKmsg(func(key, version int16) {
		for range 30 {
			req := randomRequest(r, key, version)
			body := req.AppendTo(nil)
			w := walker{cursor: cursor{b: body}, flexible: flexible(key, version), limit: 1 << 30}
			w.walk(layoutOf(key, version))
			if w.err != nil || len(w.b) != 0 {
				t.Fatalf("key %d v%d: %v, %d of %d bytes left over\n%+v", key, version, w.err, len(w.b), len(body), req)
			}
			if again := kmsg.RequestForKey(key); true {
				again.SetVersion(version)
				if err := again.ReadFrom(body); err != nil {
					t.Fatalf("key %d v%d: kmsg does not read its own: %v", key, version, err)
				}
			}
			for _, n := range []int{0, len(body) / 2, len(body) - 1} {
				if n < 0 || n >= len(body) {
					continue
				}
				if _, err := Check(key, version, body[:n], 1<<30); !errors.Is(err, ErrMalformed) {
					t.Fatalf("key %d v%d: %d of %d bytes accepted: %v", key, version, n, len(body), err)
				}
			}
		}
	})
}

func TestCheckKnowsHowBigStructuresGet(t *testing.T) {
	var visit func(ty reflect.Type)
	visit = func(ty reflect.Type) {
		switch ty.Kind() {
		case reflect.Slice, reflect.Pointer:
			if e := ty.Elem(); e.Kind() == reflect.Struct && e.Size() > structBytes {
				t.Errorf("%s has %d bytes, over %d", e, e.Size(), structBytes)
			}
			visit(ty.Elem())
		case reflect.Struct:
			for i := range ty.NumField() {
				visit(ty.Field(i).Type)
			}
		}
	}
	decodedByKmsg(func(key, _ int16) { visit(reflect.TypeOf(kmsg.RequestForKey(key)).Elem()) })
}

// hostile bodies: small frames that would cost kmsg gigabytes or minutes.
func hostileBodies() map[string]struct {
	key, version int16
	body         []byte
} {
	type h = struct {
		key, version int16
		body         []byte
	}
	huge := binary.AppendUvarint(nil, 1<<32-1)
	million := func(head []byte, element string, n int) []byte {
		b := append([]byte(nil), head...)
		b = binary.AppendUvarint(b, uint64(n+1))
		for range n {
			b = append(b, element...)
		}
		return append(b, 0, 0, 0, 0, 0, 0, 0, 0)
	}
	return map[string]h{
		"4 billion tagged fields":            {18, 3, append([]byte{2, 'a', 2, 'b'}, huge...)},
		"4 billion topics":                   {3, 9, huge},
		"2 billion topics, not flexible":     {3, 8, []byte{0x7f, 0xff, 0xff, 0xff, 0, 0, 0}},
		"array as long as the frame":         {19, 5, append(binary.AppendUvarint(nil, 1<<20), make([]byte, 1<<20)...)},
		"millions of tiny topics":            {3, 12, million(nil, "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", 1<<19)},
		"millions of empty names":            {20, 4, million(nil, "\x01", 4<<20)},
		"millions of partitions":             {8, 2, append(append(make([]byte, 18), 0, 0, 0, 1, 0, 0, 0, 0x10, 0, 0), make([]byte, 16<<20)...)},
		"an unknown tag in every element":    {42, 2, append([]byte{1}, million(nil, "\x05\x00", 1<<20)...)},
		"tagged fields nested in known tags": {1, 16, append(make([]byte, 21), append([]byte{1, 1, 1, 1, 1, 17}, append(make([]byte, 12), huge...)...)...)},
	}
}

func TestHostileBodiesStayCheap(t *testing.T) {
	const limit = 64 << 20
	for name, h := range hostileBodies() {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			cost, err := Check(h.key, h.version, h.body, limit)
			if err == nil {
				req := kmsg.RequestForKey(h.key)
				req.SetVersion(h.version)
				err = req.ReadFrom(h.body)
			}
			runtime.ReadMemStats(&after)
			if got := after.TotalAlloc - before.TotalAlloc; got > limit || cost < int(got)/2 {
				t.Errorf("%d bytes allocated for %d of body (estimate %d, error %v)", got, len(h.body), cost, err)
			}
		})
	}
}

func TestCheckCostsNothing(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	body := randomRequest(r, KeyFetch, 17).AppendTo(nil)
	if n := testing.AllocsPerRun(100, func() {
		if _, err := Check(KeyFetch, 17, body, 1<<30); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzCheck(f *testing.F) {
	r := rand.New(rand.NewPCG(5, 6))
	decodedByKmsg(func(key, version int16) {
		if version%3 == 0 {
			f.Add(key, version, randomRequest(r, key, version).AppendTo(nil))
		}
	})
	for _, h := range hostileBodies() {
		if len(h.body) < 1<<10 {
			f.Add(h.key, h.version, h.body)
		}
	}
	f.Fuzz(func(t *testing.T, key, version int16, body []byte) {
		if !Accepts(key, version) || key == KeyProduce {
			return
		}
		if _, err := Check(key, version, body, 1<<20); err != nil {
			return
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		req := kmsg.RequestForKey(key)
		req.SetVersion(version)
		_ = req.ReadFrom(body) // must return, and cheaply: it may still refuse nulls
		runtime.ReadMemStats(&after)
		if got := after.TotalAlloc - before.TotalAlloc; got > 4<<20 {
			t.Errorf("%d bytes allocated", got)
		}
	})
}
