package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"reflect"
	"runtime"
	"testing"
	"testing/iotest"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemarkmq/tidemark/tiering/batch"
)

// produceFrame is a whole request without its length.
func produceFrame(req *kmsg.ProduceRequest) []byte {
	return kmsg.NewRequestFormatter(kmsg.FormatterClientID("tester")).AppendRequest(nil, req, 42)[4:]
}

func randomProduce(r *rand.Rand, version int16) *kmsg.ProduceRequest {
	req := randomRequest(r, KeyProduce, version).(*kmsg.ProduceRequest)
	for i := range req.Topics {
		for j := range req.Topics[i].Partitions {
			p := &req.Topics[i].Partitions[j]
			switch r.IntN(5) {
			case 0:
				p.Records = nil
			case 1:
				p.Records = []byte{}
			case 2:
				p.Records = append(newBatch(r, 100), newBatch(r, 3)...)
			default:
				p.Records = newBatch(r, r.IntN(300<<10)>>r.IntN(18))
			}
		}
	}
	return req
}

// same compares a decoded request with kmsg's.
func same(t *testing.T, req *kmsg.ProduceRequest, p *Produce) {
	t.Helper()
	if p.Acks != req.Acks || p.TimeoutMillis != req.TimeoutMillis || !reflect.DeepEqual(p.TransactionalID, req.TransactionID) {
		t.Fatalf("v%d: %+v", req.Version, p)
	}
	k := 0
	for _, rt := range req.Topics {
		for _, rp := range rt.Partitions {
			got := &p.Parts[k]
			k++
			name := rt.Topic
			if req.Version > 12 {
				name = ""
			}
			if string(got.Topic) != name || req.Version > 12 && got.TopicID != rt.TopicID || got.Partition != rp.Partition {
				t.Fatalf("v%d: %+v for %s %d", req.Version, got, rt.Topic, rp.Partition)
			}
			if !bytes.Equal(got.Records, rp.Records) || (got.Records == nil) != (rp.Records == nil) {
				t.Fatalf("v%d: %d bytes of records (nil %v), want %d", req.Version, len(got.Records), got.Records == nil, len(rp.Records))
			}
			if got.BaseOffset != -1 || got.LogAppendTimeMs != -1 || got.LogStart != -1 || got.LeaderID != -1 || got.LeaderEpoch != -1 || got.ErrorCode != 0 {
				t.Fatalf("defaults: %+v", got)
			}
		}
	}
	if k != len(p.Parts) {
		t.Fatalf("%d parts, want %d", len(p.Parts), k)
	}
}

func TestProduceDecode(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	var d ProduceDecoder
	var p Produce
	for version := int16(3); version <= 13; version++ {
		for range 15 {
			req := randomProduce(r, version)
			wire := produceFrame(req)
			frame := make([]byte, len(wire))
			have := PrefixBytes + r.IntN(min(40, len(wire)-PrefixBytes))
			copy(frame, wire[:have])
			var src io.Reader = bytes.NewReader(wire[have:])
			if len(wire) < 1000 {
				src = iotest.OneByteReader(src)
			}
			h, err := d.Decode(src, frame, have, &p)
			if err != nil || h != (Header{KeyProduce, version, 42, "tester"}) {
				t.Fatalf("v%d: %+v %v", version, h, err)
			}
			same(t, req, &p)
			for i := range p.Parts {
				if want := len(p.Parts[i].Records) >= batchHeaderBytes; p.Parts[i].ChecksumOK != want {
					t.Fatalf("v%d part %d: checksum %v", version, i, !want)
				}
			}
			if !bytes.Equal(frame, wire) {
				t.Fatal("the frame was not filled")
			}
		}
	}
}

func TestProduceChecksum(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	good := newBatch(r, 400<<10)
	damage := func(at int, to byte) []byte {
		b := bytes.Clone(good)
		b[at] = to
		return b
	}
	for name, c := range map[string]struct {
		records []byte
		want    bool
	}{
		"right":                  {good, true},
		"last byte":              {damage(len(good)-1, good[len(good)-1]^1), false},
		"first byte it covers":   {damage(batchChecksummedAt, good[batchChecksummedAt]^1), false},
		"checksum itself":        {damage(batchCRCAt, good[batchCRCAt]^1), false},
		"base offset is outside": {damage(0, 7), true},
		"magic 1":                {damage(batchMagicAt, 1), false},
		"length beyond the end":  {damage(batchLengthAt, 1), false},
		"negative length":        {damage(batchLengthAt, 0xff), false},
		"too short":              {good[:60], false},
		"only the first counts":  {append(bytes.Clone(good), "rubbish"...), true},
	} {
		req := kmsg.NewPtrProduceRequest()
		req.Version = 9
		tp := kmsg.NewProduceRequestTopicPartition()
		tp.Records = c.records
		rt := kmsg.NewProduceRequestTopic()
		rt.Partitions = append(rt.Partitions, tp)
		req.Topics = append(req.Topics, rt)
		var p Produce
		if _, err := DecodeProduce(produceFrame(req), &p); err != nil || p.Parts[0].ChecksumOK != c.want {
			t.Errorf("%s: %v %v", name, err, p.Parts[0].ChecksumOK)
		}
		if !bytes.Equal(p.Parts[0].Records, c.records) {
			t.Errorf("%s: other bytes", name)
		}
	}
}

func TestProduceMalformed(t *testing.T) {
	head := "\x00\x00\x00\x09\x00\x00\x00\x01\xff\xff\x00" // v9, flexible
	body := "\x00\x00\x01\x00\x00\x00\x01"                 // no transaction, acks 1, timeout 1
	for name, frame := range map[string]string{
		"empty":                    head,
		"2 billion topics":         "\x00\x00\x00\x03\x00\x00\x00\x01\xff\xff\xff\xff\x00\x01\x00\x00\x00\x01\x7f\xff\xff\xff",
		"4 billion topics":         head + body + "\xff\xff\xff\xff\x0f",
		"records beyond the frame": head + body + "\x02\x02t\x02\x00\x00\x00\x00\xff\xff\xff\xff\x0f",
		"negative records":         "\x00\x00\x00\x03\x00\x00\x00\x01\xff\xff\xff\xff\x00\x01\x00\x00\x00\x01\x00\x00\x00\x01\x00\x01t\x00\x00\x00\x01\x00\x00\x00\x00\xff\xff\xff\xf0",
		"null topic":               head + body + "\x02\x00\x01\x00\x00",
		"varint of 6 bytes":        head + body + "\xff\xff\xff\xff\xff\x01",
		"varint over 32 bits":      head + body + "\xff\xff\xff\xff\x1f",
		"tag beyond the frame":     head + body + "\x01\x01\x00\x05",
		"client id beyond":         "\x00\x00\x00\x09\x00\x00\x00\x01\x7f\xff",
		"partitions without data":  head + body + "\x02\x02t" + "\xe9\x0f" + string(make([]byte, 2000*6)) + "\x00\x00",
	} {
		for _, oneByOne := range []bool{false, true} {
			var p Produce
			var d ProduceDecoder
			var err error
			if buf := []byte(frame); oneByOne {
				b := make([]byte, len(buf))
				copy(b, buf[:PrefixBytes])
				_, err = d.Decode(iotest.OneByteReader(bytes.NewReader(buf[PrefixBytes:])), b, PrefixBytes, &p)
			} else {
				_, err = DecodeProduce(buf, &p)
			}
			if !errors.Is(err, ErrMalformed) {
				t.Errorf("%s: %v", name, err)
			}
			if cap(p.Parts) > 4096 || cap(p.topics) > 4096 {
				t.Errorf("%s: room for %d parts", name, cap(p.Parts))
			}
		}
	}
}

func TestProduceDecodeReaderErrors(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	req := randomProduce(r, 9)
	for len(req.Topics) == 0 {
		req = randomProduce(r, 9)
	}
	wire := produceFrame(req)
	broken := errors.New("broken")
	for _, n := range []int{8, 9, 20, len(wire) / 2, len(wire) - 1} {
		var d ProduceDecoder
		var p Produce
		frame := make([]byte, len(wire))
		copy(frame, wire[:8])
		if _, err := d.Decode(bytes.NewReader(wire[8:n]), frame, 8, &p); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("end after %d: %v", n, err)
		}
		src := io.MultiReader(bytes.NewReader(wire[8:n]), iotest.ErrReader(broken))
		if _, err := d.Decode(src, frame, 8, &p); !errors.Is(err, broken) {
			t.Errorf("error after %d: %v", n, err)
		}
	}
}

// Bytes behind the request belong to the frame: the next request starts behind them.
func TestProduceDecodeReadsTheWholeFrame(t *testing.T) {
	req := kmsg.NewPtrProduceRequest()
	req.Version = 9
	wire := append(produceFrame(req), "trailing"...)
	src := bytes.NewReader(append(bytes.Clone(wire[8:]), "next"...))
	frame := make([]byte, len(wire))
	copy(frame, wire[:8])
	var d ProduceDecoder
	var p Produce
	if _, err := d.Decode(src, frame, 8, &p); err != nil || src.Len() > 4 {
		t.Errorf("%v, %d bytes left", err, src.Len())
	}
}

func TestProduceResponseIsKmsgs(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	for version := int16(3); version <= 13; version++ {
		for range 20 {
			var p Produce
			req := randomProduce(r, version)
			if _, err := DecodeProduce(produceFrame(req), &p); err != nil {
				t.Fatal(err)
			}
			want := req.ResponseKind().(*kmsg.ProduceResponse)
			answer(r, req, want, &p)
			got := AppendProduceResponse([]byte("before"), 99, &p)[6:]
			ref := want.AppendTo(AppendResponseHeader(nil, Header{KeyProduce, version, 99, ""}))
			FinishResponse(ref, 0, 0)
			if !bytes.Equal(got, ref) {
				t.Fatalf("v%d:\n% x\n% x", version, got, ref)
			}
		}
	}
}

// answer fills in the same random answers on both sides. kmsg omits a leader of −1, −1 and topics without partitions are left out.
func answer(r *rand.Rand, req *kmsg.ProduceRequest, want *kmsg.ProduceResponse, p *Produce) {
	str := func() (string, *string) {
		if r.IntN(2) == 0 {
			return "", nil
		}
		s := "it failed for some reason which is quite long, longer than a length of one byte holds, which is 127 bytes in the compact encoding of strings"[:1+r.IntN(120)]
		return s, &s
	}
	k := 0
	for _, rt := range req.Topics {
		if len(rt.Partitions) == 0 {
			continue
		}
		wt := kmsg.NewProduceResponseTopic()
		wt.Topic, wt.TopicID = rt.Topic, rt.TopicID
		for range rt.Partitions {
			g := &p.Parts[k]
			k++
			w := kmsg.NewProduceResponseTopicPartition()
			w.Partition = g.Partition
			if r.IntN(2) == 0 {
				g.ErrorCode, g.BaseOffset, g.LogAppendTimeMs, g.LogStart = int16(r.IntN(100)), r.Int64(), r.Int64(), r.Int64()
			}
			w.ErrorCode, w.BaseOffset, w.LogAppendTime, w.LogStartOffset = g.ErrorCode, g.BaseOffset, g.LogAppendTimeMs, g.LogStart
			g.ErrorMessage, w.ErrorMessage = str()
			for range r.IntN(3) {
				s, sp := str()
				g.RecordErrors = append(g.RecordErrors, RecordError{int32(k), s})
				w.ErrorRecords = append(w.ErrorRecords, kmsg.ProduceResponseTopicPartitionErrorRecord{RelativeOffset: int32(k), ErrorMessage: sp})
			}
			if r.IntN(3) == 0 && req.Version >= 10 {
				g.LeaderID, g.LeaderEpoch = int32(r.IntN(5))-1, int32(r.IntN(1000))
				w.CurrentLeader.LeaderID, w.CurrentLeader.LeaderEpoch = g.LeaderID, g.LeaderEpoch
			}
			wt.Partitions = append(wt.Partitions, w)
		}
		want.Topics = append(want.Topics, wt)
	}
	p.ThrottleMillis = int32(r.IntN(1000))
	want.ThrottleMillis = p.ThrottleMillis
	if req.Version >= 10 {
		for range r.IntN(4) {
			s, sp := str()
			p.NodeEndpoints = append(p.NodeEndpoints, NodeEndpoint{1, s, 9092, sp})
			want.Brokers = append(want.Brokers, kmsg.ProduceResponseBroker{NodeID: 1, Host: s, Port: 9092, Rack: sp})
		}
	}
}

func TestProduceReusedForgets(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 8))
	var p Produce
	for range 50 {
		req := randomProduce(r, 9)
		if _, err := DecodeProduce(produceFrame(req), &p); err != nil {
			t.Fatal(err)
		}
		same(t, req, &p)
		p.Fail(3)
		p.ThrottleMillis = 4
		for i := range p.Parts {
			p.Parts[i].RecordErrors = []RecordError{{}}
		}
	}
	p.Reset()
	if p.ThrottleMillis != 0 || len(p.Parts) != 0 {
		t.Errorf("%+v", p)
	}
	for _, x := range p.Parts[:cap(p.Parts)] {
		if x.Records != nil || x.RecordErrors != nil {
			t.Fatal("a reused part keeps memory alive")
		}
	}
}

func TestProducePathDoesNotAllocate(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 9))
	for _, version := range []int16{9, 13} {
		wire := benchFrame(r, version, 12, 64<<10)
		frame := make([]byte, len(wire))
		src := bytes.NewReader(nil)
		var d ProduceDecoder
		var p Produce
		var out []byte
		if n := testing.AllocsPerRun(20, func() {
			src.Reset(wire[8:])
			copy(frame, wire[:8])
			if _, err := d.Decode(src, frame, 8, &p); err != nil {
				t.Fatal(err)
			}
			out = AppendProduceResponse(out[:0], 1, &p)
		}); n != 0 {
			t.Errorf("v%d: %v allocations", version, n)
		}
	}
	runtime.KeepAlive(r)
}

func benchFrame(r *rand.Rand, version int16, partitions, bytesEach int) []byte {
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks = version, -1
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic, rt.TopicID = "bench-topic", [16]byte{1}
	for i := range partitions {
		tp := kmsg.NewProduceRequestTopicPartition()
		tp.Partition, tp.Records = int32(i), newBatch(r, bytesEach)
		rt.Partitions = append(rt.Partitions, tp)
	}
	req.Topics = append(req.Topics, rt)
	return produceFrame(req)
}

func FuzzProduceDecode(f *testing.F) {
	r := rand.New(rand.NewPCG(3, 3))
	for version := int16(3); version <= 13; version++ {
		f.Add(benchFrame(r, version, 2, 10))
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		if len(frame) < PrefixBytes {
			return
		}
		v := int16(binary.BigEndian.Uint16(frame[2:]))
		if v < 3 || v > 13 {
			return
		}
		var p, q Produce
		h, err := DecodeProduce(frame, &p)
		var d ProduceDecoder
		again := make([]byte, len(frame))
		copy(again, frame[:8])
		h2, err2 := d.Decode(iotest.HalfReader(bytes.NewReader(frame[8:])), again, 8, &q)
		if (err == nil) != (err2 == nil) || err == nil && (h != h2 || !reflect.DeepEqual(p, q)) {
			t.Fatalf("from memory: %v %+v\nfrom a reader: %v %+v", err, p, err2, q)
		}
		if err != nil {
			return
		}
		_, body, err := ParseHeader(append([]byte{0, 0}, frame[2:]...), "")
		if err != nil {
			t.Fatal(err)
		}
		req := kmsg.NewPtrProduceRequest()
		req.Version = v
		if err := req.ReadFrom(body); err != nil {
			t.Fatalf("kmsg refuses it: %v", err)
		}
		same(t, req, &p)
	})
}

func BenchmarkProduce(b *testing.B) {
	r := rand.New(rand.NewPCG(4, 4))
	for _, c := range []struct {
		name              string
		partitions, bytes int
	}{{"1x1MiB", 1, 1 << 20}, {"12x85KiB", 12, 85 << 10}, {"1x1KiB", 1, 1 << 10}, {"1000x1KiB", 1000, 1 << 10}} {
		b.Run(c.name, func(b *testing.B) {
			wire := benchFrame(r, 13, c.partitions, c.bytes)
			frame := make([]byte, len(wire))
			src := bytes.NewReader(nil)
			var d ProduceDecoder
			var p Produce
			var out []byte
			b.SetBytes(int64(len(wire)))
			b.ReportAllocs()
			for b.Loop() {
				src.Reset(wire[8:])
				copy(frame, wire[:8])
				if _, err := d.Decode(src, frame, 8, &p); err != nil {
					b.Fatal(err)
				}
				out = AppendProduceResponse(out[:0], 1, &p)
			}
		})
	}
}

// TestProduceFacts: records are walked while they arrive, with the same outcome as when they are all there.
func TestProduceFacts(t *testing.T) {
	const ms = 1_700_000_000_000
	var two batch.Builder
	for i := range 20_000 { // over two steps
		two.Add(ms+int64(i%100), []byte("k"), bytes.Repeat([]byte{byte(i)}, i%40))
	}
	two.Add(ms+7, nil, bytes.Repeat([]byte("v"), 2*StepBytes))
	lz4 := batch.Builder{Codec: batch.CodecLZ4}
	lz4.Add(ms, nil, []byte("v"))
	build := func(b *batch.Builder) []byte {
		out, err := b.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	good, compressed := build(&two), build(&lz4)
	damaged := bytes.Clone(good)
	damaged[len(good)/2] ^= 0xff
	walked := batch.Facts{Sound: true, NullKey: true, MinMs: ms, MaxMs: ms + 99}
	req := kmsg.NewPtrProduceRequest()
	req.Version = 9
	rt := kmsg.NewProduceRequestTopic()
	for _, records := range [][]byte{good, compressed, nil, append(bytes.Clone(good), "behind"...), damaged, good[:len(good)-1]} {
		tp := kmsg.NewProduceRequestTopicPartition()
		tp.Records = records
		rt.Partitions = append(rt.Partitions, tp)
	}
	req.Topics = append(req.Topics, rt)
	whole := produceFrame(req)
	for name, src := range map[string]func(io.Reader) io.Reader{
		"as it comes": func(r io.Reader) io.Reader { return r },
		"halves":      iotest.HalfReader,
		"bytes":       iotest.OneByteReader,
	} {
		var d ProduceDecoder
		var p Produce
		frame := make([]byte, len(whole))
		copy(frame, whole[:PrefixBytes])
		if _, err := d.Decode(src(bytes.NewReader(whole[PrefixBytes:])), frame, PrefixBytes, &p); err != nil {
			t.Fatal(err)
		}
		for i, want := range []batch.Facts{walked, {}, {}, walked} {
			if got := p.Parts[i].Facts; got.Sound != want.Sound || want.Sound && got != want {
				t.Errorf("%s, part %d: %+v, want %+v", name, i, got, want)
			}
		}
		if last := p.Parts[5]; last.Facts != (batch.Facts{}) || last.ChecksumOK {
			t.Errorf("%s: part of a batch: %+v", name, last.Facts)
		}
		if p.Parts[4].ChecksumOK {
			t.Errorf("%s: damage was not seen", name)
		}
	}
}
