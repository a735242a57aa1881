package machine

import (
	"testing"
	"time"
)

func TestBetween(t *testing.T) {
	a := Sample{Known: true, PressureAt: -1, Servers: make([]Use, 2)}
	b := Sample{
		Known: true, PressureAt: -1, Server: 6 * time.Second, Client: 5 * time.Second, Others: time.Second, Busy: 15 * time.Second,
		Servers: []Use{{CPU: 2 * time.Second, RSS: 1, Peak: 2}, {CPU: 4 * time.Second, RSS: 3, Peak: 4}},
	}
	r := Between(a, b, 10*time.Second, 2, true)
	if r.Foreign != 0.1 || r.Kernel != 0.3 || r.Disturbed {
		t.Errorf("a run that the kernel's own work is beside: %+v", r)
	}
	if len(r.Servers) != 2 || r.Servers[0] != (ServerUse{2, 1, 2}) || r.Servers[1] != (ServerUse{4, 3, 4}) {
		t.Errorf("servers apart: %+v", r.Servers)
	}
	b.Others, b.Busy = 3*time.Second, 17*time.Second
	if r := Between(a, b, 10*time.Second, 2, true); r.Foreign != 0.3 || !r.Disturbed {
		t.Errorf("another process took 0.3 of 2 CPUs: %+v", r)
	}
	if r := Between(a, b, 10*time.Second, 2, false); r.Disturbed || r.Foreign != 0 {
		t.Errorf("without a server nobody can be told from others: %+v", r)
	}
}
