package wire

import "encoding/binary"

// PrefixBytes is how much of a request tells its key, version and correlation id: what a server needs to choose how to read the rest.
const PrefixBytes = 8

// MaxClientIDBytes bounds a client id; the field's own length allows no more.
const MaxClientIDBytes = 1<<15 - 1

// maxHeaderTags bounds the tagged fields of one header: Kafka defines none.
const maxHeaderTags = 1 << 10

// ParsePrefix reads key, version and correlation id from the first PrefixBytes of a request (after its length).
func ParsePrefix(b []byte) Header {
	_ = b[PrefixBytes-1]
	return Header{
		Key:           int16(binary.BigEndian.Uint16(b)),
		Version:       int16(binary.BigEndian.Uint16(b[2:])),
		CorrelationID: int32(binary.BigEndian.Uint32(b[4:])),
	}
}

// ParseHeader parses the header of a whole request (without its length) and returns the body. The header's own version follows from key
// and version, also where the version is not known: v0 (no client id) only for ControlledShutdown v0, v2 (tagged fields) for flexible
// requests, v1 otherwise. lastClientID is returned as the client id where it is the same, so that a connection allocates it once.
func ParseHeader(frame []byte, lastClientID string) (Header, []byte, error) {
	if len(frame) < PrefixBytes {
		return Header{}, nil, errShort
	}
	h := ParsePrefix(frame)
	if h.Key < 0 || h.Key > MaxKey {
		return h, nil, malformed("unknown API key %d", h.Key)
	}
	c := cursor{b: frame[PrefixBytes:]}
	if h.Key == 7 && h.Version == 0 {
		return h, c.b, nil
	}
	if n := c.length(false, false); n > 0 {
		h.ClientID = internString(c.span(n), lastClientID)
	}
	if flexible(h.Key, h.Version) {
		c.skipTags(maxHeaderTags)
	}
	return h, c.b, c.err
}

func internString(b []byte, last string) string {
	if string(b) == last {
		return last
	}
	return string(b)
}

// skipTags skips unknown tagged fields, at most max of them.
func (c *cursor) skipTags(max uint32) {
	n := c.uvarint()
	if n > max {
		c.fail(malformed("%d tagged fields", n))
		return
	}
	for ; n > 0 && c.err == nil; n-- {
		c.uvarint()
		c.span(int(c.uvarint()))
	}
}

// ResponseHeaderBytes is the most that AppendResponseHeader appends.
const ResponseHeaderBytes = 9

// AppendResponseHeader appends room for the length, the correlation id and, for flexible requests other than ApiVersions, an empty set of
// tagged fields. FinishResponse sets the length.
func AppendResponseHeader(dst []byte, h Header) []byte {
	dst = append(dst, 0, 0, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, uint32(h.CorrelationID))
	if h.Key != KeyApiVersions && flexible(h.Key, h.Version) {
		dst = append(dst, 0)
	}
	return dst
}

// FinishResponse sets the length of the response that starts at dst[at:], as if moreBytes followed dst.
func FinishResponse(dst []byte, at, moreBytes int) {
	binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at-4+moreBytes))
}

// AppendUnsupportedApiVersions appends the whole answer to an ApiVersions request of an unknown version: in v0, with error 35 and the
// range of ApiVersions itself (KIP-511), so that the client can come again.
func AppendUnsupportedApiVersions(dst []byte, correlationID int32) []byte {
	const unsupportedVersion = 35
	at := len(dst)
	a := apis[KeyApiVersions]
	dst = AppendResponseHeader(dst, Header{Key: KeyApiVersions, CorrelationID: correlationID})
	dst = binary.BigEndian.AppendUint16(dst, unsupportedVersion)
	dst = binary.BigEndian.AppendUint32(dst, 1)
	for _, v := range [...]int16{a.Key, a.Min, a.Max} {
		dst = binary.BigEndian.AppendUint16(dst, uint16(v))
	}
	FinishResponse(dst, at, 0)
	return dst
}

// ValidSoftware tells whether a client's software name or version is one that ApiVersions v3+ accepts: letters and digits, with dots and
// hyphens inside (KIP-511).
func ValidSoftware(s string) bool {
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case (c == '-' || c == '.') && i > 0 && i < len(s)-1:
		default:
			return false
		}
	}
	return s != ""
}
