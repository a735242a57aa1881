package history

import "fmt"

// Anomaly names what must not happen.
type Anomaly string

// The anomalies. Each is counted once for each record, offset or gap that shows it.
const (
	Lost         Anomaly = "lost"         // acknowledged, and a final reader does not get it
	Vanished     Anomaly = "vanished"     // somebody got it, and a final reader does not
	Duplicate    Anomaly = "duplicate"    // one record of an idempotent producer at two offsets
	Reordered    Anomaly = "reordered"    // a producer's records in another order than it sent them in
	Phantom      Anomaly = "phantom"      // nobody had sent it when it was read, or its send definitely failed
	Damaged      Anomaly = "damaged"      // other bytes than were sent
	Nonmonotonic Anomaly = "nonmonotonic" // a reader that was not told to went back
	Gap          Anomaly = "gap"          // offsets skipped, by one reader or by a group as a whole, without a reason
	Inconsistent Anomaly = "inconsistent" // two values at one offset, or acknowledged at an offset where something else is
	OffsetLost   Anomaly = "offset-lost"  // a group's committed offset went back, or is one that nobody committed
	Unread       Anomaly = "unread"       // a partition that no final reader could read whole: what it holds is not known
	AbortedRead  Anomaly = "aborted-read" // a read_committed reader got a record of an aborted or open transaction
	Fractured    Anomaly = "fractured"    // a final read_committed reader got a part of a transaction
)

// examplesOfEach bounds how many findings of an anomaly are kept; the rest are counted.
const examplesOfEach = 10

// Finding is one anomaly in one place.
type Finding struct {
	Anomaly Anomaly
	Detail  string
}

// Result is what a history shows.
type Result struct {
	Counts   map[Anomaly]int64
	Findings []Finding // the first few of each anomaly

	Operations  int64
	Sent        int64 // records invoked
	Acked       int64
	Failed      int64
	Unknown     int64 // among them those that no outcome was recorded for
	Read        int64 // records in polls, by all readers
	Repeated    int64 // records of producers that are not idempotent at a second offset, which is allowed
	FinalRead   int64 // records in final readers' polls
	Checked     int64 // acknowledged durable records that a final reader got
	Recovered   int64 // records with an unknown outcome that are in the log
	Partitions  int
	Commits     int64 // acknowledged offsets of groups
	Explained   int64 // gaps that markers or aborted transactions explain
	Transitions int64 // positions that groups assigned
}

// Anomalies is how many there are.
func (r *Result) Anomalies() int64 {
	var n int64
	for _, c := range r.Counts {
		n += c
	}
	return n
}

func (c *Checker) found(a Anomaly, format string, args ...any) {
	if c.result.Counts[a]++; c.result.Counts[a] <= examplesOfEach {
		c.result.Findings = append(c.result.Findings, Finding{a, fmt.Sprintf(format, args...)})
	}
}
