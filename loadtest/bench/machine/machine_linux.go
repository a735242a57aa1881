package machine

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tidemarkmq/tidemark/loadtest/process"
)

const tick = 10 * time.Millisecond // the kernel's, in /proc

// Take samples now. Servers are given by process id; their children count as well. A server that does not exist is an error.
func Take(servers []int) (Sample, error) {
	s := Sample{Known: true, PressureAt: -1}
	for _, pid := range servers {
		if err := s.addTree(pid, 0); err != nil {
			return s, err
		}
	}
	own, err := process.UsageOf(os.Getpid())
	if err != nil {
		return s, err
	}
	s.Client, s.ClientRSS, s.ClientPeak = own.CPU, own.RSSBytes, own.PeakRSSBytes
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return s, err
	}
	line, _, _ := bytes.Cut(stat, []byte("\n"))
	for i, f := range strings.Fields(string(line)) { // cpu user nice system idle iowait irq softirq steal guest guest_nice
		n, _ := strconv.ParseInt(f, 10, 64)
		switch i {
		case 1, 2, 3, 6, 7:
			s.Busy += time.Duration(n) * tick
		case 8:
			s.Steal = time.Duration(n) * tick
		}
	}
	if text, err := os.ReadFile("/proc/pressure/cpu"); err == nil {
		if _, total, ok := strings.Cut(string(text), "total="); ok {
			total, _, _ = strings.Cut(total, "\n")
			if micros, err := strconv.ParseInt(total, 10, 64); err == nil {
				s.PressureAt = time.Duration(micros) * time.Microsecond
			}
		}
	}
	return s, nil
}

// maxDepth bounds the walk over children.
const maxDepth = 8

func (s *Sample) addTree(pid, depth int) error {
	u, err := process.UsageOf(pid)
	if err != nil {
		if depth > 0 {
			return nil // a child that has ended meanwhile
		}
		return fmt.Errorf("server process %d: %w (%w)", pid, ErrNoProcess, err)
	}
	s.Server += u.CPU
	s.ServerRSS += u.RSSBytes
	s.ServerPeak += u.PeakRSSBytes
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil || depth == maxDepth {
		return nil
	}
	for _, t := range tasks {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", pid, t.Name()))
		if err != nil {
			continue // it has ended, or this kernel does not tell
		}
		for _, f := range bytes.Fields(text) {
			if child, err := strconv.Atoi(string(f)); err == nil {
				if err := s.addTree(child, depth+1); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// Describe says what machine this is.
func Describe() Info {
	var i Info
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		i.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				i.CPUModel = strings.TrimSpace(value)
				break
			}
		}
	}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		i.Memory = int64(info.Totalram) * int64(info.Unit)
	}
	return i
}
