package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/tidemarkmq/tidemark/broker"
)

// runBroker runs a broker on an external etcd and object store.
func runBroker(args []string) error {
	c := broker.Default()
	fs := flag.NewFlagSet("broker", flag.ContinueOnError)
	file := fs.String("config", "", "YAML configuration file")
	newLogger := logFlags(fs, "info")
	applyFlags := addFlags(fs, &c)
	if err := parse(fs, args); err != nil {
		return err
	}
	if *file != "" {
		if err := applyFile(&c, *file); err != nil {
			return err
		}
	}
	if err := applyEnv(&c, os.Environ()); err != nil {
		return err
	}
	if err := applyFlags(); err != nil {
		return err
	}
	return run(c, newLogger, func(info broker.Info) { fmt.Printf("bootstrap.servers=%s\n", info.Bootstrap) })
}

// runDev runs a broker with etcd and the object store inside the process, on the loopback interface.
func runDev(args []string) error {
	c := broker.Default()
	c.NodeID = 1
	c.Durability = "local"
	c.Etcd.Embedded = true
	c.AdminListener = "127.0.0.1:0"
	c.DataDir = "tidemark-data"
	c.Kafka["group.initial.rebalance.delay.ms"] = "0" // nobody else is about to join a laptop's group
	fs := flag.NewFlagSet("dev", flag.ContinueOnError)
	listen := fs.String("listen", "", "address to serve Kafka clients on; port 0 lets the system choose (default 127.0.0.1:9092)")
	brokers := fs.Int("brokers", 1, "run a cluster of so many brokers, each a process of its own, at the given port and those after it")
	restart := fs.Bool("restart", true, "start a broker of such a cluster again when it was killed")
	member := fs.Int("member", 0, "be one broker of such a cluster; the process that runs the cluster states it")
	socket := fs.String("etcd-socket", "", "where that process's etcd is")
	newLogger := logFlags(fs, "warn")
	applyFlags := addFlags(fs, &c)
	if err := parse(fs, args); err != nil {
		return err
	}
	if err := applyEnv(&c, os.Environ()); err != nil {
		return err
	}
	if err := applyFlags(); err != nil {
		return err
	}
	if *brokers < 1 || *brokers > maxDevBrokers {
		return fmt.Errorf("brokers: must be 1 to %d", maxDevBrokers)
	}
	if *listen != "" {
		if given(fs, "listeners") {
			return errors.New("--listen and --listeners say the same: state one of them")
		}
		c.Listeners = []string{*listen}
	}
	if c.DataDir == "" {
		return fmt.Errorf("data-dir: must be stated")
	}
	dir, err := filepath.Abs(c.DataDir)
	if err != nil {
		return err
	}
	c.DataDir = dir
	if c.ObjectStore.URL == "" {
		c.ObjectStore.URL = "file://" + filepath.ToSlash(filepath.Join(dir, "objects"))
	}
	switch {
	case *member > 0:
		return runMember(c, newLogger, *member, *socket)
	case *brokers > 1:
		return runCluster(c, newLogger, *brokers, *restart, args)
	}
	return run(c, newLogger, func(info broker.Info) { greet(info) })
}

// given tells whether a flag stands on the command line.
func given(fs *flag.FlagSet, name string) (found bool) {
	fs.Visit(func(f *flag.Flag) { found = found || f.Name == name })
	return found
}

func run(c broker.Config, newLogger loggerMaker, ready func(broker.Info)) error {
	logger, err := newLogger()
	if err != nil {
		return err
	}
	source := findMemory(&c)
	b, err := broker.New(c, logger)
	if err != nil {
		return err
	}
	tuneRuntime(b.Memory(), source, os.Getenv, logger)
	ctx, cancel := untilSignal(logger)
	defer cancel()
	return b.Run(ctx, ready)
}

const greeting = `bootstrap.servers=%[1]s

Tidemark is ready. Its data is in %[2]s
and survives restarts; metrics are at http://%[3]s/metrics. Stop it with Ctrl-C. In another terminal:

  with kcat:
    echo 'hello' | kcat -P -b %[1]s -t greetings
    kcat -C -e -b %[1]s -t greetings

  with the tools of Apache Kafka:
    kafka-console-producer.sh --bootstrap-server %[1]s --topic greetings
    kafka-console-consumer.sh --bootstrap-server %[1]s --topic greetings --from-beginning

`

// greet prints the line that scripts wait for, and then what a person can do next.
func greet(info broker.Info) {
	fmt.Printf(greeting, info.Bootstrap, info.DataDir, info.Admin)
}
