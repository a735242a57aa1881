package tiering

import (
	"container/list"
	"context"
	"sync"
	"time"
)

// cache keeps decoded values, bounded by their cost in bytes, and loads each key once however many ask for it. A load goes on
// when those who wait for it give up: what it brings serves the next.
type cache[K comparable, V any] struct {
	maxBytes int64
	timeout  time.Duration // of a load
	base     context.Context
	loads    *sync.WaitGroup

	mu        sync.Mutex
	entries   map[K]*list.Element
	lru       list.List // of *cached[K, V], most recent first
	usedBytes int64
	flights   map[K]*flight[V]
}

type cached[K comparable, V any] struct {
	key   K
	value V
	bytes int64
}

type flight[V any] struct {
	done  chan struct{}
	value V
	err   error
}

func newCache[K comparable, V any](base context.Context, loads *sync.WaitGroup, maxBytes int64, timeout time.Duration) *cache[K, V] {
	return &cache[K, V]{maxBytes: maxBytes, timeout: timeout, base: base, loads: loads, entries: map[K]*list.Element{}, flights: map[K]*flight[V]{}}
}

// get returns the value of key, calling load for it if need be. load also returns the value's cost in bytes.
func (c *cache[K, V]) get(ctx context.Context, key K, load func(context.Context) (V, int64, error)) (V, error) {
	c.mu.Lock()
	if e, ok := c.entries[key]; ok {
		c.lru.MoveToFront(e)
		v := e.Value.(*cached[K, V]).value
		c.mu.Unlock()
		return v, nil
	}
	f, ok := c.flights[key]
	if !ok {
		f = &flight[V]{done: make(chan struct{})}
		c.flights[key] = f
		c.loads.Add(1)
		go c.load(key, f, load)
	}
	c.mu.Unlock()
	select {
	case <-f.done:
		return f.value, f.err
	case <-ctx.Done():
		var zero V
		return zero, context.Cause(ctx)
	}
}

func (c *cache[K, V]) load(key K, f *flight[V], load func(context.Context) (V, int64, error)) {
	defer c.loads.Done()
	ctx, cancel := context.WithTimeout(c.base, c.timeout)
	defer cancel()
	var bytes int64
	f.value, bytes, f.err = load(ctx)
	c.mu.Lock()
	delete(c.flights, key)
	if f.err == nil {
		c.putLocked(key, f.value, bytes)
	}
	c.mu.Unlock()
	close(f.done)
}

// has tells whether key is there, without making it more recent.
func (c *cache[K, V]) has(key K) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.entries[key]
	return ok
}

// put adds or replaces a value.
func (c *cache[K, V]) put(key K, value V, bytes int64) {
	c.mu.Lock()
	c.putLocked(key, value, bytes)
	c.mu.Unlock()
}

func (c *cache[K, V]) putLocked(key K, value V, bytes int64) {
	c.dropLocked(key)
	c.entries[key] = c.lru.PushFront(&cached[K, V]{key, value, bytes})
	c.usedBytes += bytes
	for c.usedBytes > c.maxBytes && c.lru.Len() > 1 {
		c.dropLocked(c.lru.Back().Value.(*cached[K, V]).key)
	}
}

// drop forgets a key.
func (c *cache[K, V]) drop(key K) {
	c.mu.Lock()
	c.dropLocked(key)
	c.mu.Unlock()
}

func (c *cache[K, V]) dropLocked(key K) {
	if e, ok := c.entries[key]; ok {
		c.usedBytes -= e.Value.(*cached[K, V]).bytes
		c.lru.Remove(e)
		delete(c.entries, key)
	}
}
