package s3

import (
	"context"
	"io"
	"net"
	"net/http"
	"time"
)

type streamKey struct{}

// withStream makes a put's body known to the transport.
func withStream(ctx context.Context, s *stream) context.Context {
	return context.WithValue(ctx, streamKey{}, s)
}

// straight takes off the readers that minio-go puts around a body that it sends as it is: net/http then hands our own to the
// connection.
type straight struct{ *http.Transport }

func (t straight) RoundTrip(req *http.Request) (*http.Response, error) {
	if s, ok := req.Context().Value(streamKey{}).(*stream); ok && req.Body != nil && req.ContentLength == s.body.size {
		req = req.WithContext(req.Context()) // a copy: the caller's is not to be changed
		req.Body = s
	}
	return t.Transport.RoundTrip(req)
}

// stallConn gives up a connection whose peer takes no bytes for too long. Reads need no such deadline: the response's head
// has a timeout, and the whole request has one.
type stallConn struct {
	net.Conn
	timeout time.Duration
}

func (c *stallConn) extend() error { return c.SetWriteDeadline(time.Now().Add(c.timeout)) }

func (c *stallConn) Write(p []byte) (int, error) {
	if err := c.extend(); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// ReadFrom is how net/http hands over what is left of a body after the write buffer's first filling. (TLS lies between the two and
// goes through Write.)
func (c *stallConn) ReadFrom(r io.Reader) (int64, error) {
	if limited, ok := r.(*io.LimitedReader); ok {
		if s, ok := limited.R.(*stream); ok {
			n, err := s.send(c, limited.N)
			limited.N -= n
			return n, err
		}
	}
	return io.Copy(struct{ io.Writer }{c}, r)
}
