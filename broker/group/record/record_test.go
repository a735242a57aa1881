package record

import (
	"bytes"
	"errors"
	"testing"
)

func TestSealAndOpen(t *testing.T) {
	for name, body := range map[string][]byte{"empty": {}, "short": []byte("abc"), "repetitive": bytes.Repeat([]byte("topic-"), 10_000)} {
		b := Seal(Consumer, body)
		if kind, err := KindOf(b); kind != Consumer || err != nil {
			t.Errorf("%s: kind %d, %v", name, kind, err)
		}
		if got, err := Open(Consumer, b); err != nil || !bytes.Equal(got, body) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		if _, err := Open(Classic, b); err == nil || errors.Is(err, ErrUnknown) {
			t.Errorf("%s: opened as another kind: %v", name, err)
		}
		if name == "repetitive" && len(b) > len(body)/10 {
			t.Errorf("%d bytes became %d", len(body), len(b))
		}
	}
}

func TestLaterProgramsAreToldFromDamage(t *testing.T) {
	for name, b := range map[string][]byte{
		"kind":    seal(99, codecNone, []byte("x")),
		"codec":   seal(Classic, 7, []byte("x")),
		"version": append([]byte(magic), 2, 1, 0, 0, 0, 0, 0),
	} {
		if _, err := KindOf(b); !errors.Is(err, ErrUnknown) {
			t.Errorf("%s: %v", name, err)
		}
		if _, _, err := Writer(b); !errors.Is(err, ErrUnknown) {
			t.Errorf("writer, %s: %v", name, err)
		}
	}
	good := Seal(Classic, []byte{2, 3, 4})
	if incarnation, sequence, err := Writer(good); incarnation != 1 || sequence != 3 || err != nil {
		t.Errorf("written by %d, %d, %v", incarnation, sequence, err)
	}
	good[len(good)-1] ^= 1
	if _, err := KindOf(good); err == nil || errors.Is(err, ErrUnknown) {
		t.Errorf("a flipped bit: %v", err)
	}
}

func FuzzOpen(f *testing.F) {
	f.Add([]byte("body"), byte(codecNone))
	f.Add(Seal(Classic, bytes.Repeat([]byte("a"), 4096))[headerBytes:], byte(codecS2))
	f.Fuzz(func(t *testing.T, stored []byte, codec byte) {
		body, err := Open(Classic, seal(Classic, codec, stored))
		if err != nil {
			return
		}
		if again, err := Open(Classic, Seal(Classic, body)); err != nil || !bytes.Equal(again, body) {
			t.Fatalf("%x became %x, %v", body, again, err)
		}
		r := Reader{B: body}
		for r.Err == nil && len(r.B) > 0 {
			r.Bytes()
			r.Nullable()
			r.Int32()
		}
		if r.End() == nil && len(r.B) > 0 {
			t.Fatal("an end before the end")
		}
	})
}
