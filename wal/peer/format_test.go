package peer

import (
	"bytes"
	"encoding/binary"
	"flag"
	"hash/crc32"
	"os"
	"testing"

	"github.com/tidemarkmq/tidemark/wal"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// frameBytes is a frame as it travels.
func frameBytes(k kind, id uint64, head, bulk []byte) []byte {
	b := make([]byte, frameHeaderBytes, frameHeaderBytes+len(head)+len(bulk))
	h := frameHeader{Kind: k, Bulk: len(bulk), ID: id}
	if !layouts[k].groups {
		h.BulkCRC = crc32.Checksum(bulk, castagnoli)
	}
	h.put(b, head)
	return append(append(b, head...), bulk...)
}

// samples are one of each kind, by side.
func samples() (client, server []byte) {
	header := wal.StreamHeader{Epoch: 1001, Nonce: 0x1122334455667788, Owner: [16]byte{1, 2, 3}, SegmentBytes: 64 << 20}
	seg := wal.SegmentRef{Sequence: 2, First: 16773120, SizeBytes: 64 << 20}
	open := openMessage{Stream: 0xabc, Header: header, Oldest: seg, Create: true}
	place := putPlace(nil, wal.Chunk{Segment: seg, Position: 16777216})
	client = hello{Lowest: 1, Highest: 1, From: alice, Broker: bob.Broker, Disk: bob.Disk}.put()
	for _, f := range [][]byte{
		frameBytes(kindHeartbeat, 0, nil, nil), frameBytes(kindOpen, 1, open.put(nil), nil), frameBytes(kindAppend, 1, place, make([]byte, 4096)),
		frameBytes(kindFence, 2, putTwo(nil, 0xabc, 1002), nil), frameBytes(kindRead, 3, putRead(nil, 0xabc, 16777216, 1<<20), nil),
		frameBytes(kindTrim, 4, putTwo(nil, 0xabc, 16777216), nil), frameBytes(kindRemove, 5, putTwo(nil, 0xabc, 1002), nil),
		frameBytes(kindStreams, 6, nil, nil), frameBytes(kindCall, 7, []byte{9, 0}, []byte("payload")), frameBytes(kindCancel, 7, nil, nil), frameBytes(kindLeave, 1, nil, nil),
	} {
		client = append(client, f...)
	}
	server = welcome{Version: 1, From: bob, Limits: limits{Window: 8 << 20, Calls: 16, Streams: 8}}.put()
	e := &RemoteError{Code: 1, Text: "wal stream fenced"}
	tail := wal.Tail{Header: header, Start: 16773120, End: 16777216, Promise: 1001}
	for _, f := range [][]byte{
		frameBytes(kindHeartbeat, 0, nil, nil), frameBytes(kindTail, 1, putTail(nil, tail), nil), frameBytes(kindAcked, 1, putTwo(nil, 16781312, 4096), nil),
		frameBytes(kindEnded, 1, putError(nil, e), nil), frameBytes(kindChunk, 3, place, make([]byte, 4096)), frameBytes(kindDone, 4, nil, nil),
		frameBytes(kindFailed, 5, putError(nil, e), nil), frameBytes(kindList, 6, nil, le.AppendUint64(nil, 0xabc)), frameBytes(kindAnswer, 7, nil, []byte("answer")),
	} {
		server = append(server, f...)
	}
	return client, server
}

// TestGolden: the protocol stays what it is.
func TestGolden(t *testing.T) {
	client, server := samples()
	refusal := welcome{From: bob, Refusal: remote(refused(ErrWrongDisk, "another")), Limits: limits{8 << 20, 16, 8}}.put()
	for name, b := range map[string][]byte{"client": client, "server": server, "refusal": refusal} {
		var text bytes.Buffer
		must(t, Dump(&text, bytes.NewReader(b)))
		for file, got := range map[string][]byte{"testdata/v1-" + name + ".frames": b, "testdata/v1-" + name + ".dump": text.Bytes()} {
			if *update {
				must(t, os.WriteFile(file, got, 0o644))
			}
			want, err := os.ReadFile(file)
			must(t, err)
			if !bytes.Equal(got, want) {
				t.Errorf("%s differs:\n%s", file, text.Bytes())
			}
		}
	}
}

// TestEveryKindIsBounded: no length beyond a kind's is believed.
func TestEveryKindIsBounded(t *testing.T) {
	for k := range 256 {
		l, known := kind(k).layout()
		for _, n := range []struct{ head, bulk int }{{l.head - 1, 0}, {l.head + maxMessageBytes + 1, 0}, {l.head, l.maxBulk + 1}, {l.head, 1<<32 - 1}} {
			if n.head < 0 {
				continue
			}
			var b [frameHeaderBytes]byte
			b[4] = byte(k)
			le.PutUint16(b[6:], uint16(n.head))
			le.PutUint32(b[8:], uint32(n.bulk))
			if _, err := parseFrameHeader(b[:]); err == nil {
				t.Errorf("kind %d (known %v): %+v was taken", k, known, n)
			}
		}
	}
}

// FuzzFrames: whatever comes, nothing panics, and what is taken for frames is what would be sent.
func FuzzFrames(f *testing.F) {
	client, server := samples()
	f.Add(client)
	f.Add(server)
	f.Add(welcome{From: bob, Refusal: remote(ErrRefused)}.put())
	f.Fuzz(func(t *testing.T, b []byte) {
		var text bytes.Buffer
		_ = Dump(&text, bytes.NewReader(b))
		if len(b) > 0 {
			fuzzFrame(t, kind(b[0]), b[1:])
		}
		if h, err := parseHello(b); err == nil {
			if h2, err := parseHello(h.put()); err != nil || h2 != h {
				t.Fatalf("%+v, %+v, %v", h, h2, err)
			}
		}
	})
}

// fuzzFrame gives the head of a frame of any kind a valid CRC.
func fuzzFrame(t *testing.T, k kind, b []byte) {
	l, ok := k.layout()
	if !ok || len(b) < l.head {
		return
	}
	n := l.head
	if l.text {
		n = min(len(b), n+maxMessageBytes)
	}
	head, bulk := b[:n], b[n:]
	if l.groups {
		bulk = bulk[:len(bulk)/blockBytes*blockBytes]
	}
	frame := frameBytes(k, binary.LittleEndian.Uint64(append(make([]byte, 8), b...)), head, bulk)
	h, err := parseFrameHeader(frame)
	if err != nil {
		return
	}
	must(t, checkHead(frame, head))
	must(t, h.checkBulk(bulk))
	if text, err := describe(k, head); err == nil && k == kindOpen {
		m, _ := getOpen(head)
		if !bytes.Equal(m.put(nil), head) {
			t.Fatal(text)
		}
	}
}
