package main

import (
	"bytes"
	"io/fs"
	"path"
	"strconv"
	"strings"
)

// noMemoryLimit is where limits begin that mean none: version 1 says so with a number near the largest one.
const noMemoryLimit = 1 << 60

// containerMemory is the smallest memory limit of the control groups that the process is in, from its own up to the topmost that
// it sees, with the file that says so; 0 where there is none. It reads Linux's /proc/self and /sys/fs/cgroup below root (the file
// system's root, but for tests). Version 2: memory.max, and memory.high, from which on the kernel stalls the process. Version 1:
// memory.limit_in_bytes. Source: the kernel's admin-guide/cgroup-v2 and cgroup-v1/memory, cgroups(7), proc_pid_mountinfo(5).
func containerMemory(root fs.FS) (limitBytes int64, source string) {
	groups, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return 0, "" // not Linux, or no /proc: nothing to know
	}
	mounts := cgroupMounts(root)
	for line := range strings.Lines(string(groups)) {
		_, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		controllers, group, ok := strings.Cut(rest, ":")
		if !ok {
			continue
		}
		version2 := controllers == ""
		names := []string{"memory.limit_in_bytes"}
		if version2 {
			names = []string{"memory.max", "memory.high"}
		} else if !hasWord(controllers, "memory") {
			continue
		}
		for _, m := range mounts {
			if m.version2 != version2 {
				continue
			}
			for dir := m.folderOf(group); ; dir = path.Dir(dir) {
				for _, name := range names {
					file := path.Join(dir, name)
					if n := readLimit(root, file); n > 0 && (limitBytes == 0 || n < limitBytes) {
						limitBytes, source = n, "/"+file
					}
				}
				if len(dir) <= len(m.point) {
					break
				}
			}
		}
	}
	return limitBytes, source
}

// cgroupMount is a mounted hierarchy that may limit memory.
type cgroupMount struct {
	root     string // the group that is mounted
	point    string // where, without the first slash
	version2 bool
}

// cgroupMounts finds the hierarchies in mountinfo: ID PARENT DEVICE ROOT POINT OPTIONS [FIELDS...] - TYPE SOURCE SUPEROPTIONS.
func cgroupMounts(root fs.FS) (mounts []cgroupMount) {
	text, err := fs.ReadFile(root, "proc/self/mountinfo")
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(text)) {
		before, after, _ := strings.Cut(line, " - ")
		f, g := strings.Fields(before), strings.Fields(after)
		if len(f) < 5 || len(g) < 3 {
			continue
		}
		if g[0] == "cgroup2" || g[0] == "cgroup" && hasWord(g[2], "memory") {
			mounts = append(mounts, cgroupMount{root: f[3], point: strings.TrimPrefix(path.Clean(f[4]), "/"), version2: g[0] == "cgroup2"})
		}
	}
	return mounts
}

// folderOf is the folder of a group, as /proc/self/cgroup names it. Inside a container without a namespace of its own that may be
// a group that is not in sight; then it is the mounted one.
func (m cgroupMount) folderOf(group string) string {
	group = path.Clean("/" + group)
	if m.root != "/" {
		switch rest, ok := strings.CutPrefix(group, m.root); {
		case ok && (rest == "" || rest[0] == '/'):
			group = rest
		default:
			group = ""
		}
	}
	return path.Join(m.point, group)
}

func hasWord(list, word string) bool {
	for w := range strings.SplitSeq(list, ",") {
		if w == word {
			return true
		}
	}
	return false
}

// readLimit is the number in the file; 0: there is no file, or no limit.
func readLimit(root fs.FS, file string) int64 {
	text, err := fs.ReadFile(root, file)
	if err != nil {
		return 0
	}
	n, err := strconv.ParseInt(string(bytes.TrimSpace(text)), 10, 64) // "max" is no number
	if err != nil || n >= noMemoryLimit {
		return 0
	}
	return max(n, 1)
}
