//go:build unix

package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// asProgram makes the test binary, and whatever it starts, run as tidemark.
const asProgram = "TIDEMARK_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// TestDevCluster runs three broker processes, kills one and lets another leave while a producer goes on: every record that was acked is read,
// once and in order, and all end when the cluster does.
func TestDevCluster(t *testing.T) {
	if testing.Short() {
		t.Skip("starts four processes")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "dev", "--brokers", "3", "--listen", "127.0.0.1:0", "--data-dir", t.TempDir(), "--tail-cache-bytes", "64MiB", "--log-level", "error")
	cmd.Env = append(os.Environ(), asProgram+"=1")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 100)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			lines <- s.Text()
		}
	}()
	await := func(what string) []string {
		t.Helper()
		re := regexp.MustCompile(what)
		for line := range lines {
			if m := re.FindStringSubmatch(line); m != nil {
				return m
			}
		}
		t.Fatalf("the cluster ended without saying %q", what)
		return nil
	}
	seeds := strings.Split(await("^bootstrap.servers=(.*)")[1], ",")
	pid := func(broker int) int {
		n, err := strconv.Atoi(await(fmt.Sprintf(`broker %d .* kill (\d+)   lets it leave`, broker))[1])
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	_, second, third := pid(1), pid(2), pid(3)

	const partitions, records = 6, 3000
	client := newTopic(t, ctx, seeds, partitions)
	defer client.Close()
	var acked sync.WaitGroup
	for i := range records {
		switch i {
		case records / 3:
			if err := syscall.Kill(second, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		case 2 * records / 3:
			await("broker 2 is back")
			if err := syscall.Kill(third, syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
		}
		acked.Add(1)
		client.Produce(ctx, &kgo.Record{Topic: "t", Partition: int32(i % partitions), Value: strconv.AppendInt(nil, int64(i), 10)}, func(_ *kgo.Record, err error) {
			defer acked.Done()
			if err != nil {
				t.Errorf("record %d: %v", i, err)
			}
		})
	}
	acked.Wait()
	await("broker 3 was told to stop")
	checkTopic(t, ctx, seeds, partitions, records)

	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	for range lines { // until the output ends: the brokers have it too
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the cluster ended with %v", err)
	}
}

// newTopic makes the topic t and returns a client that produces to its partitions by number.
func newTopic(t *testing.T, ctx context.Context, seeds []string, partitions int32) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(seeds...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MaxBufferedRecords(100),
		kgo.RetryTimeout(time.Minute), kgo.MetadataMinAge(100*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	req := kmsg.NewPtrCreateTopicsRequest()
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = "t", partitions, 1
	req.Topics = append(req.Topics, topic)
	resp, err := req.RequestWith(ctx, client)
	if err != nil || resp.Topics[0].ErrorCode != 0 {
		t.Fatalf("create: %+v, %v", resp, err)
	}
	return client
}

// checkTopic reads the topic from the beginning: partition p has the records p, p+partitions, and so on.
func checkTopic(t *testing.T, ctx context.Context, seeds []string, partitions, records int) {
	t.Helper()
	reader, err := kgo.NewClient(kgo.SeedBrokers(seeds...), kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.MetadataMinAge(100*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	next := make([]int, partitions)
	for n := 0; n < records; {
		fetches := reader.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("%d of %d records read", n, records)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			n++
			want := next[r.Partition]*partitions + int(r.Partition)
			next[r.Partition]++
			if string(r.Value) != strconv.Itoa(want) {
				t.Errorf("partition %d offset %d: record %s, want %d", r.Partition, r.Offset, r.Value, want)
			}
		})
	}
}
