package record

import (
	"encoding/binary"
	"errors"
)

// AppendBytes appends a length and the bytes.
func AppendBytes[T string | []byte](b []byte, v T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(v))), v...)
}

// AppendNullable stores length + 1, so that 0 is null.
func AppendNullable(b []byte, v *string) []byte {
	if v == nil {
		return append(b, 0)
	}
	return append(binary.AppendUvarint(b, uint64(len(*v))+1), *v...)
}

// Reader takes fields off b until one is bad; then all further fields are zero.
type Reader struct {
	B   []byte // what is left
	Err error
}

var errTruncated = errors.New("truncated or malformed")

// Fail gives up the rest.
func (r *Reader) Fail() { r.B, r.Err = nil, errTruncated }

// Uvarint reads a LEB128 number.
func (r *Reader) Uvarint() uint64 {
	v, n := binary.Uvarint(r.B)
	if n <= 0 {
		r.Fail()
		return 0
	}
	r.B = r.B[n:]
	return v
}

// Varint reads a zigzag number.
func (r *Reader) Varint() int64 {
	v, n := binary.Varint(r.B)
	if n <= 0 {
		r.Fail()
		return 0
	}
	r.B = r.B[n:]
	return v
}

// Int32 reads a zigzag number of 32 bits.
func (r *Reader) Int32() int32 {
	v := r.Varint()
	if int64(int32(v)) != v {
		r.Fail()
		return 0
	}
	return int32(v)
}

// Take reads so many bytes; they alias B.
func (r *Reader) Take(n uint64) []byte {
	if n > uint64(len(r.B)) {
		r.Fail()
		return nil
	}
	v := r.B[:n:n]
	r.B = r.B[n:]
	return v
}

// Bytes reads what AppendBytes wrote; the bytes alias B.
func (r *Reader) Bytes() []byte { return r.Take(r.Uvarint()) }

// Count reads a number of elements that take at least so many bytes each.
func (r *Reader) Count(leastBytes int) int {
	n := r.Uvarint()
	if n > uint64(len(r.B)/leastBytes) {
		r.Fail()
		return 0
	}
	return int(n)
}

// Nullable reads what AppendNullable wrote.
func (r *Reader) Nullable() *string {
	n := r.Uvarint()
	if n == 0 {
		return nil
	}
	v := string(r.Take(n - 1))
	return &v
}

// End is the first error of the fields, or one about bytes that are left.
func (r *Reader) End() error {
	if r.Err == nil && len(r.B) != 0 {
		return errors.New("bytes after the end")
	}
	return r.Err
}
