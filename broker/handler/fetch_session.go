package handler

import (
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemarkmq/tidemark/broker/wire"
	"github.com/tidemarkmq/tidemark/metadata"
)

// fetchKey names a partition in a session: by topic id from Fetch v13 on, by name before.
type fetchKey struct {
	topic     string
	id        metadata.TopicID
	partition int32
}

// fetchAsk is what a client wants of one partition.
type fetchAsk struct {
	fetchKey
	offset       int64
	maxBytes     int32
	currentEpoch int32
	lastEpoch    int32
}

// cachedPart is a partition of a session: the last ask, and what the client was told last.
type cachedPart struct {
	ask           fetchAsk
	highWatermark int64
	logStart      int64
	prev, next    *cachedPart
}

// update takes over an answer and tells whether the client must get it (KIP-227): records, news about the offsets, a
// diverging epoch or an error.
func (c *cachedPart) update(r *wire.FetchPartition) bool {
	changed := len(r.Records) > 0 || c.highWatermark != r.HighWatermark || c.logStart != r.LogStart || r.ErrorCode != 0 || r.Diverging != nil || r.PreferredReplica >= 0
	c.highWatermark, c.logStart = r.HighWatermark, r.LogStart
	if r.ErrorCode != 0 {
		c.highWatermark = -1 // so that recovery from the error is news
	}
	return changed
}

// fetchSession is what the broker remembers of a client's fetches. Its partitions are in the order in which they get their
// turn: those that had data go to the end.
type fetchSession struct {
	id          int32
	usesIDs     bool
	created     time.Time
	mu          sync.Mutex // guards what follows
	epoch       int32
	parts       map[fetchKey]*cachedPart
	first, last *cachedPart

	// Guarded by the cache's mutex.
	used       time.Time
	size       int
	prev, next *fetchSession
}

func (s *fetchSession) push(c *cachedPart) {
	c.prev, c.next = s.last, nil
	if s.last != nil {
		s.last.next = c
	} else {
		s.first = c
	}
	s.last = c
}

func (s *fetchSession) unlink(c *cachedPart) {
	if c.prev != nil {
		c.prev.next = c.next
	} else {
		s.first = c.next
	}
	if c.next != nil {
		c.next.prev = c.prev
	} else {
		s.last = c.prev
	}
}

// apply adds, changes and forgets partitions as the request says. The caller holds mu.
func (s *fetchSession) apply(asks []fetchAsk, forget []fetchKey) {
	for i := range asks {
		if c := s.parts[asks[i].fetchKey]; c != nil {
			c.ask = asks[i]
			continue
		}
		c := &cachedPart{ask: asks[i], highWatermark: -1, logStart: -1}
		s.parts[asks[i].fetchKey] = c
		s.push(c)
	}
	for _, k := range forget {
		if c := s.parts[k]; c != nil {
			s.unlink(c)
			delete(s.parts, k)
		}
	}
}

// The limits of Kafka's max.incremental.fetch.session.cache.slots and its eviction after two minutes.
const (
	defaultSessionSlots = 1000
	sessionEviction     = 2 * time.Minute
	// maxSessionPartitions bounds one session's memory: a client that asks for more is served without session.
	maxSessionPartitions = 200_000
)

// sessionCache holds the sessions of all connections. When it is full, a new session takes the place of one that was not
// used for two minutes, or of the smallest one that is older than two minutes and not larger than the new one.
type sessionCache struct {
	slots int
	now   func() time.Time

	mu          sync.Mutex
	byID        map[int32]*fetchSession
	first, last *fetchSession // by time of use, oldest first
	partitions  int
	evictions   int64
}

func newSessionCache(slots int) *sessionCache {
	return &sessionCache{slots: slots, now: time.Now, byID: make(map[int32]*fetchSession)}
}

func (c *sessionCache) totals() (sessions, partitions, evictions int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return int64(len(c.byID)), int64(c.partitions), c.evictions
}

func (c *sessionCache) get(id int32) *fetchSession {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.byID[id]
}

func (c *sessionCache) remove(id int32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.byID[id]; s != nil {
		c.drop(s)
	}
}

func (c *sessionCache) drop(s *fetchSession) {
	delete(c.byID, s.id)
	c.unlink(s)
	c.partitions -= s.size
}

func (c *sessionCache) unlink(s *fetchSession) {
	if s.prev != nil {
		s.prev.next = s.next
	} else {
		c.first = s.next
	}
	if s.next != nil {
		s.next.prev = s.prev
	} else {
		c.last = s.prev
	}
	s.prev, s.next = nil, nil
}

func (c *sessionCache) append(s *fetchSession) {
	s.prev, s.next = c.last, nil
	if c.last != nil {
		c.last.next = s
	} else {
		c.first = s
	}
	c.last = s
}

// touch says that s is used now and has size partitions.
func (c *sessionCache) touch(s *fetchSession, size int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byID[s.id] != s {
		return
	}
	c.unlink(s)
	c.append(s)
	s.used = c.now()
	c.partitions += size - s.size
	s.size = size
}

// create makes a session of size partitions, whose content is s, and returns its id, or 0 when there is no place for it.
func (c *sessionCache) create(s *fetchSession, size int) int32 {
	if size > maxSessionPartitions {
		return 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.byID) >= c.slots && !c.evict(size) {
		return 0
	}
	for s.id == 0 || c.byID[s.id] != nil {
		s.id = 1 + rand.Int32N(math.MaxInt32-1)
	}
	s.created, s.used, s.size = c.now(), c.now(), size
	c.byID[s.id] = s
	c.append(s)
	c.partitions += size
	return s.id
}

func (c *sessionCache) evict(size int) bool {
	now := c.now()
	if c.first == nil {
		return false
	}
	victim := c.first
	if now.Sub(victim.used) <= sessionEviction {
		victim = nil
		for s := c.first; s != nil; s = s.next {
			if now.Sub(s.created) > sessionEviction && s.size <= size && (victim == nil || s.size < victim.size) {
				victim = s
			}
		}
	}
	if victim == nil {
		return false
	}
	c.drop(victim)
	c.evictions++
	return true
}

// fetchPlan is what one request fetches and how its answer is to be cut down.
type fetchPlan struct {
	asks      []fetchAsk
	session   *fetchSession // of an incremental fetch
	epoch     int32         // the session's after this request
	full      bool          // make a session of this fetch
	errorCode int16         // of the whole request
}

// Session epochs with a meaning of their own (KIP-227).
const (
	epochInitial int32 = 0
	epochFinal   int32 = -1
)

func nextSessionEpoch(epoch int32) int32 {
	if epoch == math.MaxInt32 {
		return 1
	}
	return epoch + 1
}

// plan finds what a request fetches, with or without session. asks and the result share into's memory.
func (c *sessionCache) plan(version int16, req *kmsg.FetchRequest, into []fetchAsk) fetchPlan {
	asks := fetchAsks(version, req, into)
	if version < 7 {
		return fetchPlan{asks: asks}
	}
	if req.SessionEpoch == epochInitial || req.SessionEpoch == epochFinal {
		if req.SessionID != 0 {
			c.remove(req.SessionID)
		}
		return fetchPlan{asks: asks, full: req.SessionEpoch == epochInitial}
	}
	s := c.get(req.SessionID)
	if s == nil {
		return fetchPlan{errorCode: kerr.FetchSessionIDNotFound.Code}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.epoch != req.SessionEpoch:
		return fetchPlan{errorCode: kerr.InvalidFetchSessionEpoch.Code}
	case s.usesIDs != (version >= 13):
		return fetchPlan{errorCode: kerr.FetchSessionTopicIDError.Code}
	}
	if len(s.parts)+len(asks) > 2*maxSessionPartitions {
		c.remove(s.id)
		return fetchPlan{errorCode: kerr.FetchSessionIDNotFound.Code}
	}
	s.apply(asks, forgottenKeys(version, req))
	if len(s.parts) == 0 {
		c.remove(s.id)
		return fetchPlan{asks: asks[:0]}
	}
	c.touch(s, len(s.parts))
	s.epoch = nextSessionEpoch(s.epoch)
	asks = asks[:0]
	for p := s.first; p != nil; p = p.next {
		asks = append(asks, p.ask)
	}
	return fetchPlan{asks: asks, session: s, epoch: s.epoch}
}

// fetchAsks flattens the request's partitions. A partition that is named twice counts once, as in Kafka's map: the last
// values in the first one's place.
func fetchAsks(version int16, req *kmsg.FetchRequest, into []fetchAsk) []fetchAsk {
	asks := into[:0]
	for i := range req.Topics {
		t := &req.Topics[i]
		key := fetchKey{topic: t.Topic}
		if version >= 13 {
			key = fetchKey{id: t.TopicID}
		}
		for j := range t.Partitions {
			p := &t.Partitions[j]
			key.partition = p.Partition
			a := fetchAsk{fetchKey: key, offset: p.FetchOffset, maxBytes: p.PartitionMaxBytes, currentEpoch: -1, lastEpoch: -1}
			if version >= 9 {
				a.currentEpoch = p.CurrentLeaderEpoch
			}
			if version >= 12 {
				a.lastEpoch = p.LastFetchedEpoch
			}
			asks = append(asks, a)
		}
	}
	return dedupe(asks)
}

func dedupe(asks []fetchAsk) []fetchAsk {
	ascending := true
	for i := 1; i < len(asks) && ascending; i++ {
		a, b := &asks[i-1], &asks[i]
		ascending = a.topic == b.topic && a.id == b.id && a.partition < b.partition
	}
	if ascending { // the usual case: one topic
		return asks
	}
	seen := make(map[fetchKey]int, len(asks))
	out := asks[:0]
	for _, a := range asks {
		if i, ok := seen[a.fetchKey]; ok {
			out[i] = a
			continue
		}
		seen[a.fetchKey] = len(out)
		out = append(out, a)
	}
	return out
}

func forgottenKeys(version int16, req *kmsg.FetchRequest) []fetchKey {
	var keys []fetchKey
	for i := range req.ForgottenTopics {
		t := &req.ForgottenTopics[i]
		key := fetchKey{topic: t.Topic}
		if version >= 13 {
			key = fetchKey{id: t.TopicID}
		}
		for _, p := range t.Partitions {
			key.partition = p
			keys = append(keys, key)
		}
	}
	return keys
}

// finish makes the session that a full fetch asked for, or cuts an incremental answer down to what is news. keep tells for
// each part whether it stays. It returns the session id and error code of the answer.
func (c *sessionCache) finish(version int16, plan *fetchPlan, parts []fetchPart) (id int32, code int16) {
	switch {
	case plan.full:
		if len(parts) == 0 {
			return 0, 0
		}
		s := &fetchSession{usesIDs: version >= 13, epoch: nextSessionEpoch(epochInitial), parts: make(map[fetchKey]*cachedPart, len(parts))}
		for i := range parts {
			a := &parts[i]
			cached := &cachedPart{ask: a.ask, highWatermark: a.answer.HighWatermark, logStart: a.answer.LogStart}
			s.parts[a.ask.fetchKey] = cached
			s.push(cached)
		}
		return c.create(s, len(parts)), 0
	case plan.session != nil:
		return plan.session.cutDown(plan.epoch, parts)
	}
	return 0, 0
}

func (s *fetchSession) cutDown(epoch int32, parts []fetchPart) (id int32, code int16) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.epoch != epoch {
		// Another request used the session meanwhile: this one is a duplicate.
		for i := range parts {
			parts[i].keep = false
		}
		return s.id, kerr.InvalidFetchSessionEpoch.Code
	}
	for i := range parts {
		p := &parts[i]
		cached := s.parts[p.ask.fetchKey]
		if cached == nil {
			continue
		}
		p.keep = cached.update(&p.answer)
		if p.keep && len(p.answer.Records) > 0 {
			s.unlink(cached)
			s.push(cached)
		}
	}
	return s.id, 0
}
