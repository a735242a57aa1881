package main

import (
	"errors"
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

// TestMistakesAreExplained: the message says what is wrong with the value, in the operator's words.
func TestMistakesAreExplained(t *testing.T) {
	for text, want := range map[string]string{
		"wal: 5":                        "wal: one value or a list stands where a section",
		"wal: [1, 2]":                   "such as wal.accept-loss",
		"rack: a\n---\nrack: b":         "second YAML document",
		"seal-bytes: 64Mx":              `seal-bytes: "64Mx" is not a number of bytes, also with a unit`,
		"seal-bytes: 9999999999GiB":     "too large",
		"node-id: 64MiB":                "a whole number",
		"profiling: perhaps":            "true or false",
		"seal-age: 5":                   "a duration with its unit",
		"wal: {segment-bytes: 1.5 GiB}": "wal.segment-bytes",
	} {
		c := broker.Default()
		err := applyFile(&c, writeFile(t, text))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "strconv") {
			t.Errorf("%q: %v; want one that says %q", text, err, want)
		}
	}
	for _, text := range []string{"", "---\nrack: a\n", "wal:\n", "# nothing\n"} {
		c := broker.Default()
		if err := applyFile(&c, writeFile(t, text)); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestSizesMayHaveUnits(t *testing.T) {
	for text, want := range map[string]int64{"5": 5, "0": 0, "64MiB": 64 << 20, "64mib": 64 << 20, "1 GiB": 1 << 30, "3KiB": 3 << 10, "2KB": 2000, "2MB": 2e6, "2GB": 2e9} {
		if got, err := parseBytes(text); err != nil || got != want {
			t.Errorf("%q: %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "MiB", "1.5GiB", "64Mi", "1e6", "9223372036854775807KB"} {
		if got, err := parseBytes(text); err == nil {
			t.Errorf("%q gave %d", text, got)
		}
	}
	for n, want := range map[int64]string{0: "0", 1000: "1000", 1 << 10: "1KiB", 64 << 20: "64MiB", 3 << 30: "3GiB"} {
		if got := formatBytes(n); got != want {
			t.Errorf("%d is shown as %q, want %q", n, got, want)
		}
	}
	c := broker.Default()
	fs := flag.NewFlagSet("broker", flag.ContinueOnError)
	applyFlags := addFlags(fs, &c)
	if err := fs.Parse([]string{"--seal-bytes", "32MiB"}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(applyFile(&c, writeFile(t, "wal: {max-bytes: 8GiB}")), applyEnv(&c, []string{"TIDEMARK_BLOCK_CACHE_BYTES=64MB"}), applyFlags()); err != nil {
		t.Fatal(err)
	}
	if c.SealBytes != 32<<20 || c.WAL.MaxBytes != 8<<30 || c.BlockCacheBytes != 64e6 {
		t.Errorf("got %+v", c)
	}
}

func TestDevRefusesSettingsOfAnExternalEtcd(t *testing.T) {
	dir := t.TempDir()
	for _, args := range [][]string{
		{"--etcd.endpoints", "http://127.0.0.1:1"},
		{"--etcd.ca-file", "x.pem"},
		{"--object-store.ca-file", "x.pem"},
		{"--object-store.url", "s3://x/y"},
		{"--listeners", "127.0.0.1:0"},
	} {
		err := runDev(append([]string{"--data-dir", dir, "--listen", "127.0.0.1:0", "--admin-listener="}, args...))
		if err == nil || !strings.Contains(err.Error(), "etcd") && !strings.Contains(err.Error(), "s3") && !strings.Contains(err.Error(), "listeners") {
			t.Errorf("%v: %v", args, err)
		}
	}
}

func TestVersionHasHelp(t *testing.T) {
	if err := dispatch([]string{"version", "--help"}); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("version --help: %v", err)
	}
	if err := dispatch([]string{"version", "x"}); !errors.Is(err, errUsage) {
		t.Errorf("version x: %v", err)
	}
}

func TestDumpSaysThatNothingIsThere(t *testing.T) {
	var out strings.Builder
	if err := runDump(&out, []string{t.TempDir()}); err == nil || !strings.Contains(err.Error(), "no WAL segment") {
		t.Errorf("dump of an empty folder: %v, %q", err, out.String())
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
