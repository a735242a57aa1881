package stamp

import "fmt"

// Acks follows the acknowledgements of one producer, by partition. Not safe for concurrent use.
type Acks struct {
	partitions []acked
	problem    error
}

// acked is kept as count, ends and sum: together with those of all other producers they prove that no offset was given twice.
type acked struct {
	count, low, high int64
	sum              uint64
}

// NewAcks makes one for a number of partitions.
func NewAcks(partitions int) *Acks { return &Acks{partitions: make([]acked, partitions)} }

// Add takes the acknowledgement of n records from the offset on.
func (a *Acks) Add(partition int32, offset int64, n int) {
	if partition < 0 || int(partition) >= len(a.partitions) {
		a.fail(fmt.Errorf("acknowledged in partition %d, which does not exist", partition))
		return
	}
	p := &a.partitions[partition]
	if p.count > 0 && offset <= p.high {
		a.fail(fmt.Errorf("partition %d: offset %d acknowledged after %d", partition, offset, p.high))
	}
	if p.count == 0 {
		p.low = offset
	}
	p.low, p.high = min(p.low, offset), max(p.high, offset+int64(n)-1)
	p.count += int64(n)
	p.sum += uint64(n)*uint64(offset) + uint64(n)*uint64(n-1)/2
}

func (a *Acks) fail(err error) {
	if a.problem == nil {
		a.problem = err
	}
}

// Count is how many records were acknowledged in a partition.
func (a *Acks) Count(partition int32) int64 { return a.partitions[partition].count }

// CheckAcks proves that all acknowledgements together cover each partition's offsets from start on exactly once, and returns the
// end of each partition. With transactions the markers take offsets as well; then only the order is proved.
func CheckAcks(all []*Acks, start []int64, markers bool) (ends []int64, err error) {
	ends = append([]int64(nil), start...)
	for _, a := range all {
		if a.problem != nil {
			return nil, a.problem
		}
	}
	for i := range start {
		var t acked
		for _, a := range all {
			p := a.partitions[i]
			if p.count == 0 {
				continue
			}
			if t.count == 0 {
				t.low, t.high = p.low, p.high
			}
			t.low, t.high = min(t.low, p.low), max(t.high, p.high)
			t.count += p.count
			t.sum += p.sum
		}
		if t.count == 0 {
			continue
		}
		n := uint64(t.count)
		want := n*uint64(t.low) + n*(n-1)/2
		if !markers && (t.low != start[i] || t.high-t.low+1 != t.count || t.sum != want) {
			return nil, fmt.Errorf("partition %d: %d records acknowledged at offsets %d to %d, which must be one each from %d on", i, t.count, t.low, t.high, start[i])
		}
		ends[i] = t.high + 1
	}
	return ends, nil
}
