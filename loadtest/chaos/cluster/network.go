// Package cluster runs what a chaos run breaks: brokers, etcd and MinIO as real processes, each in a network namespace of its own where
// the system allows it, and the faults of network, store, disk and processes.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
)

// nowhere is a hardware address that no port of the bridge has: what is sent to it is dropped in silence, as by a broken switch.
const nowhere = "02:00:00:00:ff:ff"

// tagPrefix begins the names of bridges and namespaces; the number of the process that made them follows.
const tagPrefix = "tmc"

// Network gives each node an address, and cuts the way from one to another. Without root all nodes are on the loopback interface,
// and nothing can be cut. Its methods may be called concurrently.
type Network struct {
	tag, subnet string
	Isolated    bool   // nodes have namespaces, so that cuts work
	Reason      string // why not

	mu    sync.Mutex
	nodes []*Node
}

// Node is one machine of the network.
type Node struct {
	Name, IP string
	space    string // namespace; empty: the program's own
}

// NewNetwork makes a bridge, with an address for this program's clients.
func NewNetwork(ctx context.Context) (*Network, error) {
	pid := os.Getpid()
	n := &Network{tag: fmt.Sprintf("%s%d", tagPrefix, pid), subnet: fmt.Sprintf("127.%d.%d.", 100+pid%100, pid/100%250)}
	if os.Geteuid() != 0 {
		n.Reason = "network namespaces need root"
		return n, nil
	}
	removeAbandoned(ctx)
	if err := ip(ctx, "link", "add", n.tag, "type", "bridge"); err != nil {
		n.Reason = "network namespaces do not work here: " + err.Error()
		return n, nil
	}
	n.Isolated, n.subnet = true, fmt.Sprintf("10.%d.%d.", 100+pid%100, pid/100%250)
	for _, args := range [][]string{{"addr", "add", n.subnet + "1/24", "dev", n.tag}, {"link", "set", n.tag, "up"}} {
		if err := ip(ctx, args...); err != nil {
			n.Close()
			return nil, err
		}
	}
	return n, nil
}

// removeAbandoned removes the networks of runs that were killed.
func removeAbandoned(ctx context.Context) {
	abandoned := func(name string) bool {
		tag, ok := strings.CutPrefix(name, tagPrefix)
		if !ok {
			return false
		}
		number, _, _ := strings.Cut(tag, "-")
		if _, err := strconv.Atoi(number); err != nil {
			return false
		}
		_, err := os.Stat("/proc/" + number)
		return errors.Is(err, fs.ErrNotExist)
	}
	spaces, _ := os.ReadDir("/run/netns") // not there before the first one
	for _, s := range spaces {
		if abandoned(s.Name()) {
			_ = ip(ctx, "netns", "del", s.Name())
		}
	}
	links, _ := os.ReadDir("/sys/class/net")
	for _, l := range links {
		if abandoned(l.Name()) {
			_ = ip(ctx, "link", "del", l.Name())
		}
	}
}

// Clients is the node of this program.
func (n *Network) Clients() *Node { return &Node{Name: "clients", IP: n.subnet + "1"} }

// Add makes a node with the number given, from 2 to 254.
func (n *Network) Add(ctx context.Context, name string, number int) (*Node, error) {
	node := &Node{Name: name, IP: fmt.Sprintf("%s%d", n.subnet, number)}
	n.mu.Lock()
	n.nodes = append(n.nodes, node)
	n.mu.Unlock()
	if !n.Isolated {
		return node, nil
	}
	node.space = n.tag + "-" + name
	outside := fmt.Sprintf("%s.%d", n.tag, number)
	if err := ip(ctx, "netns", "add", node.space); err != nil {
		return nil, err
	}
	for _, args := range [][]string{
		{"link", "add", outside, "type", "veth", "peer", "name", "eth0", "netns", node.space},
		{"link", "set", outside, "master", n.tag, "up"},
		{"-n", node.space, "addr", "add", node.IP + "/24", "dev", "eth0"},
		{"-n", node.space, "link", "set", "eth0", "up"},
		{"-n", node.space, "link", "set", "lo", "up"},
	} {
		if err := ip(ctx, args...); err != nil {
			return nil, err
		}
	}
	return node, nil
}

// Command is the command line that runs a program on the node.
func (node *Node) Command(name string, args ...string) (string, []string) {
	if node.space == "" {
		return name, args
	}
	return "ip", append([]string{"netns", "exec", node.space, name}, args...)
}

// Cut drops all packets from one node to another from now on; the other direction stays. Connections notice nothing but silence.
func (n *Network) Cut(ctx context.Context, from, to *Node) error {
	return ip(ctx, n.neighbour(from, "replace", to, "lladdr", nowhere, "nud", "permanent")...)
}

// Heal ends a cut.
func (n *Network) Heal(ctx context.Context, from, to *Node) error {
	return ip(ctx, n.neighbour(from, "del", to)...)
}

func (n *Network) neighbour(at *Node, verb string, of *Node, rest ...string) []string {
	if at.space == "" {
		return append([]string{"neigh", verb, of.IP, "dev", n.tag}, rest...)
	}
	return append([]string{"-n", at.space, "neigh", verb, of.IP, "dev", "eth0"}, rest...)
}

// Close removes namespaces and bridge. What still runs in them keeps running without a network.
func (n *Network) Close() {
	if !n.Isolated {
		return
	}
	ctx := context.Background()
	for _, node := range n.nodes {
		_ = ip(ctx, "netns", "del", node.space) // may not have been made
	}
	_ = ip(ctx, "link", "del", n.tag)
}

func ip(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, "ip", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
