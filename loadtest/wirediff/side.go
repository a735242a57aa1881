package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	answerWait  = 20 * time.Second
	answerLimit = 64 << 20
)

// errSilent says that the broker closed the connection instead of answering.
var errSilent = errors.New("closed the connection")

// side is one of the two brokers: the connections to it, and what it has named by itself (ids of topics, producers, members).
// A sequence of requests says a topic's or a member's short name; each side turns it into its own value, and back.
type side struct {
	name, address string
	ranges        map[int16][2]int16 // served versions by API key

	run       string // goes before the names of topics and groups, so that a sequence can be run again
	conns     map[int]net.Conn
	correlate int32

	topics    map[string][16]byte // ids by short names, learned when needed
	ids       map[[16]byte]string // short names and generations by ids
	producers map[string]producer
	names     map[string]string // what this side has named: member ids by short names
	sessions  map[string]int32  // fetch sessions by short names
}

// producer is what InitProducerId answered.
type producer struct {
	id    int64
	epoch int16
}

func newSide(name, address string) *side { return &side{name: name, address: address} }

// begin forgets everything, for a new run of a sequence.
func (s *side) begin(run string) {
	s.close()
	s.run, s.conns = run, map[int]net.Conn{}
	s.topics, s.ids = map[string][16]byte{}, map[[16]byte]string{}
	s.producers, s.names, s.sessions = map[string]producer{}, map[string]string{}, map[string]int32{}
}

func (s *side) close() {
	for _, c := range s.conns {
		_ = c.Close() // nothing is written to it any more
	}
	s.conns = nil
}

// full is the name at this run of a topic or group; short takes what full added out of any text.
func (s *side) full(short string) string {
	if short == "" || strings.HasPrefix(short, "!") { // said as it is: names that are not valid
		return strings.TrimPrefix(short, "!")
	}
	return s.run + short
}

func (s *side) short(text string) string { return strings.ReplaceAll(text, s.run, "") }

func (s *side) conn(n int) (net.Conn, error) {
	if c, ok := s.conns[n]; ok {
		return c, nil
	}
	c, err := net.DialTimeout("tcp", s.address, answerWait)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", s.name, err)
	}
	s.conns[n] = c
	return c, nil
}

// send writes a request to connection n.
func (s *side) send(n int, req kmsg.Request) error {
	c, err := s.conn(n)
	if err != nil {
		return err
	}
	s.correlate++
	raw := kmsg.NewRequestFormatter(kmsg.FormatterClientID("wirediff")).AppendRequest(nil, req, s.correlate)
	_, err = c.Write(raw)
	return err
}

// receive reads the answer to a request from connection n; errSilent if there is none.
func (s *side) receive(n int, req kmsg.Request) (kmsg.Response, error) {
	c, err := s.conn(n)
	if err != nil {
		return nil, err
	}
	body, err := readAnswer(c)
	if err != nil {
		_ = c.Close() // it is of no more use
		delete(s.conns, n)
		if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || strings.Contains(err.Error(), "reset by peer") {
			return nil, errSilent
		}
		return nil, err
	}
	resp := req.ResponseKind()
	body = body[4:]
	if resp.IsFlexible() && resp.Key() != 18 {
		if len(body) == 0 || body[0] != 0 {
			return nil, errors.New("answered with tags in the header")
		}
		body = body[1:]
	}
	if resp.Key() == 18 && len(body) > 1 && binary.BigEndian.Uint16(body) == 35 { // said in v0 whatever was asked
		resp.SetVersion(0)
	}
	if err := resp.ReadFrom(body); err != nil {
		return nil, fmt.Errorf("answered what cannot be decoded: %w", err)
	}
	return resp, nil
}

// quiet is how long nothing must happen on a connection for its broker to have taken a request that is not answered.
const quiet = 150 * time.Millisecond

// open tells whether the broker leaves a connection open that it does not answer on.
func (s *side) open(n int) bool {
	c, err := s.conn(n)
	if err != nil || c.SetReadDeadline(time.Now().Add(quiet)) != nil {
		return false
	}
	var timeout net.Error
	if _, err = c.Read(make([]byte, 1)); errors.As(err, &timeout) && timeout.Timeout() {
		return true
	}
	_ = c.Close() // it is of no more use
	delete(s.conns, n)
	return false
}

func readAnswer(c net.Conn) ([]byte, error) {
	if err := c.SetReadDeadline(time.Now().Add(answerWait)); err != nil {
		return nil, err
	}
	var head [4]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(head[:])
	if size < 4 || size > answerLimit {
		return nil, fmt.Errorf("answered %d bytes", size)
	}
	body := make([]byte, size)
	_, err := io.ReadFull(c, body)
	return body, err
}

// ask sends a request on a connection that sequences don't use, for what the comparison itself needs.
func (s *side) ask(req kmsg.Request) (kmsg.Response, error) {
	if err := s.send(-1, req); err != nil {
		return nil, err
	}
	return s.receive(-1, req)
}
