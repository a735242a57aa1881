package cluster

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// Weather is how the object store behaves.
type Weather struct {
	Gone       bool          // connections are reset
	Refused    float64       // share of requests that are answered 503 at once
	AppliedBut float64       // share that the store carries out, and that are answered 503 all the same
	Slow       time.Duration // each request takes longer by up to twice this
}

// Store is an HTTP proxy before the object store. Its methods may be called concurrently.
type Store struct {
	weather atomic.Pointer[Weather]
	address string // HOST:PORT
	proxy   *httputil.ReverseProxy
	server  *http.Server
	mu      sync.Mutex
	rng     *rand.Rand

	Requests, Refused, Lost atomic.Int64 // for the report
}

// NewStore serves the listener for the store at the address given, until Close.
func NewStore(ln net.Listener, address string, seed uint64) *Store {
	s := &Store{rng: rand.New(rand.NewPCG(seed, 1))}
	s.weather.Store(&Weather{})
	target := &url.URL{Scheme: "http", Host: address}
	s.proxy = &httputil.ReverseProxy{
		Rewrite:      func(r *httputil.ProxyRequest) { r.SetURL(target); r.Out.Host = r.In.Host }, // the signature covers the host
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { unavailable(w) },
		Transport:    &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true},
	}
	s.server = &http.Server{Handler: s}
	go func() { _ = s.server.Serve(ln) }() // ends with Close
	return s
}

// Set changes the weather for requests that come from now on.
func (s *Store) Set(w Weather) { s.weather.Store(&w) }

// Close ends all connections.
func (s *Store) Close() error { return s.server.Close() }

func (s *Store) chance() float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rng.Float64()
}

// ServeHTTP is the proxy.
func (s *Store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.Requests.Add(1)
	weather := *s.weather.Load()
	if weather.Gone {
		panic(http.ErrAbortHandler) // resets the connection
	}
	if weather.Slow > 0 {
		ctx, cancel := context.WithTimeout(r.Context(), time.Duration(s.chance()*2*float64(weather.Slow)))
		<-ctx.Done()
		cancel()
		if r.Context().Err() != nil {
			panic(http.ErrAbortHandler)
		}
	}
	switch luck := s.chance(); {
	case luck < weather.Refused:
		s.Refused.Add(1)
		unavailable(w)
	case luck < weather.Refused+weather.AppliedBut:
		s.Lost.Add(1)
		s.proxy.ServeHTTP(&forgetful{header: http.Header{}}, r)
		unavailable(w)
	default:
		s.proxy.ServeHTTP(w, r)
	}
}

func unavailable(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(http.StatusServiceUnavailable)
	_, _ = w.Write([]byte(`<?xml version="1.0" encoding="UTF-8"?><Error><Code>SlowDown</Code><Message>please reduce your request rate</Message></Error>`))
}

// forgetful takes an answer and forgets it.
type forgetful struct{ header http.Header }

func (f *forgetful) Header() http.Header         { return f.header }
func (f *forgetful) Write(b []byte) (int, error) { return len(b), nil }
func (f *forgetful) WriteHeader(int)             {}

var errNotServing = errors.New("not serving yet")

// healthy asks a URL once.
func healthy(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return errNotServing
	}
	return nil
}
