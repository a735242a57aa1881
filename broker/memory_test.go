package broker

import (
	"strings"
	"testing"
)

const testSlab = 8 << 20

func fitted(t *testing.T, limit int64, change func(*Config)) (Config, *MemoryPlan, error) {
	t.Helper()
	c := Default()
	c.MemoryBytes = limit
	if change != nil {
		change(&c)
	}
	p, err := c.fitMemory(testSlab)
	return c, p, err
}

func TestWithoutALimitSizesAreTheFullOnes(t *testing.T) {
	for _, limit := range []int64{0, 16 << 30} {
		c, p, err := fitted(t, limit, nil)
		if err != nil || c.TailCacheBytes != 128<<20 || c.BlockCacheBytes != 128<<20 || c.RequestMemoryBytes != 256<<20 || c.SealBytes != 16<<20 ||
			c.WAL.MaxBytes != 4<<30 || p.chargeBytes != 1<<10 || len(c.Kafka) != 0 {
			t.Errorf("%d: %+v, %+v, %v", limit, c, p, err)
		}
		if (limit == 0) != (p.GoLimitBytes == 0) {
			t.Errorf("%d: %+v", limit, p)
		}
	}
}

// TestOpenSizesFitEveryLimit: from the least on, everything together stays below the limit, and more memory never means less of anything.
func TestOpenSizesFitEveryLimit(t *testing.T) {
	var before Config
	for limit := int64(250 << 20); limit < 5<<30; limit += 17 << 20 {
		c, p, err := fitted(t, limit, nil)
		if err != nil {
			t.Fatalf("%d MiB: %v", limit>>20, err)
		}
		if sum := p.heapBytes() + p.OutsideBytes + p.SpareBytes; sum > limit || p.GoLimitBytes+p.OutsideBytes+p.SpareBytes != limit || p.heapBytes() > p.GoLimitBytes {
			t.Errorf("%d MiB: %d MiB in all, plan %+v", limit>>20, sum>>20, p)
		}
		if c.TailCacheBytes%testSlab != 0 || c.TailCacheBytes < leastTailBytes {
			t.Errorf("%d MiB: tail cache of %d", limit>>20, c.TailCacheBytes)
		}
		if c.TailCacheBytes < before.TailCacheBytes || p.GoLimitBytes <= 0 {
			t.Errorf("%d MiB: less than before: %+v", limit>>20, c)
		}
		valid := c
		valid.NodeID, valid.DataDir, valid.Durability, valid.ObjectStore.URL, valid.Etcd.Embedded = 1, "x", "local", "memory://", true
		if err := valid.Validate(); err != nil {
			t.Errorf("%d MiB: %v", limit>>20, err)
		}
		before = c
	}
}

func TestAQuarterOfAGibibyteIsEnough(t *testing.T) {
	c, p, err := fitted(t, 256<<20, nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.Kafka[maxFrameKey] == "" || p.LargestRequestBytes < leastMaxFrame || p.chargeBytes != mostCharge {
		t.Errorf("%+v, %+v", c.Kafka, p)
	}
	c, p, err = fitted(t, 512<<20, nil)
	if err != nil || len(c.Kafka) != 0 || p.LargestRequestBytes != 0 {
		t.Errorf("Kafka's largest request does not fit half a gibibyte: %v, %v", c.Kafka, err)
	}
}

func TestWhatIsStatedIsKept(t *testing.T) {
	c, p, err := fitted(t, 1<<30, func(c *Config) {
		c.SealBytes, c.BlockCacheBytes = 32<<20, 200<<20
		c.Kafka[maxFrameKey] = "70000000"
	})
	if err != nil || c.SealBytes != 32<<20 || c.BlockCacheBytes != 200<<20 || c.Kafka[maxFrameKey] != "70000000" {
		t.Errorf("%+v, %v, %v", c, p, err)
	}
}

func TestTooLittleMemoryNamesTheSettings(t *testing.T) {
	for name, try := range map[string]struct {
		limit  int64
		change func(*Config)
		want   []string
	}{
		"nothing stated":    {128 << 20, nil, []string{"128 MiB", "tail-cache-bytes 32 MiB", "raise the limit"}},
		"much stated":       {512 << 20, func(c *Config) { c.TailCacheBytes = 400 << 20 }, []string{"memory-bytes", "512 MiB", "tail-cache-bytes 400 MiB"}},
		"a great log":       {512 << 20, func(c *Config) { c.WAL.MaxBytes = 64 << 30 }, []string{"wal.max-bytes 1024 MiB"}},
		"seals":             {1 << 30, func(c *Config) { c.SealBytes = 256 << 20 }, []string{"seal-bytes 1280 MiB"}},
		"a largest request": {300 << 20, func(c *Config) { c.Kafka[maxFrameKey] = "209715200" }, []string{"kafka." + maxFrameKey + " 192 MiB"}},
	} {
		_, _, err := fitted(t, try.limit, try.change)
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		for _, want := range try.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q does not say %q", name, err, want)
			}
		}
	}
	if _, _, err := fitted(t, 0, func(c *Config) { c.Kafka[maxFrameKey] = "many" }); err == nil || !strings.Contains(err.Error(), maxFrameKey) {
		t.Errorf("a setting that is no number: %v", err)
	}
}
