package main

import (
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/tidemarkmq/tidemark/broker"
)

func writeFile(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "broker.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestFileEnvironmentAndFlagsInThatOrder(t *testing.T) {
	c := broker.Default()
	fs := flag.NewFlagSet("broker", flag.ContinueOnError)
	applyFlags := addFlags(fs, &c)
	if err := fs.Parse([]string{"--rack", "flag", "--etcd.prefix=/flag"}); err != nil {
		t.Fatal(err)
	}
	file := writeFile(t, `
node-id: 7
rack: file
seal-age: 250ms
listeners: ["127.0.0.1:0", "[::1]:0"]
etcd: {endpoints: ["http://127.0.0.1:1"], prefix: /file, username: file}
kafka: {num.partitions: 3, log: {retention: {hours: 1}}}
`)
	if err := applyFile(&c, file); err != nil {
		t.Fatal(err)
	}
	env := []string{"PATH=/bin", "TIDEMARK_ETCD_USERNAME=env", "TIDEMARK_RACK=env", "TIDEMARK_KAFKA=auto.create.topics.enable=false", "TIDEMARK_PORT_9092_TCP=tcp://10.0.0.1:9092"}
	if err := applyEnv(&c, env); err != nil {
		t.Fatal(err)
	}
	if err := applyFlags(); err != nil {
		t.Fatal(err)
	}
	if c.NodeID != 7 || c.Rack != "flag" || c.Etcd.Prefix != "/flag" || c.Etcd.Username != "env" || c.SealAge != 250*time.Millisecond {
		t.Errorf("got %+v", c)
	}
	if want := []string{"127.0.0.1:0", "[::1]:0"}; !reflect.DeepEqual(c.Listeners, want) {
		t.Errorf("listeners %q", c.Listeners)
	}
	want := map[string]string{"num.partitions": "3", "log.retention.hours": "1", "auto.create.topics.enable": "false"}
	if !reflect.DeepEqual(c.Kafka, want) {
		t.Errorf("kafka %v", c.Kafka)
	}
}

func TestUnknownKeysAreNamed(t *testing.T) {
	for text, key := range map[string]string{
		"nod-id: 1":                `"nod-id"`,
		"etcd: {endpoint: [a]}":    `"etcd.endpoint"`,
		"wal.segment-byte: 1":      `"wal.segment-byte"`,
		"rack: {a: b}":             "rack",
		"node-id: many":            "node-id",
		"seal-age: 5":              "seal-age",
		"object-store: {url: [a]}": "object-store.url",
	} {
		c := broker.Default()
		if err := applyFile(&c, writeFile(t, text)); err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%s: error %v does not name %s", text, err, key)
		}
	}
	c := broker.Default()
	if err := applyEnv(&c, []string{"TIDEMARK_NODEID=1"}); err == nil || !strings.Contains(err.Error(), "TIDEMARK_NODEID") {
		t.Errorf("error %v does not name the variable", err)
	}
}

func TestEverySettingHasHelpAndADistinctVariable(t *testing.T) {
	c := broker.Default()
	seen := map[string]string{}
	for _, s := range settings(&c) {
		if s.help == "" {
			t.Errorf("%s has no help", s.key)
		}
		if other, ok := seen[s.env()]; ok {
			t.Errorf("%s and %s share %s", s.key, other, s.env())
		}
		seen[s.env()] = s.key
	}
}

func TestValidateNamesWhatIsMissing(t *testing.T) {
	c := broker.Default()
	err := c.Validate()
	if err == nil {
		t.Fatal("the defaults alone are no broker")
	}
	for _, key := range []string{"node-id", "data-dir", "durability", "etcd.endpoints", "object-store.url"} {
		if !strings.Contains(err.Error(), key+":") {
			t.Errorf("%v does not name %s", err, key)
		}
	}
}
