package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// metrics are the series of a /metrics page: the name with its labels as they stand there, and the value.
type metrics map[string]float64

const mostMetrics = 16 << 20 // bytes of a page

// parseMetrics reads Prometheus' text format as far as this program needs it: no timestamps.
func parseMetrics(text string) (metrics, error) {
	m := metrics{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		at := strings.LastIndexByte(line, ' ')
		if at < 0 {
			return nil, fmt.Errorf("metrics: %q has no value", line)
		}
		v, err := strconv.ParseFloat(line[at+1:], 64)
		if err != nil {
			return nil, fmt.Errorf("metrics: %w in %q", err, line)
		}
		m[strings.TrimSpace(line[:at])] = v
	}
	return m, nil
}

// sum of the series of a name that carry all the labels, each written NAME="VALUE".
func (m metrics) sum(name string, labels ...string) float64 {
	total := 0.0
next:
	for series, v := range m {
		rest, ok := strings.CutPrefix(series, name)
		if !ok || rest != "" && rest[0] != '{' {
			continue
		}
		for _, l := range labels {
			if !strings.Contains(rest, "{"+l) && !strings.Contains(rest, ","+l) {
				continue next
			}
		}
		total += v
	}
	return total
}

// requests to the object store of a kind, with every attempt and every outcome.
func (m metrics) requests(kind string) float64 {
	return m.sum("tidemark_objectstore_request_duration_seconds_count", `kind="`+kind+`"`)
}

// etcdWrites are transactions, and leases granted and revoked. Those that only read, or whose condition failed, count too: it is what
// etcd is asked to write at most. Renewals of leases do not pass through etcd's log and are left out.
func (m metrics) etcdWrites() float64 {
	const name = "tidemark_metadata_requests_total"
	return m.sum(name, `kind="txn"`) + m.sum(name, `kind="grant"`) + m.sum(name, `kind="revoke"`)
}

func (m metrics) lag() float64     { return m.sum("tidemark_tiering_lag_bytes") }
func (m metrics) pending() float64 { return m.sum("tidemark_tiering_pending") }

// storeKinds are the kinds of requests to the object store, in the order of tables.
var storeKinds = []string{"put", "get", "list", "head", "delete"}

// needed are series that every broker shows: without them a sum of 0 would be a lie.
var needed = []string{"tidemark_metadata_requests_total", "tidemark_objectstore_request_duration_seconds_count",
	"tidemark_partition_append_records_total", "tidemark_partition_append_batches_total", "tidemark_partition_append_bytes_total"}

// complete is an error that names what the broker does not show. The gauges of tiering have the value 0 at first.
func (m metrics) complete() error {
	for _, name := range needed {
		found := false
		for series := range m {
			found = found || series == name || strings.HasPrefix(series, name+"{")
		}
		if !found {
			return fmt.Errorf("the broker does not show %s", name)
		}
	}
	for _, name := range []string{"tidemark_tiering_lag_bytes", "tidemark_tiering_pending"} {
		if _, ok := m[name]; !ok {
			return fmt.Errorf("the broker does not show %s", name)
		}
	}
	return nil
}

// scrape reads the page of a broker's admin listener.
func scrape(ctx context.Context, address string) (metrics, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", http.NoBody)
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(res.Body, mostMetrics))
	if err = errors.Join(err, res.Body.Close()); err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", req.URL, res.Status)
	}
	m, err := parseMetrics(string(text))
	if err == nil {
		err = m.complete()
	}
	return m, err
}
