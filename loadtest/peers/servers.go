package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/tidemarkmq/tidemark/loadtest/process"
)

//go:embed kafka.properties
var kafkaProperties string

// Fixed settings of the peers, as the report shows them.
const (
	kafkaHeap       = "1g"
	kafkaCluster    = "MkU3OEVBNTcwNTJENDM2Qk"
	flushEach       = "log.flush.interval.messages=1\n"
	minioUser       = "tidemark"
	minioPassword   = "tidemark-local"
	minioBucket     = "tidemark"
	tidemarkGrace   = "10s"
	syncDelay       = 2600 * time.Microsecond
	stopPatience    = 2 * time.Minute
	unsealed        = int64(1) << 30 // seal-bytes at which a WAL of a gibibyte stays a WAL
	unsealedAge     = time.Hour
	interfaceOnly   = "127.0.0.1"
	listenAnyPort   = interfaceOnly + ":0"
	minioReadyRoute = "/minio/health/ready"
)

var kafkaJVM = []string{
	"-Xms" + kafkaHeap, "-Xmx" + kafkaHeap, "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35",
	"-XX:+ExplicitGCInvokesConcurrent", "-Djava.awt.headless=true",
}

// binaries are what the peers are started from.
type binaries struct{ tidemark, null, minio, jars, strace string }

// how one start differs from the usual.
type how struct {
	partitions int  // of every topic of the null broker
	keepWAL    bool // nothing moves to the object store by itself
	slowSync   bool // each fsync and fdatasync takes syncDelay longer
}

// server is a started peer.
type server struct {
	bootstrap string
	began     time.Time         // when the broker's process was started
	main      *process.Broker   // the broker, or what traces it
	beside    []*process.Broker // what it needs
	pid       int               // of the broker itself
}

// pids are all processes whose CPU and memory count.
func (s *server) pids() []int {
	pids := []int{s.pid}
	for _, b := range s.beside {
		pids = append(pids, b.PID())
	}
	return pids
}

// kill ends the broker as kill -9 does, and what is beside it.
func (s *server) kill() {
	s.crash()
	for _, b := range s.beside {
		b.Kill()
	}
}

// crash ends the broker only. One that is traced would outlive its tracer, so it goes first.
func (s *server) crash() {
	if s.pid != s.main.PID() {
		if p, err := os.FindProcess(s.pid); err == nil {
			_ = p.Kill() // it may have ended already
		}
	}
	s.main.Kill()
}

// stop ends the broker in order, then what is beside it.
func (s *server) stop() error {
	err := s.main.Stop()
	for _, b := range s.beside {
		b.Kill()
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 128+int(syscall.SIGTERM) {
		return nil // a JVM that ended in order says so
	}
	return err
}

// peer is one thing that is measured.
type peer struct {
	id, name, class string
	jvm             bool
	null            bool
	reference       bool
	command         string // of a reference
	start           func(ctx context.Context, b *binaries, dir string, h how) (*server, error)
}

// Classes of durability, as rows are labelled.
const (
	durable   = "durable"
	pageCache = "page cache"
	nothing   = "keeps nothing"
)

var peers = []peer{
	{id: "null", name: "null broker", class: nothing, null: true, start: startNull},
	{id: "tidemark", name: "Tidemark, directory", class: durable, start: func(ctx context.Context, b *binaries, dir string, h how) (*server, error) {
		return startTidemark(ctx, b, dir, h, nil, nil)
	}},
	{id: "tidemark-minio", name: "Tidemark, MinIO", class: durable, start: startTidemarkMinIO},
	{id: "kafka", name: "Kafka, defaults", class: pageCache, jvm: true, start: func(ctx context.Context, b *binaries, dir string, h how) (*server, error) {
		return startKafka(ctx, b, dir, h, "")
	}},
	{id: "kafka-flush", name: "Kafka, flush.messages=1", class: durable, jvm: true, start: func(ctx context.Context, b *binaries, dir string, h how) (*server, error) {
		return startKafka(ctx, b, dir, h, flushEach)
	}},
}

func startNull(ctx context.Context, b *binaries, _ string, h how) (*server, error) {
	return begin(nil, func() (*process.Broker, error) {
		return process.Start(ctx, nil, b.null, "--listen", listenAnyPort, "--partitions", fmt.Sprint(max(1, h.partitions)))
	})
}

// begin starts the broker's process and finds the broker in it.
func begin(beside []*process.Broker, start func() (*process.Broker, error)) (*server, error) {
	s := &server{began: time.Now(), beside: beside}
	var err error
	if s.main, err = start(); err != nil {
		for _, b := range beside {
			b.Kill()
		}
		return nil, err
	}
	s.bootstrap, s.pid = s.main.Bootstrap, s.main.PID()
	return s, nil
}

func startTidemark(ctx context.Context, b *binaries, dir string, h how, store []string, beside []*process.Broker) (*server, error) {
	args := append([]string{b.tidemark, "dev", "--listen", listenAnyPort, "--data-dir", filepath.Join(dir, "tidemark"), "--delete-grace", tidemarkGrace}, store...)
	if h.keepWAL {
		args = append(args, "--seal-bytes", fmt.Sprint(unsealed), "--seal-age", unsealedAge.String())
	}
	if h.slowSync {
		args = append(slowed(b.strace), append(args, "--wal.sync", "data")...)
	}
	s, err := begin(beside, func() (*process.Broker, error) { return process.Start(ctx, nil, args[0], args[1:]...) })
	return tracee(s, err, h)
}

// slowed is the command before a broker's own that makes each sync take longer. Only the system calls named stop for the tracer.
func slowed(strace string) []string {
	return []string{strace, "-f", "-qqq", "--seccomp-bpf", "-o", "/dev/null", "-e", "trace=fsync,fdatasync",
		"-e", fmt.Sprintf("inject=fsync,fdatasync:delay_exit=%d", syncDelay.Microseconds())}
}

// tracee replaces the tracer's id by that of the broker.
func tracee(s *server, err error, h how) (*server, error) {
	if err != nil || !h.slowSync {
		return s, err
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", s.pid))
	if err == nil {
		_, err = fmt.Sscan(string(text), &s.pid)
	}
	if err != nil {
		s.kill()
		return nil, fmt.Errorf("find the traced broker: %w", err)
	}
	return s, nil
}

func startTidemarkMinIO(ctx context.Context, b *binaries, dir string, h how) (*server, error) {
	data, keys := filepath.Join(dir, "minio"), map[string]string{"access-key": minioUser, "secret-key": minioPassword}
	if err := os.MkdirAll(filepath.Join(data, minioBucket), 0o700); err != nil { // a folder of the server's is a bucket
		return nil, err
	}
	for name, key := range keys {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(key), 0o600); err != nil {
			return nil, err
		}
	}
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	minio, err := process.StartAt(ctx, nil, address, func(ctx context.Context) error { return healthy(ctx, "http://"+address+minioReadyRoute) },
		"env", "MINIO_ROOT_USER="+minioUser, "MINIO_ROOT_PASSWORD="+minioPassword, "MINIO_BROWSER=off", "MINIO_UPDATE=off", "MINIO_CALLHOME_ENABLE=off",
		b.minio, "server", "--quiet", "--address", address, data)
	if err != nil {
		return nil, fmt.Errorf("start MinIO: %w", err)
	}
	return startTidemark(ctx, b, dir, h, []string{
		"--object-store.url", "s3://" + minioBucket + "/peers?endpoint=http://" + address + "&region=us-east-1&path-style=true",
		"--object-store.access-key-file", filepath.Join(dir, "access-key"), "--object-store.secret-key-file", filepath.Join(dir, "secret-key"),
	}, []*process.Broker{minio})
}

func healthy(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, res.Status)
	}
	return errors.Join(err, res.Body.Close())
}

// freeAddress is one that nobody listens on now.
func freeAddress() (string, error) {
	ln, err := net.Listen("tcp", listenAnyPort)
	if err != nil {
		return "", err
	}
	return ln.Addr().String(), ln.Close()
}

// kafkaFile fills in the settings of one node.
func kafkaFile(dir, port, controller, more string) string {
	return strings.NewReplacer("{dir}", dir, "{port}", port, "{controller}", controller).Replace(kafkaProperties) + more
}

// startKafka formats the folder at its first start.
func startKafka(ctx context.Context, b *binaries, dir string, h how, more string) (*server, error) {
	var ports [2]string
	var address string
	for i := range ports {
		a, err := freeAddress()
		if err != nil {
			return nil, err
		}
		_, ports[i], _ = net.SplitHostPort(a) // it is one
		if i == 0 {
			address = a
		}
	}
	data, file := filepath.Join(dir, "kafka"), filepath.Join(dir, "server.properties")
	if err := os.WriteFile(file, []byte(kafkaFile(data, ports[0], ports[1], more)), 0o600); err != nil {
		return nil, err
	}
	classes := filepath.Join(b.jars, "*")
	if _, err := os.Stat(filepath.Join(data, "meta.properties")); errors.Is(err, os.ErrNotExist) {
		out, err := exec.CommandContext(ctx, "java", "-cp", classes, "kafka.tools.StorageTool", "format", "-t", kafkaCluster, "-c", file).CombinedOutput()
		if err != nil {
			return nil, fmt.Errorf("format Kafka's folder: %w\n%s", err, out)
		}
	}
	args := append(append([]string{"java"}, kafkaJVM...), "-cp", classes, "kafka.Kafka", file)
	if h.slowSync {
		args = append(slowed(b.strace), args...)
	}
	s, err := begin(nil, func() (*process.Broker, error) {
		return process.StartAt(ctx, nil, address, func(ctx context.Context) error { return listens(ctx, address) }, args[0], args[1:]...)
	})
	return tracee(s, err, h)
}

func listens(ctx context.Context, address string) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return conn.Close()
}
