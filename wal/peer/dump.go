package peer

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/tidemarkmq/tidemark/wal"
)

// Dump prints what one side of a connection has sent, from its hello on, one line a frame, until r ends. The bytes of bulks are not shown. An error
// says what is not as it must be.
func Dump(w io.Writer, r io.Reader) error {
	in := bufio.NewReader(r)
	b, err := readHello(in)
	if err != nil {
		return fmt.Errorf("hello: %w", err)
	}
	if h, err := parseHello(b); err == nil {
		fmt.Fprintf(w, "hello versions %d to %d, from broker %d disk %q of cluster %q, to broker %d disk %q\n", h.Lowest, h.Highest, h.From.Broker, h.From.Disk, h.From.Cluster, h.Broker, h.Disk)
	} else {
		a, err := parseWelcome(b)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "welcome version %d, from broker %d disk %q of cluster %q, window %d, calls %d, streams %d\n",
			a.Version, a.From.Broker, a.From.Disk, a.From.Cluster, a.Limits.Window, a.Limits.Calls, a.Limits.Streams)
		if a.Refusal != nil {
			fmt.Fprintf(w, "refused %d %q\n", a.Refusal.Code, a.Refusal.Text)
		}
	}
	for {
		var header [frameHeaderBytes]byte
		if _, err := io.ReadFull(in, header[:]); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		line, err := dumpFrame(header[:], in)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
}

func dumpFrame(header []byte, in io.Reader) (string, error) {
	h, err := parseFrameHeader(header)
	if err != nil {
		return "", err
	}
	b := make([]byte, h.Head+h.Bulk)
	if _, err := io.ReadFull(in, b); err != nil {
		return "", err
	}
	head, bulk := b[:h.Head], b[h.Head:]
	if err := errors.Join(checkHead(header, head), h.checkBulk(bulk)); err != nil {
		return "", err
	}
	text, err := describe(h.Kind, head)
	if err != nil {
		return "", err
	}
	line := fmt.Sprintf("%d %s%s", h.ID, layouts[h.Kind].name, text)
	if h.Bulk > 0 {
		line += fmt.Sprintf(" +%d bytes", h.Bulk)
	}
	return line, nil
}

// describe decodes a head of a length that fits its kind.
func describe(k kind, head []byte) (string, error) {
	switch k {
	case kindOpen:
		m, err := getOpen(head)
		return fmt.Sprintf(" stream %016x %s oldest %s create %v", m.Stream, headerText(m.Header), refText(m.Oldest), m.Create), err
	case kindAppend, kindChunk:
		seg, pos := getPlace(head)
		return fmt.Sprintf(" position %d %s", pos, refText(seg)), nil
	case kindFence, kindRemove:
		stream, epoch := getTwo(head)
		return fmt.Sprintf(" stream %016x epoch %d", stream, epoch), nil
	case kindRead:
		stream, from := getTwo(head)
		return fmt.Sprintf(" stream %016x from %d most %d", stream, from, le.Uint32(head[16:])), nil
	case kindTrim:
		stream, to := getTwo(head)
		return fmt.Sprintf(" stream %016x to %d", stream, to), nil
	case kindCall:
		return fmt.Sprintf(" %d", le.Uint16(head)), nil
	case kindTail:
		t, err := getTail(head)
		return fmt.Sprintf(" [%d, %d) promise %d %s", t.Start, t.End, t.Promise, headerText(t.Header)), err
	case kindAcked:
		held, bytes := getTwo(head)
		return fmt.Sprintf(" held %d after %d bytes", held, bytes), nil
	case kindEnded, kindFailed:
		e, err := getError(head)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf(" %d %q", e.Code, e.Text), nil
	}
	return "", nil
}

func headerText(h wal.StreamHeader) string {
	return fmt.Sprintf("{epoch %d nonce %016x owner %s segments %d}", h.Epoch, h.Nonce, hex.EncodeToString(h.Owner[:]), h.SegmentBytes)
}

func refText(s wal.SegmentRef) string {
	return fmt.Sprintf("{segment %d at %d of %d bytes}", s.Sequence, s.First, s.SizeBytes)
}
