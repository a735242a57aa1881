package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write WIREDIFF.md")

const page = "../WIREDIFF.md"

// render is the page that lists the differences that are meant.
func render() string {
	var b strings.Builder
	b.WriteString("# Answers that differ from Apache Kafka's on purpose\n\n" +
		"`go run ./loadtest/wirediff --seed N --steps M` sends one random sequence of requests to Apache Kafka and to Tidemark and compares the\n" +
		"answers field by field. Any difference fails it but these. What brokers choose by themselves (ids, addresses, times near now) and the\n" +
		"texts of messages are not compared. This page is written by `go test ./loadtest/wirediff -update`.\n\n" +
		"| field | Kafka | Tidemark | reason |\n| --- | --- | --- | --- |\n")
	or := func(pattern string) string {
		if pattern == "" {
			return "any"
		}
		return "`" + pattern + "`"
	}
	for _, a := range acceptances {
		tidemark := or(a.tidemark)
		if a.begins {
			tidemark = "Kafka's and more"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", a.path, or(a.kafka), tidemark, a.reason)
	}
	return b.String()
}

func TestPageListsAcceptedDifferences(t *testing.T) {
	want := render()
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != want {
		t.Error("WIREDIFF.md is not what the table says: run go test ./loadtest/wirediff -update")
	}
}

func TestSequenceFollowsFromItsSeed(t *testing.T) {
	versions := map[int16][2]int16{}
	for key := range int16(80) {
		versions[key] = [2]int16{3, 4}
	}
	for _, s := range sources() {
		if s.weight <= 0 {
			t.Errorf("%s is never drawn", s.name)
		}
	}
	a, b := draw(7, 300, versions, ""), draw(7, 300, versions, "")
	for i := range a {
		if a[i].label != b[i].label {
			t.Fatalf("step %d is %q, then %q", i, a[i].label, b[i].label)
		}
	}
}
