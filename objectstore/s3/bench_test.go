//go:build unix

package s3_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tidemarkmq/tidemark/objectstore"
	"github.com/tidemarkmq/tidemark/objectstore/s3"
)

// sinkVariable makes this test binary the server of the benchmarks: in a process of its own, so that its CPU time is not ours.
const sinkVariable = "TIDEMARK_TEST_S3_SINK"

func TestMain(m *testing.M) {
	if os.Getenv(sinkVariable) == "" {
		os.Exit(m.Run())
	}
	if err := sink(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// sink discards what is put and answers gets with zeros, until its standard input ends.
func sink() error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: http.HandlerFunc(sinkRequest), ReadHeaderTimeout: time.Minute}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		server.Close()
	}()
	fmt.Println(listener.Addr())
	if err := server.Serve(listener); err != http.ErrServerClosed {
		return err
	}
	return nil
}

var zeros [1 << 20]byte

func sinkRequest(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPut {
		_, _ = io.CopyBuffer(struct{ io.Writer }{io.Discard}, r.Body, make([]byte, 1<<20))
		return
	}
	first, last, _ := strings.Cut(strings.TrimPrefix(r.Header.Get("Range"), "bytes="), "-")
	from, err := strconv.ParseInt(first, 10, 64)
	to, err2 := strconv.ParseInt(last, 10, 64)
	if err != nil || err2 != nil || to < from {
		http.Error(w, "no range", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to, int64(1)<<40))
	w.Header().Set("Content-Length", strconv.FormatInt(to+1-from, 10))
	w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
	w.WriteHeader(http.StatusPartialContent)
	for left := to + 1 - from; left > 0; {
		n, err := w.Write(zeros[:min(left, int64(len(zeros)))])
		if err != nil {
			return
		}
		left -= int64(n)
	}
}

// startSink returns the URL of a sink, which ends with the benchmark.
func startSink(b testing.TB) (url string) {
	exe, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), sinkVariable+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		in.Close()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	return "http://" + strings.TrimSpace(line)
}

func cpuTime(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func newBenchStore(b testing.TB, opts s3.Options) *s3.Store {
	opts.Bucket, opts.Credentials = bucket, s3.Credentials{AccessKey: "a", SecretKey: "s"}
	s, err := s3.New(opts)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	return s
}

// measure runs f, which transfers so many bytes, and reports this process's CPU time for each GB.
func measure(b *testing.B, sizeBytes int64, f func() error) {
	b.SetBytes(sizeBytes)
	b.ReportAllocs()
	before := cpuTime(b)
	for b.Loop() {
		if err := f(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric((cpuTime(b)-before).Seconds()*1e9/float64(sizeBytes)/float64(b.N), "cpu-s/GB")
}

// TestMemory bounds what a put of 32 MiB and a read of 8 MiB allocate beside the caller's own memory. (A quarter of it without the race detector.)
func TestMemory(t *testing.T) {
	s, body := newBenchStore(t, s3.Options{Endpoint: startSink(t)}), newSummed(32)
	p := make([]byte, 8<<20)
	put := func(body objectstore.Body) func() error {
		return func() error {
			return s.Put(t.Context(), "k", body, objectstore.PutOptions{IfAbsent: true, Nonce: "n"})
		}
	}
	for _, test := range []struct {
		name       string
		call       func() error
		boundBytes uint64
	}{
		{"put, checksum known", put(body), 128 << 10},
		{"put, in memory", put(body.inMemory), 128 << 10},
		{"put, checksum as a trailer", put(io.NewSectionReader(body, 0, body.Size())), 2 << 20},
		{"get", func() error {
			_, err := s.GetRange(t.Context(), "k", p, 0)
			return err
		}, 64 << 10},
	} {
		const runs = 8
		var before, after runtime.MemStats
		for i := range runs + 1 {
			if i == 1 { // the first one opened the connection and filled the pools
				runtime.ReadMemStats(&before)
			}
			if err := test.call(); err != nil {
				t.Fatalf("%s: %v", test.name, err)
			}
		}
		runtime.ReadMemStats(&after)
		if got := (after.TotalAlloc - before.TotalAlloc) / runs; got > test.boundBytes {
			t.Errorf("%s: %d bytes are allocated, more than %d", test.name, got, test.boundBytes)
		}
	}
}

// BenchmarkPut puts objects of 32 MiB: what an upload costs on this side.
func BenchmarkPut(b *testing.B) {
	url := startSink(b)
	body := newSummed(32)
	for _, test := range []struct {
		name     string
		body     objectstore.Body
		checksum s3.Checksum
	}{
		{"summed", body, s3.ChecksumCRC32C},
		{"memory", body.inMemory, s3.ChecksumCRC32C},
		{"memory-none", body.inMemory, s3.ChecksumNone},
		{"reader", io.NewSectionReader(body, 0, body.Size()), s3.ChecksumCRC32C},
		{"memory-md5", body.inMemory, s3.ChecksumMD5},
	} {
		b.Run(test.name, func(b *testing.B) {
			s := newBenchStore(b, s3.Options{Endpoint: url, Checksum: test.checksum})
			measure(b, body.Size(), func() error {
				return s.Put(b.Context(), "k", test.body, objectstore.PutOptions{IfAbsent: true, Nonce: "n"})
			})
		})
	}
}

// BenchmarkGetRange reads ranges as large as the cold lane's.
func BenchmarkGetRange(b *testing.B) {
	url := startSink(b)
	for _, size := range []int{1 << 20, 8 << 20} {
		b.Run(strconv.Itoa(size>>20)+"MiB", func(b *testing.B) {
			s, p := newBenchStore(b, s3.Options{Endpoint: url}), make([]byte, size)
			measure(b, int64(size), func() error {
				_, err := s.GetRange(b.Context(), "k", p, 1<<30)
				return err
			})
		})
	}
}

// BenchmarkServer puts and reads at the server that TIDEMARK_TEST_S3_ENDPOINT names.
func BenchmarkServer(b *testing.B) {
	s := realServer(b, s3.ChecksumCRC32C)
	body := newSummed(32)
	for name, body := range map[string]objectstore.Body{"put": body, "put-memory": body.inMemory, "put-reader": io.NewSectionReader(body, 0, body.Size())} {
		b.Run(name, func(b *testing.B) {
			n := 0
			measure(b, body.Size(), func() error {
				n++
				return s.Put(b.Context(), fmt.Sprintf("bench/%d", n%8), body, objectstore.PutOptions{Nonce: "n"})
			})
		})
	}
	b.Run("get", func(b *testing.B) {
		if err := s.Put(b.Context(), "bench/0", body, objectstore.PutOptions{}); err != nil {
			b.Fatal(err)
		}
		n, p := int64(0), make([]byte, 8<<20)
		measure(b, int64(len(p)), func() error {
			n++
			_, err := s.GetRange(b.Context(), "bench/0", p, n%4<<23)
			return err
		})
	})
	for n := range 8 {
		if err := s.Delete(b.Context(), fmt.Sprintf("bench/%d", n)); err != nil {
			b.Fatal(err)
		}
	}
}
