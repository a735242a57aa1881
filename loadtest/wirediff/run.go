package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// between is how long the second of two requests that are under way together waits, so that they arrive in order.
const between = 60 * time.Millisecond

// sources are all requests that are drawn.
func sources() []source {
	return slices.Concat(topicSources(), produceSources(), readSources(), adminSources())
}

// draw makes the sequence of a seed.
func draw(seed uint64, steps int, versions map[int16][2]int16, only string) []step {
	p := &plan{Rand: rand.New(rand.NewPCG(seed, 1)), versions: versions, now: time.Now().UnixMilli()}
	var all []source
	total := 0
	for _, s := range sources() {
		if only == "" || s.name == only || s.name == "CreateTopics" {
			all = append(all, s)
			total += s.weight
		}
	}
	var out []step
	for len(out) < steps {
		n := p.IntN(total)
		for _, s := range all {
			if n -= s.weight; n < 0 {
				out = append(out, s.draw(p))
				break
			}
		}
	}
	return out
}

// learnVersions asks a side what it serves.
func learnVersions(s *side) error {
	s.begin("")
	req := kmsg.NewPtrApiVersionsRequest()
	req.Version, req.ClientSoftwareName, req.ClientSoftwareVersion = 3, "wirediff", "1"
	resp, err := s.ask(req)
	if err != nil {
		return fmt.Errorf("ask %s for its versions: %w", s.name, err)
	}
	s.ranges = map[int16][2]int16{}
	for _, k := range resp.(*kmsg.ApiVersionsResponse).ApiKeys {
		s.ranges[k.ApiKey] = [2]int16{k.MinVersion, k.MaxVersion}
	}
	return nil
}

// common are the versions that both serve and kmsg knows.
func common(a, b *side) map[int16][2]int16 {
	out := map[int16][2]int16{}
	for key, r := range a.ranges {
		o, ok := b.ranges[key]
		if !ok {
			continue
		}
		lo, hi := max(r[0], o[0]), min(r[1], o[1])
		if key == 0 {
			lo = max(lo, 3) // those below are only said
		}
		if req := kmsg.RequestForKey(key); req != nil && lo <= hi {
			out[key] = [2]int16{lo, min(hi, req.MaxVersion())}
		}
	}
	return out
}

// answer is what became of one call.
type answer struct {
	api      string
	fields   []field
	problem  string // instead of fields
	request  kmsg.Request
	response kmsg.Response
}

// play runs one step on one side.
func (s *side) play(st step) []answer {
	out := make([]answer, len(st.calls))
	if st.oneByOne {
		for i, c := range st.calls {
			out[i] = s.begun(c)
			s.finish(c, &out[i])
		}
	} else {
		for i, c := range st.calls {
			if i > 0 {
				time.Sleep(between)
			}
			out[i] = s.begun(c)
		}
		for i := len(st.calls) - 1; i >= 0; i-- {
			s.finish(st.calls[i], &out[i])
		}
	}
	for i := range out {
		if out[i].response != nil {
			out[i].fields = flatten(s, out[i].api, out[i].response)
		}
	}
	return out
}

// begun sends the request of a call.
func (s *side) begun(c call) answer {
	a := answer{request: c.make(s)}
	a.api = kmsg.NameForKey(a.request.Key())
	if err := s.send(c.conn, a.request); err != nil {
		a.problem = s.short(err.Error())
	}
	return a
}

// finish reads the answer to a call.
func (s *side) finish(c call, a *answer) {
	if p, ok := a.request.(*kmsg.ProduceRequest); ok && p.Acks == 0 {
		if !s.open(c.conn) {
			a.problem = errSilent.Error()
		}
		return
	}
	if a.problem != "" {
		return
	}
	resp, err := s.receive(c.conn, a.request)
	if err != nil {
		a.problem = s.short(err.Error())
		return
	}
	a.response = resp
	if c.learn != nil {
		c.learn(s, resp)
	}
}

// differences compares what the sides made of a step.
func differences(kafka, tidemark []answer) (out []difference) {
	for i, k := range kafka {
		t := tidemark[i]
		if k.problem != "" || t.problem != "" {
			say := func(a answer) string {
				if a.problem == "" {
					return "answered"
				}
				return a.problem
			}
			if say(k) != say(t) {
				out = append(out, difference{k.api, "", say(k), say(t)})
			}
			continue
		}
		out = append(out, compare(k.fields, t.fields)...)
	}
	return out
}
