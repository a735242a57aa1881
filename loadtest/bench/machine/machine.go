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
	Busy, Steal, PressureAt time.Duration // of all CPUs; time in which some task waited for a CPU
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
	Foreign       float64 `json:"foreignCpus"` // CPUs that neither server nor client used; the kernel's own work for the disk is in it
	Disturbed     bool    `json:"disturbed"`
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
		r.Foreign = max(0, ((b.Busy-a.Busy)-(b.Server-a.Server)-(b.Client-a.Client)).Seconds()/wall.Seconds())
		r.Disturbed = r.Disturbed || r.Foreign > foreignLimit*float64(cpus)
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
