package s3_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/tidemarkmq/tidemark/objectstore"
	"github.com/tidemarkmq/tidemark/objectstore/s3"
)

// BenchmarkPut puts 16 MiB objects into a server that discards them: what an upload costs on this side, and what reading it
// from the socket costs on the other.
func BenchmarkPut(b *testing.B) {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	b.Cleanup(server.Close)
	for _, checksum := range []s3.Checksum{s3.ChecksumCRC32C, s3.ChecksumMD5, s3.ChecksumNone} {
		b.Run(string(checksum), func(b *testing.B) {
			s, err := s3.New(s3.Options{Endpoint: server.URL, Bucket: bucket, Checksum: checksum,
				Credentials: s3.Credentials{AccessKey: "a", SecretKey: "s"}})
			if err != nil {
				b.Fatal(err)
			}
			body := bytes.NewReader(make([]byte, 16<<20))
			b.SetBytes(body.Size())
			b.ReportAllocs()
			for b.Loop() {
				if err := s.Put(b.Context(), "k", body, objectstore.PutOptions{IfAbsent: true, Nonce: "n"}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
