package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/tidemarkmq/tidemark/loadtest/process"
)

//go:embed kafka.properties
var kafkaProperties string

const (
	kafkaPOM     = "loadtest/compat/java/pom.xml"
	kafkaCluster = "V2lyZURpZmZlcmVuY2VzQQ"
	anyPort      = "127.0.0.1:0"
)

var pomVersion = regexp.MustCompile(`<kafka.version>(.*)</kafka.version>`)

// jars returns the folder of Apache Kafka's classes, which Maven fills at the first run.
func jars(ctx context.Context) (dir, version string, err error) {
	pom, err := os.ReadFile(kafkaPOM)
	if err != nil {
		return "", "", fmt.Errorf("run this from the module's folder: %w", err)
	}
	m := pomVersion.FindSubmatch(pom)
	if m == nil {
		return "", "", fmt.Errorf("%s names no version of Kafka", kafkaPOM)
	}
	version = string(m[1])
	tools := os.Getenv("TIDEMARK_TOOLS")
	if tools == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return "", "", err
		}
		tools = filepath.Join(cache, "tidemark-tools")
	}
	dir = filepath.Join(tools, "kafka-"+version)
	if _, err := os.Stat(filepath.Join(dir, "kafka-clients-"+version+".jar")); errors.Is(err, os.ErrNotExist) {
		out, err := exec.CommandContext(ctx, "mvn", "-q", "-B", "-f", kafkaPOM, "dependency:copy-dependencies", "-DoutputDirectory="+dir).CombinedOutput()
		if err != nil {
			return "", "", fmt.Errorf("fetch Kafka: %w\n%s", err, out)
		}
	}
	return dir, version, nil
}

func startKafka(ctx context.Context, dir string) (*process.Broker, error) {
	classes, _, err := jars(ctx)
	if err != nil {
		return nil, err
	}
	var addresses, ports [2]string
	for i := range addresses {
		ln, err := net.Listen("tcp", anyPort)
		if err != nil {
			return nil, err
		}
		defer func() { _ = ln.Close() }() // closed before, unless something fails
		addresses[i] = ln.Addr().String()
		_, ports[i], _ = net.SplitHostPort(addresses[i]) // it is one
		if err := ln.Close(); err != nil {
			return nil, err
		}
	}
	file := filepath.Join(dir, "server.properties")
	text := strings.NewReplacer("{dir}", filepath.Join(dir, "kafka"), "{port}", ports[0], "{controller}", ports[1]).Replace(kafkaProperties)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	cp := filepath.Join(classes, "*")
	jvm := []string{"-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx512m", "-cp", cp}
	out, err := exec.CommandContext(ctx, "java", append(jvm, "kafka.tools.StorageTool", "format", "-t", kafkaCluster, "-c", file)...).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("format Kafka's folder: %w\n%s", err, out)
	}
	return process.StartAt(ctx, nil, addresses[0], func(ctx context.Context) error {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", addresses[0])
		if err != nil {
			return err
		}
		return conn.Close()
	}, "java", append(jvm, "kafka.Kafka", file)...)
}

func startTidemark(ctx context.Context, binary, dir string) (*process.Broker, error) {
	if binary == "" {
		var err error
		if binary, err = process.BuildTidemark(ctx, dir); err != nil {
			return nil, err
		}
	}
	return process.Start(ctx, nil, binary, "dev", "--listen", anyPort, "--data-dir", filepath.Join(dir, "tidemark"))
}
