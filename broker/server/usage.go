package server

// Usage is how much the server has to do at a moment.
type Usage struct {
	Requests   float64 // memory of requests in flight, of the budget that is nearest to its end; 0 to 1
	MovedBytes int64   // read and written since the start
}

// Usage takes a few atomic loads. Safe for concurrent use.
func (s *Server) Usage() Usage {
	u := Usage{MovedBytes: s.metrics.bytesIn.Load() + s.metrics.bytesOut.Load()}
	for _, b := range []*budget{s.produceBudget, s.largeBudget, s.controlBudget, s.decodedBudget} {
		if b.size > 0 {
			u.Requests = max(u.Requests, float64(b.used.Load())/float64(b.size))
		}
	}
	return u
}
