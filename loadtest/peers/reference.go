package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/tidemarkmq/tidemark/loadtest/process"
)

const (
	reference      = "reference"
	referenceTopic = "bench" // one that is there already, with as many partitions as the row has
)

// referenceRows are those in which programs given with --reference run beside.
var referenceRows = []string{"1-p12", "1-raw", "2-c1", "2-raw"}

// references are programs that show what is possible: NAME=COMMAND, once for each.
type references []peer

func (r *references) String() string { return "" }

var plainName = regexp.MustCompile(`^[a-z][a-z0-9]*$`)

// Set takes one. In its command, {listen} is the address to listen on, {port} its port, {partitions} the row's number of them and {dir}
// an empty folder. One without {listen} and {port} prints `bootstrap.servers=HOST:PORT` when it is ready. Words are split at spaces.
func (r *references) Set(text string) error {
	name, command, ok := strings.Cut(text, "=")
	if !ok || !plainName.MatchString(name) || strings.TrimSpace(command) == "" {
		return errors.New("give NAME=COMMAND, the name in small letters")
	}
	if slices.ContainsFunc(peers, func(p peer) bool { return p.id == name }) || slices.ContainsFunc(*r, func(p peer) bool { return p.id == name }) {
		return fmt.Errorf("there is a peer named %s already", name)
	}
	*r = append(*r, peer{
		id: name, name: name, class: reference, reference: true, command: command,
		start: func(ctx context.Context, _ *binaries, dir string, h how) (*server, error) {
			return startReference(ctx, command, dir, h)
		},
	})
	return nil
}

func startReference(ctx context.Context, command, dir string, h how) (*server, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(address) // it is one
	placed := strings.Contains(command, "{listen}") || strings.Contains(command, "{port}")
	fill := strings.NewReplacer("{listen}", address, "{port}", port, "{partitions}", fmt.Sprint(max(1, h.partitions)), "{dir}", dir)
	// Some end with their standard input, so it is a pipe that stays open.
	words := []string{"sh", "-c", `mkfifo "$0" && exec "$@" 0<>"$0"`, filepath.Join(dir, "stdin")}
	for _, w := range strings.Fields(command) {
		words = append(words, fill.Replace(w))
	}
	return begin(nil, func() (*process.Broker, error) {
		if !placed {
			return process.Start(ctx, nil, words[0], words[1:]...)
		}
		return process.StartAt(ctx, nil, address, func(ctx context.Context) error { return listens(ctx, address) }, words[0], words[1:]...)
	})
}
