package broker

import (
	"fmt"
	"maps"
	"strconv"
	"strings"

	"github.com/tidemarkmq/tidemark/metadata"
)

// Sizes of what takes memory where there is plenty, and the least that each works with. In between, all that the configuration
// leaves open shrinks in the same proportion, but for the tail cache, which shrinks last: it is the write buffer.
const (
	fullTailBytes    = 128 << 20
	leastTailBytes   = 32 << 20
	fullRequestBytes = 256 << 20
	fullBlockBytes   = 128 << 20
	leastCacheBytes  = 16 << 20 // of requests and of blocks
	fullSealBytes    = 16 << 20
	leastSealBytes   = 4 << 20
	fullWALBytes     = 4 << 30
	leastWALBytes    = 1 << 30

	// fullCharge is what a batch counts at least towards wal.max-bytes: the index of the tails has some 60 bytes of heap for each batch
	// that is not in the object store, which must not grow without bound while the store is away.
	fullCharge     = 1 << 10
	mostCharge     = 4 << 10
	tailIndexBytes = 64

	// sealsInMemory is how many seals are between collecting and the end of their puts.
	sealsInMemory = 5
	// coreBytes is the heap of a broker that holds nothing: the runtime, an embedded etcd, metrics, merges.
	coreBytes  = 32 << 20
	leastSpare = 24 << 20
	// memberBytes is what goes to another member of the ensemble, and what comes from a broker whose log is replicated here.
	memberBytes   = 24 << 20
	planSteps     = 64
	maxFrameKey   = "socket.request.max.bytes"
	fullMaxFrame  = 100 << 20 // Kafka's default
	leastMaxFrame = 16 << 20
)

// MemoryPlan says what a broker holds in memory at most, and what of that the Go runtime sees.
type MemoryPlan struct {
	LimitBytes   int64 // of the process; 0: none is known
	OutsideBytes int64 // slabs, which are mapped and no part of the Go heap
	SpareBytes   int64 // for the kernel on the process's behalf, and for what nobody counts
	GoLimitBytes int64 // the rest, for debug.SetMemoryLimit; 0: no limit is known
	Budgets      []MemoryBudget
	// LargestRequestBytes is socket.request.max.bytes where it had to be lowered; else 0.
	LargestRequestBytes int64

	chargeBytes int // see fullCharge
}

// MemoryBudget is what one setting leads to.
type MemoryBudget struct {
	Key   string
	Bytes int64
}

// String names the budgets, in MiB.
func (p *MemoryPlan) String() string {
	var b strings.Builder
	for _, x := range p.Budgets {
		fmt.Fprintf(&b, "%s %d MiB, ", x.Key, x.Bytes>>20)
	}
	fmt.Fprintf(&b, "all else %d MiB", int64(coreBytes>>20))
	return b.String()
}

// heapBytes is what all budgets can hold on the Go heap together.
func (p *MemoryPlan) heapBytes() int64 {
	sum := coreBytes - p.OutsideBytes
	for _, x := range p.Budgets {
		sum += x.Bytes
	}
	return sum
}

// goBytes leaves the garbage collector an eighth: with less it would run all the time.
func (p *MemoryPlan) goBytes() int64 { return p.heapBytes() * 8 / 7 }

func (p *MemoryPlan) fits() bool { return p.LimitBytes == 0 || p.goBytes() <= p.GoLimitBytes }

// fitMemory completes the sizes that are 0, so that all of them together stay below MemoryBytes; without such a limit they are the
// full ones. What is stated is kept: if it does not fit even beside the least of everything else, the error says what there is.
func (c *Config) fitMemory(slabBytes int64) (*MemoryPlan, error) {
	stated, isStated, err := c.statedMaxFrame()
	if err != nil {
		return nil, err
	}
	frames := []int64{fullMaxFrame, 64 << 20, 32 << 20, leastMaxFrame}
	if isStated {
		frames = []int64{stated}
	}
	var plan *MemoryPlan
	for _, maxFrame := range frames {
		for share := int64(planSteps); share > 0; share-- {
			sized := *c
			charge := sized.size(share, slabBytes)
			plan = sized.planOf(maxFrame, charge)
			if !plan.fits() {
				continue
			}
			if !isStated && maxFrame != fullMaxFrame {
				sized.Kafka = maps.Clone(c.Kafka)
				if sized.Kafka == nil {
					sized.Kafka = map[string]string{}
				}
				sized.Kafka[maxFrameKey] = strconv.FormatInt(maxFrame, 10)
				plan.LargestRequestBytes = maxFrame
			}
			*c = sized
			return plan, nil
		}
	}
	return nil, plan.tooSmall()
}

func (c *Config) statedMaxFrame() (bytes int64, ok bool, err error) {
	text, ok := c.Kafka[maxFrameKey]
	if !ok {
		return 0, false, nil
	}
	if bytes, err = strconv.ParseInt(text, 10, 32); err != nil {
		return 0, false, fmt.Errorf("kafka: %s: %w", maxFrameKey, err)
	}
	return bytes, true, nil
}

// size sets the open sizes to share/planSteps of the full ones, or to the least, and returns the charge of a batch.
func (c *Config) size(share, slabBytes int64) (charge int) {
	part := func(full, least int64) int64 { return max(least, full*share/planSteps) }
	open := func(v *int64, bytes int64) {
		if *v == 0 {
			*v = bytes
		}
	}
	tail := min(fullTailBytes, part(2*fullTailBytes, leastTailBytes))
	open(&c.TailCacheBytes, tail-tail%slabBytes)
	open(&c.RequestMemoryBytes, part(fullRequestBytes, leastCacheBytes))
	open(&c.BlockCacheBytes, part(fullBlockBytes, leastCacheBytes))
	open(&c.SealBytes, min(fullSealBytes, part(4*fullSealBytes, leastSealBytes))) // smaller ones cost requests
	charge = int(min(mostCharge, fullCharge*planSteps/share))
	index := part(fullWALBytes/fullCharge*tailIndexBytes, leastWALBytes/mostCharge*tailIndexBytes)
	open(&c.WAL.MaxBytes, max(4*c.WAL.SegmentBytes, min(fullWALBytes, index/tailIndexBytes*int64(charge))))
	return charge
}

// Parts that have no setting of their own follow the nearest one.

func (c *Config) controlBytes() int64  { return c.RequestMemoryBytes / 4 } // frames other than Produce
func (c *Config) decodedBytes() int64  { return c.RequestMemoryBytes / 2 } // decoded requests, and answers to slow clients
func (c *Config) slowReadBytes() int64 { return c.RequestMemoryBytes }     // reads from files and the object store
func (c *Config) pooledBytes() int64   { return c.RequestMemoryBytes / 4 } // unused frames, as package server keeps them
func (c *Config) indexBytes() int64    { return c.BlockCacheBytes / 4 }    // indexes and manifests of objects
func (c *Config) offsetBytes() int64   { return c.BlockCacheBytes / 2 }    // last known offsets of groups

// planOf adds up. Half of the budget of requests is for large ones, of which one may arrive however large it is.
func (c *Config) planOf(maxFrame int64, charge int) *MemoryPlan {
	p := &MemoryPlan{LimitBytes: c.MemoryBytes, OutsideBytes: c.TailCacheBytes, chargeBytes: charge, Budgets: []MemoryBudget{
		{"tail-cache-bytes", c.TailCacheBytes},
		{"request-memory-bytes", c.RequestMemoryBytes + c.controlBytes() + c.decodedBytes() + c.slowReadBytes() + c.pooledBytes()},
		{"kafka." + maxFrameKey, max(0, maxFrame-c.RequestMemoryBytes/2)},
		{"block-cache-bytes", c.BlockCacheBytes + c.indexBytes() + c.offsetBytes()},
		{"seal-bytes", sealsInMemory * c.SealBytes},
		{"wal.max-bytes", c.WAL.MaxBytes / int64(charge) * tailIndexBytes},
	}}
	if classes[c.Durability] == metadata.ClassQuorum {
		p.Budgets = append(p.Budgets, MemoryBudget{"replication.members", int64(c.Replication.Members-1) * memberBytes})
	}
	if p.LimitBytes > 0 {
		p.SpareBytes = max(leastSpare, p.LimitBytes/16)
		p.GoLimitBytes = p.LimitBytes - p.OutsideBytes - p.SpareBytes
	}
	return p
}

// tooSmall is the error of a plan that does not fit although everything open is at its least.
func (p *MemoryPlan) tooSmall() error {
	need := p.goBytes() + p.OutsideBytes + p.SpareBytes
	return fmt.Errorf("memory-bytes: the broker may use %d MiB (the container's limit, where memory-bytes is not stated), and its settings lead to %d MiB: %s, "+
		"garbage %d MiB, spare %d MiB. Lower those that are stated, or raise the limit", p.LimitBytes>>20, need>>20, p, (p.goBytes()-p.heapBytes())>>20, p.SpareBytes>>20)
}
