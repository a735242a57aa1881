package peer

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"unicode/utf8"
)

const (
	helloMagic       = "TMPEER\r\n"
	helloPrefixBytes = 16
	maxHelloBytes    = 2048 // after the prefix
)

// hello is what the client says first.
type hello struct {
	Lowest, Highest uint16 // versions that it speaks
	From            Identity
	Broker          int32 // whom it wants
	Disk            string
}

// welcome is the server's answer.
type welcome struct {
	Version uint16       // 0: refused
	Refusal *RemoteError // why
	From    Identity
	Limits  limits
}

// limits are what a client must keep to.
type limits struct {
	Window  uint32 // bytes of a stream that are not acked, unless one append alone is longer
	Calls   uint16 // requests at once
	Streams uint16 // open at once
}

func putHelloPrefix(x, y uint16) []byte {
	b := le.AppendUint16([]byte(helloMagic), x)
	return append(le.AppendUint16(b, y), 0, 0, 0, 0)
}

// sealHello fills in the length and appends the CRC of all.
func sealHello(b []byte) []byte {
	le.PutUint32(b[12:], uint32(len(b)+4-helloPrefixBytes))
	return le.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func putIdentity(b []byte, id Identity) []byte {
	return putName(putName(le.AppendUint32(b, uint32(id.Broker)), id.Cluster), id.Disk)
}

func putName(b []byte, s string) []byte { return append(append(b, byte(len(s))), s...) }

func (h hello) put() []byte {
	b := putIdentity(putHelloPrefix(h.Lowest, h.Highest), h.From)
	return sealHello(putName(le.AppendUint32(b, uint32(h.Broker)), h.Disk))
}

func (w welcome) put() []byte {
	refusal := w.Refusal
	if refusal == nil {
		refusal = &RemoteError{}
	}
	b := putIdentity(putHelloPrefix(w.Version, refusal.Code), w.From)
	b = le.AppendUint32(b, w.Limits.Window)
	b = le.AppendUint16(le.AppendUint16(b, w.Limits.Calls), w.Limits.Streams)
	return sealHello(append(le.AppendUint16(b, uint16(len(refusal.Text))), refusal.Text...))
}

// helloReader takes fields off a hello; after an error all are empty.
type helloReader struct {
	b   []byte
	err error
}

func (r *helloReader) take(n int) []byte {
	if r.err == nil && len(r.b) < n {
		r.err = fmt.Errorf("%w: hello ends early", ErrProtocol)
	}
	if r.err != nil {
		return make([]byte, n)
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *helloReader) name(what string) string {
	b := r.take(int(r.take(1)[0]))
	if r.err == nil && (len(b) == 0 || len(b) > MaxNameBytes || !utf8.Valid(b)) {
		r.err = fmt.Errorf("%w: hello with %s %.200q", ErrProtocol, what, b)
	}
	return string(b)
}

func (r *helloReader) broker() int32 {
	n := int32(le.Uint32(r.take(4)))
	if r.err == nil && n < 0 {
		r.err = fmt.Errorf("%w: hello of broker %d", ErrProtocol, n)
	}
	return n
}

func (r *helloReader) identity() Identity {
	return Identity{Broker: r.broker(), Cluster: r.name("cluster"), Disk: r.name("disk")}
}

// errNoPeer says that whoever is there does not even begin as this protocol does.
var errNoPeer = fmt.Errorf("%w: no hello", ErrProtocol)

// openHello checks what all versions have in common and returns the two numbers and the fields. What a later version adds comes last.
func openHello(b []byte) (x, y uint16, r *helloReader, err error) {
	if len(b) < helloPrefixBytes+4 || string(b[:8]) != helloMagic || int64(le.Uint32(b[12:])) != int64(len(b)-helloPrefixBytes) {
		return 0, 0, nil, errNoPeer
	}
	body, crc := b[:len(b)-4], le.Uint32(b[len(b)-4:])
	if crc32.Checksum(body, castagnoli) != crc {
		return 0, 0, nil, fmt.Errorf("%w: CRC mismatch of a hello", ErrProtocol)
	}
	return le.Uint16(b[8:]), le.Uint16(b[10:]), &helloReader{b: body[helloPrefixBytes:]}, nil
}

func parseHello(b []byte) (h hello, err error) {
	var r *helloReader
	if h.Lowest, h.Highest, r, err = openHello(b); err != nil {
		return h, err
	}
	h.From, h.Broker, h.Disk = r.identity(), r.broker(), r.name("disk")
	if r.err == nil && (h.Lowest == 0 || h.Highest < h.Lowest) {
		r.err = fmt.Errorf("%w: hello with versions %d to %d", ErrProtocol, h.Lowest, h.Highest)
	}
	return h, r.err
}

func parseWelcome(b []byte) (w welcome, err error) {
	var r *helloReader
	var code uint16
	if w.Version, code, r, err = openHello(b); err != nil {
		return w, err
	}
	w.From = r.identity()
	w.Limits = limits{Window: le.Uint32(r.take(4)), Calls: le.Uint16(r.take(2)), Streams: le.Uint16(r.take(2))}
	text := r.take(int(le.Uint16(r.take(2))))
	switch {
	case r.err != nil:
	case len(text) > maxMessageBytes || !utf8.Valid(text):
		r.err = fmt.Errorf("%w: a refusal of %d bytes", ErrProtocol, len(text))
	case w.Version == 0:
		w.Refusal = &RemoteError{Code: code, Text: string(text)}
	case w.Limits.Window < blockBytes || w.Limits.Calls == 0 || w.Limits.Streams == 0:
		r.err = fmt.Errorf("%w: limits %+v", ErrProtocol, w.Limits)
	}
	return w, r.err
}

// readHello reads either of the two.
func readHello(r io.Reader) ([]byte, error) {
	b := make([]byte, helloPrefixBytes, helloPrefixBytes+256)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, err
	}
	n := le.Uint32(b[12:])
	if string(b[:8]) != helloMagic || n < 4 || n > maxHelloBytes {
		return nil, errNoPeer
	}
	b = append(b, make([]byte, n)...)
	if _, err := io.ReadFull(r, b[helloPrefixBytes:]); err != nil {
		return nil, err
	}
	return b, nil
}

// judge is the server's: it says which version to speak, or why not at all.
func (h hello) judge(self Identity) (version uint16, err error) {
	switch {
	case h.Lowest > protocolVersion || h.Highest < protocolVersion:
		return 0, refused(ErrWrongVersion, "the client speaks %d to %d, the server %d", h.Lowest, h.Highest, protocolVersion)
	case h.From.Cluster != self.Cluster:
		return 0, refused(ErrWrongCluster, "the client is of cluster %q, the server of %q", h.From.Cluster, self.Cluster)
	case h.Broker != self.Broker:
		return 0, refused(ErrWrongBroker, "broker %d is wanted, this is %d", h.Broker, self.Broker)
	case h.Disk != self.Disk:
		return 0, refused(ErrWrongDisk, "disk %q of broker %d is wanted, it has %q", h.Disk, self.Broker, self.Disk)
	}
	return protocolVersion, nil
}

// judge is the client's: a server that says yes must be the wanted one as well.
func (w welcome) judge(h hello) error {
	if w.Refusal != nil {
		if errors.Is(w.Refusal, ErrRefused) {
			return w.Refusal
		}
		return fmt.Errorf("%w: %w", ErrRefused, w.Refusal)
	}
	switch {
	case w.Version < h.Lowest || w.Version > h.Highest:
		return refused(ErrWrongVersion, "the server speaks %d, the client %d to %d", w.Version, h.Lowest, h.Highest)
	case w.From.Cluster != h.From.Cluster:
		return refused(ErrWrongCluster, "the server is of cluster %q, the client of %q", w.From.Cluster, h.From.Cluster)
	case w.From.Broker != h.Broker:
		return refused(ErrWrongBroker, "broker %d is wanted, this is %d", h.Broker, w.From.Broker)
	case w.From.Disk != h.Disk:
		return refused(ErrWrongDisk, "disk %q of broker %d is wanted, it has %q", h.Disk, h.Broker, w.From.Disk)
	}
	return nil
}
