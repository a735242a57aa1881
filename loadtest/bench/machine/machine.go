// Package machine tells what a load test's processes use and what else goes on where it runs.
package machine

import (
	"errors"
	"time"
)

// Sample is the state of the machine at one time. Times count from boot or process start; only differences mean something.
type Sample struct {
	Known                   bool // false where the system does not tell
	Server, Client          time.Duration
	ServerRSS, ClientRSS    int64
	ServerPeak, ClientPeak  int64
	Servers                 []Use         // the server's share by the process ids asked for, in their order, each with its children
	Others                  time.Duration // of processes that are neither the server nor started by this one; the kernel's own threads are none
	Busy, Steal, PressureAt time.Duration // of all CPUs; time in which some task waited for a CPU
}

// Use is what one process and its children have used.
type Use struct {
	CPU       time.Duration
	RSS, Peak int64 // bytes
}

// ServerUse is one server process's share of a run.
type ServerUse struct {
	CPU     float64 `json:"cpuSeconds"`
	RSS     int64   `json:"rssBytes"`
	PeakRSS int64   `json:"peakRssBytes"`
}

// Report is the difference of two samples, as results have it.
type Report struct {
	Known         bool    `json:"known"`
	ServerCPU     float64 `json:"serverCpuSeconds"`
	ClientCPU     float64 `json:"clientCpuSeconds"`
	ServerRSS     int64   `json:"serverRssBytes"`
	ServerPeakRSS int64   `json:"serverPeakRssBytes"`
	ClientRSS     int64   `json:"clientRssBytes"`
	ClientPeakRSS int64   `json:"clientPeakRssBytes"`
	Pressure      float64 `json:"cpuPressure"` // share of the time in which some task waited for a CPU; −1: unknown
	Steal         float64 `json:"steal"`       // share of the machine that the hypervisor took
	Foreign       float64 `json:"foreignCpus"` // CPUs that other processes used
	Kernel        float64 `json:"kernelCpus"`  // CPUs that no process used: interrupts, network, writing back what the page cache holds
	Disturbed     bool    `json:"disturbed"`

	Servers []ServerUse `json:"servers,omitempty"` // by process id asked for, where there are several
}

// Limits above which a run counts as disturbed by others.
const (
	foreignLimit = 0.10 // of the machine
	stealLimit   = 0.01
)

// Between reports what happened from one sample to another; cpus is the machine's number of CPUs. Without server ids the
// server's share cannot be told from others', so foreign load is not judged.
func Between(a, b Sample, wall time.Duration, cpus int, hasServer bool) Report {
	if !a.Known || !b.Known || wall <= 0 {
		return Report{Pressure: -1}
	}
	r := Report{
		Known: true, ServerCPU: (b.Server - a.Server).Seconds(), ClientCPU: (b.Client - a.Client).Seconds(),
		ServerRSS: b.ServerRSS, ServerPeakRSS: b.ServerPeak, ClientRSS: b.ClientRSS, ClientPeakRSS: b.ClientPeak,
		Pressure: -1, Steal: (b.Steal - a.Steal).Seconds() / wall.Seconds() / float64(cpus),
	}
	if b.PressureAt >= 0 {
		r.Pressure = (b.PressureAt - a.PressureAt).Seconds() / wall.Seconds()
	}
	r.Disturbed = r.Steal > stealLimit
	if hasServer {
		r.Foreign = max(0, (b.Others-a.Others).Seconds()/wall.Seconds())
		r.Kernel = max(0, ((b.Busy-a.Busy)-(b.Server-a.Server)-(b.Client-a.Client)-(b.Others-a.Others)).Seconds()/wall.Seconds())
		r.Disturbed = r.Disturbed || r.Foreign > foreignLimit*float64(cpus)
	}
	if len(b.Servers) > 1 && len(a.Servers) == len(b.Servers) {
		for i, u := range b.Servers {
			r.Servers = append(r.Servers, ServerUse{CPU: (u.CPU - a.Servers[i].CPU).Seconds(), RSS: u.RSS, PeakRSS: u.Peak})
		}
	}
	return r
}

// Info describes the machine.
type Info struct {
	CPUModel string `json:"cpu,omitempty"`
	Kernel   string `json:"kernel,omitempty"`
	Memory   int64  `json:"memoryBytes,omitempty"`
}

// ErrNoProcess says that a server process does not exist.
var ErrNoProcess = errors.New("no such process")
