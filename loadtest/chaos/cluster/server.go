package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/tidemarkmq/tidemark/loadtest/process"
)

// Server is a broker or an etcd server, which is started, killed and started again. One goroutine at a time may use it.
type Server struct {
	Node    *Node
	ID      int32  // of a broker
	Address string // that clients dial
	Data    string // folder, or mount
	Mounted bool   // Data is a disk of its own, so that it can be filled

	name   string
	args   []string
	log    string
	probe  func(context.Context) error // nil: it prints its bootstrap line
	run    atomic.Pointer[process.Broker]
	tracer *exec.Cmd
}

func (s *Server) wal() string { return filepath.Join(s.Data, "data") }

// Start starts the process and waits until it says that it serves.
func (s *Server) Start(ctx context.Context) error {
	log, err := logTo(s.log, "start")
	if err != nil {
		return err
	}
	var p *process.Broker
	if s.probe == nil {
		p, err = process.Start(ctx, log, s.name, s.args...)
	} else {
		p, err = process.StartAt(ctx, log, s.Address, s.probe, s.name, s.args...)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", s.Node.Name, err)
	}
	s.run.Store(p)
	return nil
}

// Running tells whether the process was started and has neither ended nor been killed.
func (s *Server) Running() bool {
	p := s.run.Load()
	if p == nil {
		return false
	}
	select {
	case <-p.Done():
		return false
	default:
		return true
	}
}

// Ended says what the process last wrote, for one that ended by itself.
func (s *Server) Ended() string {
	if p := s.run.Load(); p != nil {
		return p.Log()
	}
	return ""
}

// Kill is kill -9.
func (s *Server) Kill() {
	if p := s.run.Swap(nil); p != nil {
		p.Kill()
	}
}

// Stop is SIGTERM, and waits for the end. The error has the last of the server's log.
func (s *Server) Stop() error {
	p := s.run.Swap(nil)
	if p == nil {
		return nil
	}
	if err := p.Stop(); err != nil {
		return fmt.Errorf("%w\n%s", err, p.Log())
	}
	return nil
}

// Signal sends a signal, such as SIGSTOP.
func (s *Server) Signal(sig syscall.Signal) error {
	if p := s.run.Load(); p != nil {
		return syscall.Kill(p.PID(), sig)
	}
	return nil
}

// Wipe empties the disk of a server that does not run.
func (s *Server) Wipe() error {
	entries, err := os.ReadDir(s.Data)
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(s.Data, e.Name())))
	}
	return err
}

const ballast = "ballast"

// Fill leaves no free space on the disk, until Free.
func (s *Server) Fill() error {
	f, err := os.Create(filepath.Join(s.Data, ballast))
	if err != nil {
		return err
	}
	defer f.Close()
	chunk := make([]byte, 1<<20)
	for size := len(chunk); size >= 4096; {
		if _, err := f.Write(chunk[:size]); errors.Is(err, syscall.ENOSPC) {
			size /= 2
		} else if err != nil {
			return err
		}
	}
	return nil
}

// Free takes away what Fill wrote.
func (s *Server) Free() error { return os.Remove(filepath.Join(s.Data, ballast)) }

// SlowDisk makes each write and sync of the process take so much longer, until FastDisk or its end. It needs strace.
func (s *Server) SlowDisk(by time.Duration) error {
	p := s.run.Load()
	if p == nil {
		return nil
	}
	calls := "fsync,fdatasync,pwrite64,pwritev,pwritev2"
	s.tracer = exec.Command("strace", "-f", "-qqq", "-o", "/dev/null", "-e", "trace="+calls,
		"-e", fmt.Sprintf("inject=%s:delay_enter=%d", calls, by.Microseconds()), "-p", fmt.Sprint(p.PID()))
	return s.tracer.Start()
}

// FastDisk ends SlowDisk.
func (s *Server) FastDisk() error {
	if s.tracer == nil {
		return nil
	}
	err := s.tracer.Process.Signal(os.Interrupt)
	_ = s.tracer.Wait() // says that it was interrupted
	s.tracer = nil
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// disk gives a broker a disk of its own where mounting works.
func (c *Cluster) disk(ctx context.Context, s *Server) error {
	if err := os.MkdirAll(s.Data, 0o700); err != nil || c.DiskBytes <= 0 || os.Geteuid() != 0 {
		return err
	}
	out, err := exec.CommandContext(ctx, "mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%d", c.DiskBytes), "tidemark-chaos", s.Data).CombinedOutput()
	if err != nil {
		return fmt.Errorf("mount a disk: %w: %s", err, out)
	}
	s.Mounted = true
	c.mounted = append(c.mounted, s.Data)
	return nil
}

func unmount(at string) {
	for range 50 { // the kernel needs a moment after the last process ended
		if exec.Command("umount", at).Run() == nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// leads asks an etcd server whether it is its cluster's leader.
func leads(ctx context.Context, address string) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/v3/maintenance/status", bytes.NewReader([]byte("{}")))
	if err != nil {
		return false
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer res.Body.Close()
	var status struct {
		Leader string `json:"leader"`
		Header struct {
			Member string `json:"member_id"`
		} `json:"header"`
	}
	return json.NewDecoder(res.Body).Decode(&status) == nil && status.Leader != "" && status.Leader == status.Header.Member
}
