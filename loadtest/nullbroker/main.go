// Command nullbroker speaks just enough of the Kafka protocol to be produced to and fetched from, and keeps nothing: produced records are
// thrown away, fetched ones are made up. It costs as little as a broker in Go can cost, so it is the ceiling that benchmarks are compared
// with. It has no topics of its own: whatever is asked for exists.
//
//	go run ./loadtest/nullbroker --listen 127.0.0.1:0 --partitions 12
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/tidemarkmq/tidemark/loadtest/nullbroker/null"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "nullbroker:", err)
		os.Exit(1)
	}
}

func run() error {
	listen := flag.String("listen", "127.0.0.1:9092", "address; port 0 takes a free one")
	partitions := flag.Int("partitions", 12, "partitions of every topic")
	recordBytes := flag.Int("record-bytes", 1024, "value size of the records that fetches get")
	batchBytes := flag.Int("batch-bytes", 1<<20, "size of the batches that fetches get")
	end := flag.Int64("end-offset", 1<<40, "end of every partition for fetches")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ln, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	b, err := null.New(null.Options{Partitions: *partitions, RecordBytes: *recordBytes, BatchBytes: *batchBytes, EndOffset: *end})
	if err != nil {
		return err
	}
	fmt.Printf("bootstrap.servers=%s\n", ln.Addr())
	return b.Serve(ctx, ln)
}
