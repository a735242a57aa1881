package directory

import (
	"bytes"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/tidemarkmq/tidemark/objectstore"
)

// openForDirect returns a store in a new folder with an object of size bytes, and its content.
func openForDirect(t *testing.T, size int) (*Store, []byte) {
	t.Helper()
	s, err := New(Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	data := make([]byte, size)
	for i, r := 0, rand.New(rand.NewPCG(1, 2)); i < len(data); i++ {
		data[i] = byte(r.Uint32())
	}
	if err := s.Put(t.Context(), "o", bytes.NewReader(data), objectstore.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	return s, data
}

// TestDirectReadsThatTheFileSystemRefuses: what cannot be read directly after all, from the first read on or later, is read in the
// ordinary way.
func TestDirectReadsThatTheFileSystemRefuses(t *testing.T) {
	const size = 5<<20 + 777
	for name, pread := range map[string]func(fd int, p []byte, offset int64) (int, error){
		"blocks of 64 KiB": func(fd int, p []byte, offset int64) (int, error) {
			if (len(p)|int(offset))&(64<<10-1) != 0 {
				return 0, unix.EINVAL
			}
			return unix.Pread(fd, p, offset)
		},
		"short reads": func(fd int, p []byte, offset int64) (int, error) {
			return unix.Pread(fd, p[:min(len(p), 100_000)], offset)
		},
		"short and whole blocks": func(fd int, p []byte, offset int64) (int, error) {
			return unix.Pread(fd, p[:min(len(p), 96<<10)], offset)
		},
		"nothing": func(int, []byte, int64) (int, error) { return 0, nil },
		"signals": func() func(fd int, p []byte, offset int64) (int, error) {
			n := 0
			return func(fd int, p []byte, offset int64) (int, error) {
				if n++; n%2 == 1 {
					return -1, unix.EINTR
				}
				return unix.Pread(fd, p, offset)
			}
		}(),
	} {
		s, data := openForDirect(t, size)
		called := 0
		s.calls.pread = func(fd int, p []byte, offset int64) (int, error) {
			called++
			return pread(fd, p, offset)
		}
		for _, r := range []struct{ offset, length int }{{0, 5<<20 + 4096}, {4096, 4<<20 + 4096}, {4096, 1 << 20}, {1 << 20, 8 << 20}} {
			mem := make([]byte, r.length+alignBytes)
			skip := -int(uintptr(unsafe.Pointer(&mem[0]))) & (alignBytes - 1)
			p := mem[skip : skip+r.length]
			want := data[r.offset:min(size, r.offset+r.length)]
			wantErr := error(nil)
			if len(want) < len(p) {
				wantErr = io.EOF
			}
			n, err := s.GetRange(t.Context(), "o", p, int64(r.offset))
			if err != wantErr || !bytes.Equal(p[:n], want) {
				t.Errorf("%s: GetRange(%d bytes at %d) = %d, %v; want %d, %v, or wrong bytes", name, r.length, r.offset, n, err, len(want), wantErr)
			}
		}
		if called == 0 {
			t.Skip("the file system takes no direct reads")
		}
	}
}

// TestDirectWritesThatTheFileSystemRefuses: what cannot be written directly after all, from the first write on or later, is written in
// the ordinary way.
func TestDirectWritesThatTheFileSystemRefuses(t *testing.T) {
	const size = 5<<20 + 777
	for name, pwrite := range map[string]func(fd int, p []byte, offset int64) (int, error){
		"blocks of 64 KiB": func(fd int, p []byte, offset int64) (int, error) {
			if (len(p)|int(offset))&(64<<10-1) != 0 {
				return 0, unix.EINVAL
			}
			return unix.Pwrite(fd, p, offset)
		},
		"short writes": func(fd int, p []byte, offset int64) (int, error) {
			return unix.Pwrite(fd, p[:min(len(p), 12<<10)], offset)
		},
		"odd writes": func(fd int, p []byte, offset int64) (int, error) {
			n, err := unix.Pwrite(fd, p, offset)
			return n - 512, err
		},
		"signals": func() func(fd int, p []byte, offset int64) (int, error) {
			n := 0
			return func(fd int, p []byte, offset int64) (int, error) {
				if n++; n%2 == 1 {
					return -1, unix.EINTR
				}
				return unix.Pwrite(fd, p, offset)
			}
		}(),
	} {
		s, data := openForDirect(t, size)
		called := 0
		var mu sync.Mutex
		s.calls.pwrite = func(fd int, p []byte, offset int64) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			called++
			return pwrite(fd, p, offset)
		}
		if err := s.Put(t.Context(), "o", bytes.NewReader(data), objectstore.PutOptions{}); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if called == 0 {
			t.Skip("the file system takes no direct writes")
		}
		got := make([]byte, size+1)
		if n, err := s.GetRange(t.Context(), "o", got, 0); err != io.EOF || !bytes.Equal(got[:n], data) {
			t.Errorf("%s: %d bytes, %v, or wrong bytes", name, n, err)
		}
	}
}
