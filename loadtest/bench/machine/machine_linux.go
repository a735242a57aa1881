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
	all, err := processes()
	if err != nil {
		return s, err
	}
	children := map[int][]int{}
	for pid, p := range all {
		children[p.parent] = append(children[p.parent], pid)
	}
	seen := map[int]bool{}
	for _, pid := range servers {
		u, err := process.UsageOf(pid)
		if err != nil {
			return s, fmt.Errorf("server process %d: %w (%w)", pid, ErrNoProcess, err)
		}
		use := Use{u.CPU, u.RSSBytes, u.PeakRSSBytes}
		seen[pid] = true
		walk(pid, children, seen, func(child int) {
			if u, err := process.UsageOf(child); err == nil { // it may have ended meanwhile
				use.CPU, use.RSS, use.Peak = use.CPU+u.CPU, use.RSS+u.RSSBytes, use.Peak+u.PeakRSSBytes
			}
		})
		s.Servers = append(s.Servers, use)
		s.Server, s.ServerRSS, s.ServerPeak = s.Server+use.CPU, s.ServerRSS+use.RSS, s.ServerPeak+use.Peak
	}
	own, err := process.UsageOf(os.Getpid())
	if err != nil {
		return s, err
	}
	s.Client, s.ClientRSS, s.ClientPeak = own.CPU, own.RSSBytes, own.PeakRSSBytes
	seen[os.Getpid()] = true
	walk(os.Getpid(), children, seen, func(int) {}) // what this process has started disturbs nobody: it belongs to the test
	for pid, p := range all {
		if !seen[pid] && pid != kernelThreads && p.parent != kernelThreads {
			s.Others += p.cpu
		}
	}
	return s, s.system()
}

// walk calls do for all below pid that were not seen yet.
func walk(pid int, children map[int][]int, seen map[int]bool, do func(int)) {
	for _, child := range children[pid] {
		if !seen[child] {
			seen[child] = true
			do(child)
			walk(child, children, seen, do)
		}
	}
}

// kernelThreads is the parent of all of them.
const kernelThreads = 2

// one is a process: its CPU time with that of children that have ended, so that nothing is lost with them.
type one struct {
	parent int
	cpu    time.Duration
}

// processes reads all that there are now.
func processes() (map[int]one, error) {
	names, err := readNames("/proc")
	if err != nil {
		return nil, err
	}
	all := make(map[int]one, len(names))
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + name + "/stat")
		if err != nil {
			continue // it has ended
		}
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		if len(fields) < 15 {
			continue
		}
		p := one{}
		p.parent, _ = strconv.Atoi(string(fields[1]))
		for _, f := range fields[11:15] { // utime, stime, cutime, cstime
			n, _ := strconv.ParseInt(string(f), 10, 64)
			p.cpu += time.Duration(n) * tick
		}
		all[pid] = p
	}
	return all, nil
}

func readNames(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Readdirnames(-1)
}

// system reads what the whole machine has used.
func (s *Sample) system() error {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return err
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
