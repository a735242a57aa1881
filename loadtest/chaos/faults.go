package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/tidemarkmq/tidemark/loadtest/chaos/cluster"
)

// fault is one thing that is done to the cluster and undone. What it does follows from rng alone.
type fault struct {
	name string
	skip func(c *cluster.Cluster) string // why it cannot be done here; empty: it can
	kill bool                            // a broker dies of it, so that the time until it serves again counts
	run  func(ctx context.Context, n *nemesis, rng *rand.Rand) (detail string, err error)
}

func always(*cluster.Cluster) string { return "" }

func needsNetwork(c *cluster.Cluster) string { return c.Network.Reason }

func needsStore(c *cluster.Cluster) string {
	if c.Store == nil {
		return "the object store is a folder"
	}
	return ""
}

var faults = []fault{
	{"kill", always, true, kill},
	{"wipe", func(c *cluster.Cluster) string {
		if c.Durability == "local" {
			return "topics of class local do not survive a lost disk"
		}
		return ""
	}, true, wipe},
	{"pause", always, false, pause},
	{"roll", always, false, roll},
	{"scale", func(c *cluster.Cluster) string {
		if len(c.Brokers) < 3 {
			return "there are fewer than three brokers"
		}
		return ""
	}, false, scale},
	{"store-gone", needsStore, false, weather(func(rng *rand.Rand) cluster.Weather { return cluster.Weather{Gone: true} })},
	{"store-503", needsStore, false, weather(func(rng *rand.Rand) cluster.Weather {
		return cluster.Weather{Refused: 0.3 + 0.5*rng.Float64(), AppliedBut: 0.15}
	})},
	{"store-slow", needsStore, false, weather(func(rng *rand.Rand) cluster.Weather {
		return cluster.Weather{Slow: time.Duration(200+rng.IntN(2500)) * time.Millisecond}
	})},
	{"etcd-leader", always, false, etcdLeader},
	{"etcd-gone", always, false, etcdGone},
	{"cut-etcd", needsNetwork, false, cut("etcd")},
	{"cut-clients", needsNetwork, false, cut("clients")},
	{"cut-store", func(c *cluster.Cluster) string { return needsNetwork(c) + needsStore(c) }, false, cut("store")},
	{"cut-brokers", func(c *cluster.Cluster) string {
		if len(c.Brokers) < 2 {
			return "there is one broker"
		}
		return needsNetwork(c)
	}, false, cut("brokers")},
	{"disk-full", func(c *cluster.Cluster) string {
		if !c.Brokers[0].Mounted {
			return "brokers have no disks of their own: mounting needs root and --disk"
		}
		return ""
	}, false, diskFull},
	{"disk-slow", func(*cluster.Cluster) string {
		if _, err := exec.LookPath("strace"); err != nil || os.Geteuid() != 0 {
			return "needs strace and root"
		}
		return ""
	}, false, diskSlow},
	{"clock", func(*cluster.Cluster) string {
		return "Linux has one wall clock for all processes (time namespaces cover the monotonic clocks only), and Go reads it without libc"
	}, false, nil},
}

// hold keeps a fault for a while, at most the run's longest.
func (n *nemesis) hold(ctx context.Context, rng *rand.Rand, least, most time.Duration) time.Duration {
	d := least + time.Duration(rng.Int64N(int64(most-least)+1))
	d = min(d, n.longest)
	wait(ctx, d)
	return d
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

func (n *nemesis) broker(rng *rand.Rand) *cluster.Server {
	return n.c.Brokers[rng.IntN(len(n.c.Brokers))]
}

// restart starts a broker until it serves: etcd or the store may be gone as well.
func (n *nemesis) restart(ctx context.Context, b *cluster.Server) (err error) {
	for range 3 {
		if err = b.Start(context.WithoutCancel(ctx)); err == nil {
			return nil
		}
		n.logf("%v", err)
	}
	return err
}

func kill(ctx context.Context, n *nemesis, rng *rand.Rand) (string, error) {
	b := n.broker(rng)
	b.Kill()
	d := n.hold(ctx, rng, 0, 3*time.Second)
	return fmt.Sprintf("%s, started again after %v", b.Node.Name, d.Round(time.Millisecond)), n.restart(ctx, b)
}

func wipe(ctx context.Context, n *nemesis, rng *rand.Rand) (string, error) {
	b := n.broker(rng)
	b.Kill()
	if err := b.Wipe(); err != nil {
		return b.Node.Name, err
	}
	n.hold(ctx, rng, 0, 5*time.Second)
	return b.Node.Name + ", disk emptied", n.restart(ctx, b)
}

func pause(ctx context.Context, n *nemesis, rng *rand.Rand) (string, error) {
	b := n.broker(rng)
	err := b.Signal(syscall.SIGSTOP)
	d := n.lease + time.Duration(rng.Int64N(int64(5*time.Second)))
	wait(ctx, d)
	return fmt.Sprintf("%s for %v, lease %v", b.Node.Name, d.Round(time.Millisecond), n.lease), errors.Join(err, b.Signal(syscall.SIGCONT))
}

func roll(ctx context.Context, n *nemesis, _ *rand.Rand) (string, error) {
	for _, b := range n.c.Brokers {
		if err := stopInOrder(b); err != nil {
			return b.Node.Name, errors.Join(err, n.restart(ctx, b))
		}
		if err := n.restart(ctx, b); err != nil {
			return b.Node.Name, err
		}
	}
	return "each broker stopped in order and started again", nil
}

// stopInOrder stops a broker. One that is just stepping down, because others have taken over what it had, has nothing to hand over and says so with
// its exit status.
func stopInOrder(b *cluster.Server) error {
	err := b.Stop()
	if err != nil && strings.Contains(err.Error(), "it steps down") {
		return nil
	}
	return err
}

func weather(make func(*rand.Rand) cluster.Weather) func(context.Context, *nemesis, *rand.Rand) (string, error) {
	return func(ctx context.Context, n *nemesis, rng *rand.Rand) (string, error) {
		w := make(rng)
		n.c.Store.Set(w)
		defer n.c.Store.Set(cluster.Weather{})
		return fmt.Sprintf("%+v for %v", w, n.hold(ctx, rng, 3*time.Second, 30*time.Second).Round(time.Millisecond)), nil
	}
}

func etcdLeader(ctx context.Context, n *nemesis, rng *rand.Rand) (string, error) {
	s := n.c.EtcdLeader(ctx)
	if s == nil {
		return "no etcd server leads", nil
	}
	s.Kill()
	d := n.hold(ctx, rng, time.Second, 15*time.Second)
	return fmt.Sprintf("%s killed, started after %v", s.Node.Name, d.Round(time.Millisecond)), n.restart(ctx, s)
}

func etcdGone(ctx context.Context, n *nemesis, rng *rand.Rand) (string, error) {
	var err error
	for _, s := range n.c.Etcds {
		err = errors.Join(err, s.Signal(syscall.SIGSTOP))
	}
	d := n.hold(ctx, rng, time.Minute, time.Minute)
	for _, s := range n.c.Etcds {
		err = errors.Join(err, s.Signal(syscall.SIGCONT))
	}
	return fmt.Sprintf("all of etcd stands still for %v", d), err
}

// cut separates one broker from others, one way or both.
func cut(what string) func(context.Context, *nemesis, *rand.Rand) (string, error) {
	return func(ctx context.Context, n *nemesis, rng *rand.Rand) (string, error) {
		b := n.broker(rng)
		var others []*cluster.Node
		switch what {
		case "etcd":
			for _, s := range n.c.Etcds {
				others = append(others, s.Node)
			}
		case "clients":
			others = append(others, n.c.Client)
		case "store":
			others = append(others, n.c.StoreAt)
		default:
			for _, s := range n.c.Brokers {
				if s != b {
					others = append(others, s.Node)
				}
			}
		}
		way, how := rng.IntN(3), ""
		var err error
		for _, o := range others {
			for _, end := range [][2]*cluster.Node{{b.Node, o}, {o, b.Node}} {
				from := end[0]
				if way == 0 && from != b.Node || way == 1 && from == b.Node {
					continue
				}
				err = errors.Join(err, n.c.Network.Cut(ctx, from, end[1]))
				defer func() {
					if err := n.c.Network.Heal(context.WithoutCancel(ctx), from, end[1]); err != nil {
						n.logf("%v", err)
					}
				}()
			}
		}
		how = []string{"from it", "towards it", "both ways"}[way]
		d := n.hold(ctx, rng, 3*time.Second, n.lease+15*time.Second)
		return fmt.Sprintf("%s and %s, %s, for %v", b.Node.Name, what, how, d.Round(time.Millisecond)), err
	}
}

func diskFull(ctx context.Context, n *nemesis, rng *rand.Rand) (string, error) {
	b := n.broker(rng)
	if err := b.Fill(); err != nil {
		return b.Node.Name, err
	}
	d := n.hold(ctx, rng, 5*time.Second, 30*time.Second)
	err := b.Free()
	return fmt.Sprintf("%s for %v", b.Node.Name, d.Round(time.Millisecond)), err
}

func diskSlow(ctx context.Context, n *nemesis, rng *rand.Rand) (string, error) {
	b := n.broker(rng)
	by := time.Duration(20+rng.IntN(500)) * time.Millisecond
	err := b.SlowDisk(by)
	d := n.hold(ctx, rng, 3*time.Second, 20*time.Second)
	return fmt.Sprintf("%s: each write takes %v longer, for %v", b.Node.Name, by, d.Round(time.Millisecond)), errors.Join(err, b.FastDisk())
}
