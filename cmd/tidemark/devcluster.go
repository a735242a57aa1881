package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tidemarkmq/tidemark/broker"
	"github.com/tidemarkmq/tidemark/metadata/etcdembed"
)

const (
	maxDevBrokers  = 16
	memberRestart  = time.Second      // until a broker that was killed is started again
	clusterStart   = 30 * time.Second // for the first start of all brokers
	bootstrapPrint = "bootstrap.servers="
)

// runMember is one broker of a cluster that another process, its parent, runs: it ends with the parent, whose end closes its standard input.
func runMember(c broker.Config, newLogger loggerMaker, member int, socket string) error {
	c.NodeID = member
	c.DataDir = memberDir(c.DataDir, member)
	c.Etcd.Embedded, c.Etcd.Endpoints = false, []string{"unix://" + filepath.ToSlash(socket)}
	listen, err := memberListen(c.Listeners, member)
	if err != nil {
		return err
	}
	c.Listeners = []string{listen}
	logger, err := newLogger()
	if err != nil {
		return err
	}
	logger = logger.With("broker", member)
	source := findMemory(&c)
	b, err := broker.New(c, logger)
	if err != nil {
		return err
	}
	tuneRuntime(b.Memory(), source, os.Getenv, logger)
	ctx, cancel := untilSignal(logger)
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // ends when the parent does
		cancel()
	}()
	return b.Run(ctx, func(info broker.Info) { fmt.Println(bootstrapPrint + info.Bootstrap) })
}

func memberDir(dir string, member int) string {
	return filepath.Join(dir, "broker-"+strconv.Itoa(member))
}

// memberListen is the address of a cluster's broker: the first has the one that is stated, the others the ports after it.
func memberListen(listeners []string, member int) (string, error) {
	if len(listeners) != 1 {
		return "", errors.New("listeners: brokers of a cluster have one address each")
	}
	host, text, err := net.SplitHostPort(listeners[0])
	if err != nil {
		return "", fmt.Errorf("listeners: %w", err)
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return "", fmt.Errorf("listeners: %w", err)
	}
	if port > 0 {
		port += uint64(member - 1)
	}
	return net.JoinHostPort(host, strconv.FormatUint(port, 10)), nil
}

// devCluster is a cluster of broker processes under this one, which runs their etcd.
type devCluster struct {
	args    []string // of this process
	restart bool
	socket  string
	logger  *slog.Logger
	tell    sync.Mutex // one line at a time
}

// runCluster runs brokers until a signal comes, starting again those that are killed if restart is set, and ends when all have drained.
func runCluster(c broker.Config, newLogger loggerMaker, brokers int, restart bool, args []string) (err error) {
	logger, err := newLogger()
	if err != nil {
		return err
	}
	ctx, cancel := untilSignal(logger)
	defer cancel()
	// A socket's path is short by nature, so it has a folder of its own, which nobody else can enter.
	dir, err := os.MkdirTemp("", "tidemark-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	d := &devCluster{args: args, restart: restart, socket: filepath.Join(dir, "etcd"), logger: logger}
	etcd, err := etcdembed.Start(ctx, etcdembed.Options{Dir: filepath.Join(c.DataDir, "etcd"), Socket: d.socket, Logger: logger.With("part", "etcd")})
	if err != nil {
		return err
	}
	defer etcd.Close()

	var members sync.WaitGroup
	defer members.Wait()
	defer cancel()
	up, failed := make(chan started, brokers), make(chan error, brokers)
	for i := 1; i <= brokers; i++ {
		members.Go(func() { d.keep(ctx, i, up, failed) })
	}
	first := make([]started, brokers)
	limit := time.After(clusterStart)
	for range brokers {
		select {
		case s := <-up:
			first[s.member-1] = s
		case err := <-failed:
			return err
		case <-limit:
			return fmt.Errorf("not every broker was ready after %v", clusterStart)
		case <-ctx.Done():
			return nil
		}
	}
	greetCluster(c.DataDir, first)
	for {
		select {
		case s := <-up:
			d.say(fmt.Sprintf("broker %d is back at %s, its process is %d", s.member, s.bootstrap, s.pid))
		case err := <-failed:
			d.say(err.Error())
		case <-etcd.Stopped():
			return errors.New("etcd has stopped")
		case <-ctx.Done():
			return nil
		}
	}
}

func (d *devCluster) say(line string) {
	d.tell.Lock()
	defer d.tell.Unlock()
	fmt.Println(line)
}

// started is a broker that serves clients.
type started struct {
	member, pid int
	bootstrap   string
}

// keep runs one broker, again and again where it is killed or gives up, until ctx is done and it has drained. One that does not even begin to serve is
// left.
func (d *devCluster) keep(ctx context.Context, member int, up chan<- started, failed chan<- error) {
	for ctx.Err() == nil {
		served, err := d.runOnce(ctx, member, up)
		if ctx.Err() != nil {
			if err != nil {
				d.logger.Warn("a broker did not end in order; its next start recovers its log", "broker", member, "error", err)
			}
			return
		}
		if err == nil {
			failed <- fmt.Errorf("broker %d was told to stop: it has handed its partitions to the others and will not be started again", member)
			return
		}
		if !d.restart || !served {
			failed <- fmt.Errorf("broker %d is gone: %w", member, err)
			return
		}
		d.say(fmt.Sprintf("broker %d is gone (%v); it is started again", member, err))
		select {
		case <-time.After(memberRestart):
		case <-ctx.Done():
		}
	}
}

// runOnce is one life of a broker. The end of ctx closes its standard input, at which it drains.
func (d *devCluster) runOnce(ctx context.Context, member int, up chan<- started) (served bool, err error) {
	self, err := os.Executable()
	if err != nil {
		return false, err
	}
	cmd := exec.Command(self, slices.Concat([]string{"dev"}, d.args, []string{"--member", strconv.Itoa(member), "--etcd-socket", d.socket})...)
	cmd.Stderr = os.Stderr
	ownGroup(cmd)
	input, err := cmd.StdinPipe()
	if err != nil {
		return false, err
	}
	output, err := cmd.StdoutPipe()
	if err != nil {
		return false, err
	}
	if err := cmd.Start(); err != nil {
		return false, err
	}
	stop := context.AfterFunc(ctx, func() { _ = input.Close() })
	defer stop()
	lines := bufio.NewScanner(output)
	for lines.Scan() {
		if bootstrap, ok := strings.CutPrefix(lines.Text(), bootstrapPrint); ok {
			served = true
			up <- started{member, cmd.Process.Pid, bootstrap}
		}
	}
	return served, cmd.Wait()
}

const clusterGreeting = `%s%s

A Tidemark cluster is ready: %d brokers, each a process of its own, with one etcd and one object store in %s.
%s
To see it survive, kill one while clients are busy; it is started again (unless --restart=false) and recovers its log. Or tell one to leave: it hands its partitions
to the others first. Stop all with Ctrl-C.

`

// greetCluster prints the line that scripts wait for, and then what a person can do next.
func greetCluster(dir string, brokers []started) {
	var addresses []string
	var list strings.Builder
	for _, s := range brokers {
		addresses = append(addresses, s.bootstrap)
		fmt.Fprintf(&list, "\n  broker %d at %s:   kill -9 %d   kills it,   kill %d   lets it leave", s.member, s.bootstrap, s.pid, s.pid)
	}
	fmt.Printf(clusterGreeting, bootstrapPrint, strings.Join(addresses, ","), len(brokers), dir, list.String())
}
