package objectstore

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func TestCheckKey(t *testing.T) {
	good := []string{"a", "a/b", "ab12/cluster=1/x-y_z.seg", "A,b@c~d!e(f)'g+h", "a.b/c..d", strings.Repeat("k", MaxPartBytes),
		strings.Repeat("0123456789/", 80) + "end"}
	for _, key := range good {
		if err := CheckKey(key); err != nil {
			t.Errorf("CheckKey(%q) = %v, want nil", key, err)
		}
		if err := CheckPrefix(key); err != nil {
			t.Errorf("CheckPrefix(%q) = %v, want nil", key, err)
		}
	}
	bad := []string{"", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/./b", ".hidden", "a/.hidden", "a b", "a\\b", "a\x00b", "ä",
		"a?b", "a#b", "a%2fb", "a:b", "a*b", strings.Repeat("k", MaxPartBytes+1), strings.Repeat("0123456789/", 100) + "e"}
	for _, key := range bad {
		if err := CheckKey(key); !errors.Is(err, ErrRejected) {
			t.Errorf("CheckKey(%q) = %v, want ErrRejected", key, err)
		}
	}
	for prefix, want := range map[string]bool{"": true, "a/": true, "a/b": true, "/": false, "a//": false, "../": false, "a/.": false} {
		if err := CheckPrefix(prefix); (err == nil) != want {
			t.Errorf("CheckPrefix(%q) = %v, want allowed %v", prefix, err, want)
		}
	}
}

func TestCheckPut(t *testing.T) {
	body := bytes.NewReader([]byte("x"))
	if err := CheckPut("k", body, PutOptions{Nonce: "A-z_0.9"}); err != nil {
		t.Errorf("good put: %v", err)
	}
	for name, err := range map[string]error{
		"key":        CheckPut("/k", body, PutOptions{}),
		"no body":    CheckPut("k", nil, PutOptions{}),
		"nonce":      CheckPut("k", body, PutOptions{Nonce: "a b"}),
		"newline":    CheckPut("k", body, PutOptions{Nonce: "a\r\nx-amz-acl: public"}),
		"long nonce": CheckPut("k", body, PutOptions{Nonce: strings.Repeat("n", MaxNonceBytes+1)}),
	} {
		if !errors.Is(err, ErrRejected) {
			t.Errorf("%s: %v, want ErrRejected", name, err)
		}
	}
}

func FuzzCheckKey(f *testing.F) {
	for _, seed := range []string{"a/b", "../x", "a//b", strings.Repeat("a", 1025), ".x", "\xff"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, key string) {
		if CheckKey(key) != nil {
			return
		}
		if len(key) == 0 || len(key) > MaxPrefixedKeyBytes {
			t.Fatalf("took a key of %d bytes", len(key))
		}
		for part := range strings.SplitSeq(key, "/") {
			if part == "" || part[0] == '.' || len(part) > MaxPartBytes {
				t.Fatalf("took the key %q with the part %q", key, part)
			}
		}
		for i := range len(key) + 1 {
			if err := CheckPrefix(key[:i]); err != nil {
				t.Fatalf("the beginning %q of the key %q is refused: %v", key[:i], key, err)
			}
		}
	})
}
