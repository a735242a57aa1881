// Package broker assembles one Tidemark broker from its parts and runs it: metadata, object store, write-ahead log,
// tiers, partitions, coordinators and listeners.
package broker

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/tidemarkmq/tidemark/metadata"
)

// Config is everything that an operator can say of one broker. The `key` tags name the settings in configuration files
// (nested by dots), in flags (--KEY) and in the environment (TIDEMARK_KEY with dots and dashes as underscores).
type Config struct {
	NodeID             int           `key:"node-id" help:"Kafka node id of this broker; unique in the cluster"`
	ClusterID          string        `key:"cluster-id" help:"cluster id that etcd must hold; empty: take it from etcd, where it is made if absent"`
	Listeners          []string      `key:"listeners" help:"addresses on which Kafka clients are served, HOST:PORT; port 0 lets the system choose"`
	AdvertisedListener string        `key:"advertised-listener" help:"HOST:PORT told to clients; empty: the first listener's own"`
	AdminListener      string        `key:"admin-listener" help:"address of /livez, /readyz and /metrics; empty: none"`
	Profiling          bool          `key:"profiling" help:"serve the Go runtime's profiles on the admin listener, below /debug/pprof/, to clients on this machine; mutex and block with ?seconds=N record that long"`
	Rack               string        `key:"rack" help:"failure domain told to clients"`
	DataDir            string        `key:"data-dir" help:"folder of the write-ahead log (and, for dev, of etcd and the object store)"`
	Durability         string        `key:"durability" help:"durability class of all topics: local acknowledges what is synced to this broker's disk, quorum what is synced to the disks of several brokers, object what is in the object store"`
	Replication        Replication   `key:"replication"`
	Etcd               EtcdConfig    `key:"etcd"`
	ObjectStore        StoreConfig   `key:"object-store"`
	WAL                WALConfig     `key:"wal"`
	MemoryBytes        int64         `key:"memory-bytes" help:"memory that the process may use; 0: its container's limit, if there is one. Sizes that are not stated are smaller where they would not fit"`
	TailCacheBytes     int64         `key:"tail-cache-bytes" help:"memory for the newest records, outside the Go heap; 0: 128MiB, or less as memory-bytes says"`
	BlockCacheBytes    int64         `key:"block-cache-bytes" help:"memory for blocks read from the object store, and a quarter more for indexes; 0: 128MiB, or less as memory-bytes says"`
	RequestMemoryBytes int64         `key:"request-memory-bytes" help:"memory for requests being read, over all connections, and as a measure of that for decoded ones and for answers; 0: 256MiB, or less as memory-bytes says"`
	NetworkBytes       int64         `key:"network-bytes-per-second" help:"what this machine's network moves, both directions together, for the metric tidemark.broker.utilization; 0: not counted"`
	MaxConnections     int           `key:"max-connections" help:"client connections at most"`
	CheckCompressed    bool          `key:"check-compressed" help:"decompress the batches of producers and check each record, as Kafka does; false saves that CPU, and then a faulty producer can store batches that no consumer can read"`
	SealBytes          int64         `key:"seal-bytes" help:"records are moved to the object store once this many bytes wait; five times as many may be on their way; 0: 16MiB, or less as memory-bytes says"`
	Lease              time.Duration `key:"lease" help:"how long the broker counts as live without a sign of life in etcd; then others take over what they can"`
	SealAge            time.Duration `key:"seal-age" help:"records are moved to the object store once they have waited this long; 0: 5s, or 100ms where that is what they are acknowledged for"`
	AbsorbEvery        time.Duration `key:"absorb-every" help:"time between publications of partition manifests"`
	DeleteGrace        time.Duration `key:"delete-grace" help:"time between an object's last mention and its deletion, at least 10s"`
	DrainTimeout       time.Duration `key:"drain-timeout" help:"time that a stop waits for the object store at most; what is not drained then needs this disk again; 0: as long as it takes"`
	// Kafka holds broker configs of Kafka by their own names, such as num.partitions or auto.create.topics.enable.
	Kafka map[string]string `key:"kafka" help:"broker configs of Kafka, by Kafka's names"`
}

// EtcdConfig says where etcd is. With Embedded set, the other fields but Prefix are not used.
type EtcdConfig struct {
	Embedded     bool     `key:"-"`
	Endpoints    []string `key:"endpoints" help:"URLs of the etcd cluster's client ports"`
	Prefix       string   `key:"prefix" help:"prefix of every key"`
	Username     string   `key:"username" help:"etcd user; empty: no authentication"`
	PasswordFile string   `key:"password-file" help:"file that holds the etcd user's password"`
	CAFile       string   `key:"ca-file" help:"PEM file of the authorities that sign etcd's certificates"`
	CertFile     string   `key:"cert-file" help:"PEM file of the client certificate for etcd"`
	KeyFile      string   `key:"key-file" help:"PEM file of the client certificate's key"`
}

// StoreConfig says where objects are kept.
type StoreConfig struct {
	URL           string `key:"url" help:"s3://BUCKET/PREFIX?endpoint=URL&region=R&path-style=true, or file:///FOLDER"`
	AccessKeyFile string `key:"access-key-file" help:"file that holds the access key; else AWS_ACCESS_KEY_ID, then the machine's role"`
	SecretKeyFile string `key:"secret-key-file" help:"file that holds the secret key; else AWS_SECRET_ACCESS_KEY, then the machine's role"`
	CAFile        string `key:"ca-file" help:"PEM file of the authorities that sign the object store's certificate"`
}

// WALConfig shapes the write-ahead log.
type WALConfig struct {
	SegmentBytes int64  `key:"segment-bytes" help:"size of one segment file"`
	MaxBytes     int64  `key:"max-bytes" help:"disk space of records that are not in the object store yet, where a batch counts at least 1 KiB (up to 4 KiB where memory is scarce); beyond it producers wait; 0: 4GiB, or less as memory-bytes says"`
	Sync         string `key:"sync" help:"auto, direct (O_DIRECT and O_DSYNC) or data (fdatasync)"`
	AcceptLoss   bool   `key:"accept-loss" help:"start although the log of a former run is missing; what was acknowledged and only there is lost for good"`
}

// Replication says how brokers keep each other's write-ahead logs, for the class quorum.
type Replication struct {
	Members    int    `key:"members" help:"brokers that keep each record of the class quorum until it is in the object store; it is acknowledged when more than half of them have synced it"`
	Listener   string `key:"listener" help:"address on which other brokers reach the replicas on this disk, HOST:PORT; port 0 lets the system choose"`
	Advertised string `key:"advertised" help:"HOST:PORT told to other brokers; empty: the listener's own"`
	CAFile     string `key:"ca-file" help:"PEM file of the authorities that sign the brokers' certificates"`
	CertFile   string `key:"cert-file" help:"PEM file of this broker's certificate, for both sides of a connection"`
	KeyFile    string `key:"key-file" help:"PEM file of the certificate's key"`
	Insecure   bool   `key:"insecure" help:"replicate without TLS over a network: whoever reaches the listener can read and forge records"`
}

// quorum is how many members must have a record before it is acknowledged.
func (r *Replication) quorum() int { return r.Members/2 + 1 }

func (r *Replication) validate(bad func(key, format string, args ...any)) {
	if r.Members < 2 || r.Members > metadata.MaxEnsembleMembers {
		bad("replication.members", "%d is outside 2 to %d", r.Members, metadata.MaxEnsembleMembers)
	}
	host, _, err := net.SplitHostPort(r.Listener)
	if err != nil {
		bad("replication.listener", "%v", err)
	}
	if err := checkDialled(r.Advertised); r.Advertised != "" && err != nil {
		bad("replication.advertised", "%v", err)
	}
	files := 0
	for _, f := range []string{r.CAFile, r.CertFile, r.KeyFile} {
		if f != "" {
			files++
		}
	}
	ip := net.ParseIP(host)
	switch {
	case files != 0 && files != 3:
		bad("replication", "ca-file, cert-file and key-file belong together")
	case files == 0 && !r.Insecure && (ip == nil || !ip.IsLoopback()):
		bad("replication", "other machines reach %q: state ca-file, cert-file and key-file, or insecure if nobody but brokers is in that network", r.Listener)
	}
}

// Default returns the settings of a production broker that no operator needs to state. Node id, etcd, object store, data
// folder and durability have no default; sizes of 0 are completed by New so that they fit into the memory that there is.
func Default() Config {
	return Config{
		NodeID:          -1,
		Listeners:       []string{"127.0.0.1:9092"},
		AdminListener:   "127.0.0.1:9644",
		Etcd:            EtcdConfig{Prefix: "/tidemark"},
		WAL:             WALConfig{SegmentBytes: 64 << 20, Sync: "auto"},
		MaxConnections:  10_000,
		Lease:           5 * time.Second,
		Replication:     Replication{Members: 3, Listener: "127.0.0.1:0"},
		CheckCompressed: true,
		AbsorbEvery:     5 * time.Minute,
		DeleteGrace:     10 * time.Minute,
		Kafka:           map[string]string{},
	}
}

// classes are the durability classes that a broker may have.
var classes = map[string]metadata.Class{"local": metadata.ClassLocal, "quorum": metadata.ClassQuorum, "object": metadata.ClassObject}

const durabilityHelp = "local (records are acknowledged once they are synced to this broker's disk, in about a millisecond; a lost disk loses those not yet in the object store), " +
	"quorum (once they are synced to the disks of more than half of replication.members brokers, in a few milliseconds) or object (once they are in the object store, in some tenths " +
	"of a second; a broker and its disk may be lost at any time)"

// sealAge is seal-age with its default.
func (c *Config) sealAge() time.Duration {
	switch {
	case c.SealAge > 0:
		return c.SealAge
	case classes[c.Durability] == metadata.ClassObject:
		return 100 * time.Millisecond
	}
	return 5 * time.Second
}

// minDeleteGrace leaves time to store a manifest: one that took longer than half of the grace must not be published any more.
const minDeleteGrace = 10 * time.Second

// Validate reports everything that is wrong or missing, each with the setting's key.
func (c *Config) Validate() error {
	var errs []error
	bad := func(key, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: %s", key, fmt.Sprintf(format, args...)))
	}
	if c.NodeID < 0 {
		bad("node-id", "must be stated, 0 or more")
	}
	if len(c.Listeners) == 0 {
		bad("listeners", "at least one address is needed")
	}
	for _, l := range c.Listeners {
		if _, _, err := net.SplitHostPort(l); err != nil {
			bad("listeners", "%v", err)
		}
	}
	if c.AdminListener != "" {
		if _, _, err := net.SplitHostPort(c.AdminListener); err != nil {
			bad("admin-listener", "%v", err)
		}
	}
	if err := checkDialled(c.AdvertisedListener); c.AdvertisedListener != "" && err != nil {
		bad("advertised-listener", "%v", err)
	}
	if c.DataDir == "" {
		bad("data-dir", "must be stated")
	}
	if _, ok := classes[c.Durability]; !ok {
		bad("durability", "%q: must be stated: %s", c.Durability, durabilityHelp)
	}
	c.Replication.validate(bad)
	c.Etcd.validate(bad)
	if !strings.HasPrefix(c.Etcd.Prefix, "/") {
		bad("etcd.prefix", "must begin with /")
	}
	if c.ObjectStore.URL == "" {
		bad("object-store.url", "must be stated")
	}
	switch c.WAL.Sync {
	case "auto", "direct", "data":
	default:
		bad("wal.sync", "%q is none of auto, direct, data", c.WAL.Sync)
	}
	ranges := map[string]struct{ got, least, most int64 }{
		"node-id":                  {int64(max(c.NodeID, 0)), 0, 1<<31 - 1},
		"wal.segment-bytes":        {c.WAL.SegmentBytes, 16 << 20, 4 << 30},
		"memory-bytes":             {c.MemoryBytes, 0, 1 << 50},
		"wal.max-bytes":            {c.WAL.MaxBytes, 4 * c.WAL.SegmentBytes, 1 << 50},
		"tail-cache-bytes":         {c.TailCacheBytes, leastTailBytes, 1 << 40},
		"block-cache-bytes":        {c.BlockCacheBytes, leastCacheBytes, 1 << 40},
		"request-memory-bytes":     {c.RequestMemoryBytes, leastCacheBytes, 1 << 40},
		"network-bytes-per-second": {c.NetworkBytes, 0, 1 << 50},
		"max-connections":          {int64(c.MaxConnections), 1, 1 << 20},
		"seal-bytes":               {c.SealBytes, 1 << 20, 1 << 30},
		"seal-age (ms)":            {c.SealAge.Milliseconds(), 50, 3_600_000},
		"lease (ms)":               {c.Lease.Milliseconds(), 2000, 120_000},
		"absorb-every (ms)":        {c.AbsorbEvery.Milliseconds(), 100, 86_400_000},
		"delete-grace (ms)":        {c.DeleteGrace.Milliseconds(), minDeleteGrace.Milliseconds(), 604_800_000},
	}
	for _, key := range []string{"wal.max-bytes", "tail-cache-bytes", "block-cache-bytes", "request-memory-bytes", "seal-bytes", "seal-age (ms)"} {
		if ranges[key].got == 0 {
			delete(ranges, key) // left open
		}
	}
	for key, r := range ranges {
		if r.got < r.least || r.got > r.most {
			bad(key, "%d is outside %d to %d", r.got, r.least, r.most)
		}
	}
	return errors.Join(errs...)
}

// validate checks the way to etcd. Where etcd is inside the process, a setting of another one would be a misunderstanding.
func (c *EtcdConfig) validate(bad func(key, format string, args ...any)) {
	if c.Embedded {
		for key, stated := range map[string]bool{
			"endpoints": len(c.Endpoints) > 0, "username": c.Username != "", "password-file": c.PasswordFile != "",
			"ca-file": c.CAFile != "", "cert-file": c.CertFile != "", "key-file": c.KeyFile != "",
		} {
			if stated {
				bad("etcd."+key, "dev runs an etcd of its own inside the process and connects to no other; `tidemark broker` connects to an external one")
			}
		}
		return
	}
	if len(c.Endpoints) == 0 {
		bad("etcd.endpoints", "at least one URL is needed")
	}
	for _, endpoint := range c.Endpoints {
		if err := checkEndpoint(endpoint); err != nil {
			bad("etcd.endpoints", "%q: %v", endpoint, err)
		}
	}
}

// checkEndpoint takes http[s]://HOST:PORT, a bare HOST:PORT, and unix:///PATH.
func checkEndpoint(endpoint string) error {
	form := errors.New("must be of the form http[s]://HOST:PORT")
	if path, ok := strings.CutPrefix(endpoint, "unix://"); ok && filepath.IsAbs(path) {
		return nil
	}
	address := endpoint
	if strings.Contains(endpoint, "://") {
		u, err := url.Parse(endpoint)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
			return form
		}
		address = u.Host
	}
	if err := checkDialled(address); err != nil {
		return fmt.Errorf("%w: %w", form, err)
	}
	return nil
}

// checkDialled checks a HOST:PORT that somebody is to connect to.
func checkDialled(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("address %s: the port must be a number from 1 to 65535", address)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		return fmt.Errorf("address %s: nobody can connect to the host %q", address, host)
	}
	return nil
}
