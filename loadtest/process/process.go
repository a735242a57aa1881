// Package process starts brokers as real processes for load tests and measures them from outside. It knows Tidemark only by
// its command line: a broker prints a line `bootstrap.servers=HOST:PORT` on standard output when it is ready.
package process

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	readyWait  = 60 * time.Second
	stopWait   = 120 * time.Second
	probeEvery = 5 * time.Millisecond
	readyLine  = "bootstrap.servers="
)

// BuildTidemark compiles the broker from the module in the current folder into dir and returns the binary's path.
func BuildTidemark(ctx context.Context, dir string) (string, error) {
	bin := filepath.Join(dir, "tidemark")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", bin, "github.com/tidemarkmq/tidemark/cmd/tidemark")
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("build tidemark: %w", err)
	}
	return bin, nil
}

// Broker is a running broker process. Its methods may be called concurrently.
type Broker struct {
	Bootstrap string // HOST:PORT of its listener

	cmd  *exec.Cmd
	done chan struct{}
	err  error // of Wait, once done is closed

	mu   sync.Mutex
	tail []string // last lines of standard error
}

// Start runs the command and waits until it prints its bootstrap line. Standard error is kept (its last lines come with every
// error) and copied to logTo if that is not nil.
func Start(ctx context.Context, logTo io.Writer, name string, args ...string) (*Broker, error) {
	return start(ctx, logTo, nil, name, args)
}

// StartAt runs a command that says nothing: it is ready, at the address given, once probe returns nil. Probe is called every few
// milliseconds from one goroutine.
func StartAt(ctx context.Context, logTo io.Writer, address string, probe func(context.Context) error, name string, args ...string) (*Broker, error) {
	probing, stop := context.WithCancel(ctx)
	defer stop()
	return start(ctx, logTo, func(ready chan<- string) {
		tick := time.NewTicker(probeEvery)
		defer tick.Stop()
		for probe(probing) != nil {
			select {
			case <-tick.C:
			case <-probing.Done():
				return
			}
		}
		ready <- address
	}, name, args)
}

func start(ctx context.Context, logTo io.Writer, await func(chan<- string), name string, args []string) (*Broker, error) {
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr = childAttributes()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	b := &Broker{cmd: cmd, done: make(chan struct{})}
	ready := make(chan string, 2) // of the line and of the probe
	if await != nil {
		go await(ready)
	}
	var readers sync.WaitGroup
	readers.Go(func() { b.readOutput(stdout, ready) })
	readers.Go(func() { b.keepTail(stderr, logTo) })
	go func() {
		readers.Wait()
		b.err = cmd.Wait()
		close(b.done)
	}()
	timeout := time.NewTimer(readyWait)
	defer timeout.Stop()
	select {
	case b.Bootstrap = <-ready:
		return b, nil
	case <-b.done:
		err = fmt.Errorf("%s ended before it was ready: %w\n%s", name, b.exit(), b.Log())
	case <-timeout.C:
		err = fmt.Errorf("%s was not ready within %v\n%s", name, readyWait, b.Log())
	case <-ctx.Done():
		err = ctx.Err()
	}
	b.Kill()
	return nil, err
}

func (b *Broker) readOutput(r io.Reader, ready chan<- string) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if addr, ok := strings.CutPrefix(lines.Text(), readyLine); ok {
			select {
			case ready <- strings.TrimSpace(addr):
			default:
			}
		}
	}
	_, _ = io.Copy(io.Discard, r) // a line too long to scan must not block the process
}

func (b *Broker) keepTail(r io.Reader, logTo io.Writer) {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			if logTo != nil {
				_, _ = io.WriteString(logTo, line)
			}
			b.mu.Lock()
			b.tail = append(b.tail, line)
			if len(b.tail) > 40 {
				b.tail = b.tail[1:]
			}
			b.mu.Unlock()
		}
		if err != nil {
			return
		}
	}
}

// Log returns the last lines of the process's standard error.
func (b *Broker) Log() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Join(b.tail, "")
}

// PID is the process's id.
func (b *Broker) PID() int { return b.cmd.Process.Pid }

// Done is closed when the process has ended.
func (b *Broker) Done() <-chan struct{} { return b.done }

func (b *Broker) exit() error {
	if b.err == nil {
		return errors.New("exit status 0")
	}
	return b.err
}

// Kill sends SIGKILL and waits for the end.
func (b *Broker) Kill() {
	_ = b.cmd.Process.Kill() // it may have ended already
	<-b.done
}

// Stop sends SIGTERM and waits for a clean exit.
func (b *Broker) Stop() error {
	if err := b.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	timeout := time.NewTimer(stopWait)
	defer timeout.Stop()
	select {
	case <-b.done:
	case <-timeout.C:
		b.Kill()
		return fmt.Errorf("process %d did not end within %v of SIGTERM\n%s", b.PID(), stopWait, b.Log())
	}
	if b.err != nil {
		return fmt.Errorf("process %d after SIGTERM: %w\n%s", b.PID(), b.err, b.Log())
	}
	return nil
}
