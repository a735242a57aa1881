package batch

import (
	"errors"
	"fmt"
	"io"
	"math"
)

// stream goes over the records of a section that comes in pieces. A record within a piece is decoded as Walker does; one
// that crosses pieces field by field, and its key and value are only told to be there.
type stream struct {
	src      chunks
	codec    Codec
	cur      []byte // of the current piece, not read yet
	body     int64  // bytes left of the record that crosses pieces
	left     int    // bytes that src may still give
	maxBytes int
	maxWhole int  // bound of appendAll; 0: none but left
	final    bool // there is no larger Opener
}

var (
	errMalformed = errors.New("is malformed")
	errCutOff    = errors.New("is cut off")
)

// present stands for the bytes of a key or a value that was skipped.
var present = []byte{}

// fill gets the next piece. It returns io.EOF after the last one.
func (s *stream) fill() error {
	b, err := s.src.next()
	if err != nil {
		return s.wrap(err)
	}
	if s.left -= len(b); s.left < 0 {
		return fmt.Errorf("%w: over %d bytes", ErrInflated, s.maxBytes)
	}
	s.cur = b
	return nil
}

// wrap says that a decoder's error is about corrupt bytes.
func (s *stream) wrap(err error) error {
	switch {
	case err == io.EOF: //nolint:errorlint // an io.EOF that is wrapped is a decoder's complaint
		return err
	case errors.Is(err, ErrMemory) && !s.final:
		return ErrMemory
	case errors.Is(err, ErrMemory):
		return fmt.Errorf("%w: a block or window of over %d bytes", ErrInflated, LargeOpenerBytes)
	}
	return fmt.Errorf("%w: %s: %w", ErrCorrupt, s.codec, err)
}

// next decodes record i of count into rec. It returns false after the last one. Errors wrap ErrInvalid, or are fill's.
func (s *stream) next(i, count int32, rec *Record) (bool, error) {
	if i == count {
		if len(s.cur) == 0 {
			if err := s.fill(); err != nil {
				if err == io.EOF { //nolint:errorlint // fill wraps none
					err = nil
				}
				return false, err
			}
		}
		return false, fmt.Errorf("%w: bytes after the last of %d records", ErrInvalid, count)
	}
	if size, n := varint32(s.cur); n > 0 && size >= 0 && int(size) <= len(s.cur)-n {
		body := s.cur[n : n+int(size)]
		s.cur = s.cur[n+int(size):]
		if !decodeRecord(body, rec) {
			return false, fmt.Errorf("%w: record %d is malformed", ErrInvalid, i)
		}
		return true, nil
	}
	err := s.crossing(rec)
	if errors.Is(err, errMalformed) || errors.Is(err, errCutOff) {
		err = fmt.Errorf("%w: record %d %w", ErrInvalid, i, err)
	}
	return err == nil, err
}

// crossing decodes a record that may not be whole within the current piece.
func (s *stream) crossing(rec *Record) error {
	s.body = math.MaxInt64
	size, err := s.varint(5)
	if err != nil {
		return err
	}
	if size < 1 {
		return errMalformed
	}
	s.body = size
	if _, err = s.byte(); err != nil { // attributes: unused by v2
		return err
	}
	if rec.TimestampDeltaMs, err = s.varint(10); err != nil {
		return err
	}
	delta, err := s.varint(5)
	if err != nil {
		return err
	}
	if delta < 0 {
		return errMalformed
	}
	rec.OffsetDelta = int32(delta)
	if rec.Key, err = s.bytes(); err != nil {
		return err
	}
	if rec.Value, err = s.bytes(); err != nil {
		return err
	}
	count, err := s.varint(5)
	if err != nil {
		return err
	}
	if count < 0 || count > s.body {
		return errMalformed
	}
	rec.HeaderCount, rec.Headers = int32(count), nil
	for range count {
		key, err := s.bytes()
		if err == nil && key == nil {
			err = errMalformed
		}
		if err == nil {
			_, err = s.bytes()
		}
		if err != nil {
			return err
		}
	}
	if s.body != 0 {
		return errMalformed
	}
	return nil
}

func (s *stream) byte() (byte, error) {
	if s.body == 0 {
		return 0, errMalformed
	}
	if err := s.some(); err != nil {
		return 0, err
	}
	c := s.cur[0]
	s.cur = s.cur[1:]
	s.body--
	return c, nil
}

// some makes sure that the current piece has bytes.
func (s *stream) some() error {
	if len(s.cur) > 0 {
		return nil
	}
	err := s.fill()
	if err == io.EOF { //nolint:errorlint // fill wraps none
		return errCutOff
	}
	return err
}

// varint reads a zigzag varint of at most maxBytes bytes, 5 or 10.
func (s *stream) varint(maxBytes int) (int64, error) {
	var raw [10]byte
	for i := range maxBytes {
		c, err := s.byte()
		if err != nil {
			return 0, err
		}
		raw[i] = c
		if c >= 0x80 {
			continue
		}
		if maxBytes == 5 {
			v, n := varint32(raw[:i+1])
			if n <= 0 {
				return 0, errMalformed
			}
			return int64(v), nil
		}
		v, n := varint(raw[:i+1])
		if n <= 0 {
			return 0, errMalformed
		}
		return v, nil
	}
	return 0, errMalformed
}

// bytes skips a length-prefixed byte string: nil is null, present anything else.
func (s *stream) bytes() ([]byte, error) {
	size, err := s.varint(5)
	if err != nil || size < 0 {
		return nil, err
	}
	if size > s.body {
		return nil, errMalformed
	}
	s.body -= size
	for size > 0 {
		if err := s.some(); err != nil {
			return nil, err
		}
		n := min(size, int64(len(s.cur)))
		s.cur = s.cur[n:]
		size -= n
	}
	return present, nil
}

// appendAll appends the rest of the section to dst.
func (s *stream) appendAll(dst []byte) ([]byte, error) {
	for {
		if s.maxWhole > 0 && len(dst)+len(s.cur) > s.maxWhole {
			return nil, ErrMemory
		}
		dst = append(dst, s.cur...)
		s.cur = nil
		if err := s.fill(); err != nil {
			if err == io.EOF { //nolint:errorlint // fill wraps none
				return dst, nil
			}
			return nil, err
		}
	}
}
