//go:build unix

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const readyWait = time.Minute

// cluster is a running `tidemark dev --brokers`.
type cluster struct {
	cmd   *exec.Cmd
	seeds []string
	pids  []int // of the brokers
	ended chan struct{}
}

var pidLine = regexp.MustCompile(`broker \d+ at .* kill (\d+)   lets it leave`)

// startCluster starts brokers, none of which is started again when it dies, and waits until they serve clients.
func startCluster(ctx context.Context, binary, dir string, brokers int, args ...string) (*cluster, error) {
	args = append([]string{"dev", "--brokers", strconv.Itoa(brokers), "--restart=false", "--listen", "127.0.0.1:0", "--data-dir", dir, "--log-level", "error"}, args...)
	c := &cluster{cmd: exec.CommandContext(ctx, binary, args...), ended: make(chan struct{})}
	c.cmd.Stderr = os.Stderr
	c.cmd.Cancel = func() error { return c.cmd.Process.Signal(os.Interrupt) } // it ends its brokers
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	lines := make(chan string)
	go func() {
		for s := bufio.NewScanner(out); s.Scan(); {
			lines <- s.Text()
		}
		close(lines)
	}()
	limit := time.After(readyWait)
	for len(c.pids) < brokers {
		select {
		case line, more := <-lines:
			if !more {
				return nil, fmt.Errorf("%s ended: %w", binary, c.cmd.Wait())
			}
			if seeds, ok := strings.CutPrefix(line, "bootstrap.servers="); ok {
				c.seeds = strings.Split(seeds, ",")
			}
			if m := pidLine.FindStringSubmatch(line); m != nil {
				pid, err := strconv.Atoi(m[1])
				if err != nil {
					return nil, err
				}
				c.pids = append(c.pids, pid)
			}
		case <-limit:
			return nil, errors.Join(errors.New("the cluster is not ready after a minute"), c.stop())
		}
	}
	go func() {
		for range lines { // so that it never waits for a reader
		}
		close(c.ended)
	}()
	return c, nil
}

// signal does to a broker what the fault says.
func (c *cluster) signal(broker int, s syscall.Signal) error { return syscall.Kill(c.pids[broker], s) }

// stop ends the cluster in order.
func (c *cluster) stop() error {
	if err := c.cmd.Process.Signal(os.Interrupt); err != nil {
		return err
	}
	<-c.ended
	return c.cmd.Wait()
}
