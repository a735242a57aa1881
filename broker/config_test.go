package broker

import (
	"strings"
	"testing"
	"time"
)

// TestDeleteGraceHasAFloor: with 0 the maintainer would take its own default, and with very little no manifest is ever published.
func TestDeleteGraceHasAFloor(t *testing.T) {
	for grace, ok := range map[time.Duration]bool{0: false, time.Millisecond: false, minDeleteGrace - 1: false, minDeleteGrace: true, Default().DeleteGrace: true} {
		c := Default()
		c.DeleteGrace = grace
		if err := c.Validate(); strings.Contains(err.Error(), "delete-grace") == ok {
			t.Errorf("%v: %v", grace, err)
		}
	}
}

func TestAddressesAreChecked(t *testing.T) {
	check := func(change func(*Config)) string {
		c := Default()
		c.NodeID, c.DataDir, c.Durability, c.ObjectStore.URL = 1, "x", "local", "memory://"
		c.Etcd.Endpoints = []string{"http://127.0.0.1:2379"}
		change(&c)
		if err := c.Validate(); err != nil {
			return err.Error()
		}
		return ""
	}
	for address, ok := range map[string]bool{"foo:9092": true, "[::1]:1": true, "foo:0": false, "foo:kafka": false, "foo:65536": false, ":9092": false, "0.0.0.0:9092": false, "foo": false} {
		if got := check(func(c *Config) { c.AdvertisedListener = address }); (got == "") != ok || !ok && !strings.Contains(got, "advertised-listener") {
			t.Errorf("advertised-listener %s: %q", address, got)
		}
	}
	for endpoint, ok := range map[string]bool{
		"http://etcd:2379": true, "https://[::1]:2379/": true, "etcd:2379": true,
		"ftp://x": false, "http://x": false, "http://x:0": false, "http://u@x:1": false, "http://x:1/path": false, "x": false, "": false,
	} {
		if got := check(func(c *Config) { c.Etcd.Endpoints = []string{endpoint} }); (got == "") != ok || !ok && !strings.Contains(got, "etcd.endpoints") {
			t.Errorf("etcd.endpoints %q: %q", endpoint, got)
		}
	}
	if got := check(func(c *Config) { c.Etcd.Embedded = true }); !strings.Contains(got, "etcd.endpoints") {
		t.Errorf("endpoints beside an embedded etcd: %q", got)
	}
}
