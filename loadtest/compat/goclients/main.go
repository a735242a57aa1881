// Goclients passes records through a broker with Go clients of other makers, sarama and segmentio/kafka-go: an idempotent
// or plain producer for each codec, then a consumer group that must see each record once, in order per key, and resume
// from its committed offsets.
//
//	go run . HOST:PORT
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"
)

const (
	partitions       = 3
	keys             = 7
	recordsPerCodec  = 500
	clientWait       = 60 * time.Second
	headerName       = "codec"
	groupTail        = 10 // records left for the second run of a group
	largeRecordBytes = 200_000
)

var codecs = []string{"none", "gzip", "snappy", "lz4", "zstd"}

// wanted is what one client sends with one codec: record i has key i%keys and a value that tells i.
type wanted struct{ next map[string]int }

func key(i int) string { return fmt.Sprintf("key-%d", i%keys) }

func value(codec string, i int) string {
	if i == recordsPerCodec/2 {
		return fmt.Sprintf("%s-%d-%0*d", codec, i, largeRecordBytes, 0)
	}
	return fmt.Sprintf("%s-%d-", codec, i)
}

// check accepts a consumed record if it is the next of its key.
func (w *wanted) check(codec, k, v string) error {
	if w.next == nil {
		w.next = map[string]int{}
	}
	n := w.next[k]
	for i := range recordsPerCodec {
		if key(i) == k {
			if n == 0 {
				if v != value(codec, i) {
					return fmt.Errorf("%s: record of %s out of order or damaged: %.40q, want %.40q", codec, k, v, value(codec, i))
				}
				w.next[k]++
				return nil
			}
			n--
		}
	}
	return fmt.Errorf("%s: more records of %s than were sent: %.40q", codec, k, v)
}

func main() {
	log.SetFlags(log.Ltime)
	if len(os.Args) != 2 {
		log.Fatal("usage: goclients HOST:PORT")
	}
	passed, failed := 0, 0
	for name, client := range map[string]func(context.Context, string, string) error{"sarama": saramaTrip, "kafka-go": kafkaGoTrip} {
		for _, codec := range codecs {
			ctx, cancel := context.WithTimeout(context.Background(), clientWait)
			err := client(ctx, os.Args[1], codec)
			cancel()
			if err != nil {
				failed++
				log.Printf("%s, %s: FAILED: %v", name, codec, err)
				continue
			}
			passed++
			log.Printf("%s, %s: passed", name, codec)
		}
	}
	fmt.Printf("%d passed, %d failed\n", passed, failed)
	if failed > 0 {
		os.Exit(1)
	}
}
