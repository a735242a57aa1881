package main

import (
	"testing"
	"testing/fstest"
)

func TestContainerMemory(t *testing.T) {
	const v2Root = "29 22 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
	const v1Root = "33 22 0:30 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n34 22 0:31 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
	for name, c := range map[string]struct {
		groups, mounts string
		files          map[string]string
		want           int64
		from           string
	}{
		"nothing":                         {},
		"version 2, the namespace's root": {"0::/\n", v2Root, map[string]string{"memory.max": "536870912\n"}, 512 << 20, "memory.max"},
		"version 2, no limit":             {"0::/a\n", v2Root, map[string]string{"a/memory.max": "max\n", "a/memory.high": "max\n"}, 0, ""},
		"version 2, a parent's limit is smaller": {
			"0::/pods/one/two\n", v2Root,
			map[string]string{"pods/one/two/memory.max": "2147483648\n", "pods/one/memory.max": "1073741824", "pods/memory.max": "max\n"}, 1 << 30, "pods/one/memory.max",
		},
		"version 2, high is below max": {"0::/a\n", v2Root, map[string]string{"a/memory.max": "3000000", "a/memory.high": "2000000"}, 2_000_000, "a/memory.high"},
		"version 2, the mounted group": {
			"0::/docker/abc/deep\n", "29 22 0:26 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw\n",
			map[string]string{"deep/memory.max": "max", "memory.max": "7000000"}, 7_000_000, "memory.max",
		},
		"version 1": {
			"5:cpu,cpuacct:/x\n4:memory:/x/y\n0::/\n", v1Root,
			map[string]string{"memory/x/y/memory.limit_in_bytes": "268435456\n", "memory/x/memory.limit_in_bytes": "9223372036854771712\n", "cpu/x/memory.limit_in_bytes": "1"},
			256 << 20, "memory/x/y/memory.limit_in_bytes",
		},
		"version 1, no limit": {"4:memory:/\n", v1Root, map[string]string{"memory/memory.limit_in_bytes": "9223372036854771712\n"}, 0, ""},
		"version 1, a group out of sight": {
			"4:memory:/kubepods/abc\n", "34 22 0:31 /kubepods/xyz /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
			map[string]string{"memory/memory.limit_in_bytes": "12345678"}, 12_345_678, "memory/memory.limit_in_bytes",
		},
		"both, version 2 elsewhere": {
			"4:memory:/m\n0::/\n", v1Root + "35 22 0:32 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
			map[string]string{"memory/m/memory.limit_in_bytes": "5000000"}, 5_000_000, "memory/m/memory.limit_in_bytes",
		},
		"not a number": {"0::/\n", v2Root, map[string]string{"memory.max": "lots"}, 0, ""},
		"cut short":    {"0:\nmemory\n", "29 22 -\n", nil, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			tree := fstest.MapFS{}
			if c.groups != "" {
				tree["proc/self/cgroup"] = &fstest.MapFile{Data: []byte(c.groups)}
				tree["proc/self/mountinfo"] = &fstest.MapFile{Data: []byte("22 1 8:1 / / rw - ext4 /dev/sda rw\n" + c.mounts)}
			}
			for name, text := range c.files {
				tree["sys/fs/cgroup/"+name] = &fstest.MapFile{Data: []byte(text)}
			}
			from := ""
			if c.from != "" {
				from = "/sys/fs/cgroup/" + c.from
			}
			if got, source := containerMemory(tree); got != c.want || source != from {
				t.Errorf("got %d from %q, want %d from %q", got, source, c.want, from)
			}
		})
	}
}
