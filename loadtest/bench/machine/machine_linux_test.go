package machine

import (
	"errors"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// A process that this one started is no other, and as a server it is counted apart.
func TestTake(t *testing.T) {
	cmd := exec.Command("sh", "-c", "sh -c 'while :; do :; done'; true") // a child of a child works
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // both
		_ = cmd.Wait()
	}()
	deadline := time.Now().Add(time.Minute)
	for time.Now().Before(deadline) {
		s, err := Take([]int{cmd.Process.Pid})
		if err != nil {
			t.Fatal(err)
		}
		if len(s.Servers) != 1 || s.Server != s.Servers[0].CPU || s.ServerRSS == 0 {
			t.Fatalf("%+v", s)
		}
		if s.Servers[0].CPU >= 50*time.Millisecond {
			return
		}
		time.Sleep(10 * time.Millisecond) // the child needs time to use any
	}
	t.Error("the child's CPU time never came")
}

func TestTakeOfNoProcess(t *testing.T) {
	if _, err := Take([]int{1 << 30}); !errors.Is(err, ErrNoProcess) {
		t.Error(err)
	}
}
