package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"

	"github.com/tidemarkmq/tidemark/loadtest/bench/machine"
	"github.com/tidemarkmq/tidemark/loadtest/disk"
	"github.com/tidemarkmq/tidemark/loadtest/process"
)

const kafkaPOM = "loadtest/compat/java/pom.xml"

// output runs a command and returns what it prints.
func output(ctx context.Context, name string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: %w\n%s", name, err, out)
	}
	return strings.TrimSpace(string(out)), err
}

// prepare builds what is ours and fetches what is others'.
func prepare(ctx context.Context, dir string) (*binaries, error) {
	b := &binaries{null: filepath.Join(dir, "nullbroker")}
	var err error
	if b.tidemark, err = process.BuildTidemark(ctx, dir); err != nil {
		return nil, err
	}
	if _, err := output(ctx, "go", "build", "-o", b.null, "./loadtest/nullbroker"); err != nil {
		return nil, err
	}
	built, err := output(ctx, "deploy/local/build-tools.sh", "minio")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(built) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "minio="); ok {
			b.minio = name
		}
	}
	b.strace = findStrace()
	version, err := kafkaVersion()
	if err != nil {
		return nil, err
	}
	tools, err := toolsFolder()
	if err != nil {
		return nil, err
	}
	b.jars = filepath.Join(tools, "kafka-"+version)
	if _, err := os.Stat(filepath.Join(b.jars, "kafka-clients-"+version+".jar")); errors.Is(err, os.ErrNotExist) {
		if _, err := output(ctx, "mvn", "-q", "-B", "-f", kafkaPOM, "dependency:copy-dependencies", "-DoutputDirectory="+b.jars); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func toolsFolder() (string, error) {
	if dir := os.Getenv("TIDEMARK_TOOLS"); dir != "" {
		return dir, nil
	}
	cache, err := os.UserCacheDir()
	return filepath.Join(cache, "tidemark-tools"), err
}

func kafkaVersion() (string, error) {
	pom, err := os.ReadFile(kafkaPOM)
	if err != nil {
		return "", fmt.Errorf("run this from the module's folder: %w", err)
	}
	m := regexp.MustCompile(`<kafka.version>(.*)</kafka.version>`).FindSubmatch(pom)
	if m == nil {
		return "", fmt.Errorf("%s names no version of Kafka", kafkaPOM)
	}
	return string(m[1]), nil
}

// describe notes machine, disk, versions and settings.
func (t *table) describe(ctx context.Context) error {
	info, r := machine.Describe(), &t.run
	r.Format, r.Started, r.Remark = storedFormat, time.Now().UTC().Truncate(time.Second), t.o.remark
	r.ID = r.Started.Format("20060102T150405Z")
	fact := func(name, text string, args ...any) {
		r.Facts = append(r.Facts, [2]string{name, fmt.Sprintf(text, args...)})
	}
	for i := range t.peers {
		p := &t.peers[i]
		r.Peers = append(r.Peers, peerName{ID: p.id, Name: p.name, Class: p.class, Reference: p.reference})
	}
	revision, err := output(ctx, "git", "describe", "--always", "--dirty")
	if err != nil {
		revision = "unknown"
	}
	r.Commit = revision
	kafka, err := kafkaVersion()
	if err != nil {
		return err
	}
	java, err := output(ctx, "java", "-version")
	if err != nil {
		return err
	}
	minio, err := output(ctx, t.b.minio, "--version")
	if err != nil {
		return err
	}
	java, _, _ = strings.Cut(java, "\n")
	minio, _, _ = strings.Cut(minio, "\n")
	quick := ""
	if t.o.quick {
		quick = "**A quick run: one repetition of short runs, warm-ups shorter than what is fair to a JVM.** "
	}
	fact("Settings", "%s%d repetitions of %v, warm-up until three windows agree, with a JVM for at least %v", quick, t.o.repetitions, t.o.each, t.o.warmup(true))
	fact("Machine", "%s, %d CPUs, %.0f GiB, %s; client and servers share it, over the loopback interface", info.CPUModel, runtime.NumCPU(), float64(info.Memory)/(1<<30), info.Kernel)
	if err := t.disk(fact); err != nil {
		return err
	}
	fact("Tidemark", "%s, %s; durability `local`, embedded etcd, defaults but `delete-grace: %s` (only when objects leave the disk)", revision, runtime.Version(), tidemarkGrace)
	fact("Apache Kafka", "%s, %s, `%s`, logging off; [kafka.properties](peers/kafka.properties)", kafka, java, strings.Join(kafkaJVM, " "))
	fact("Kafka, flush.messages=1", "the same and `%s`", strings.TrimSpace(flushEach))
	fact("MinIO", "%s, one folder of the same disk; its CPU and memory are in columns of their own", minio)
	for i := range t.o.references {
		fact("Reference "+t.o.references[i].name, "`%s`", t.o.references[i].command)
	}
	return nil
}

func (t *table) disk(fact func(name, text string, args ...any)) error {
	synced, err := disk.SyncLatency(t.dir)
	if err != nil {
		return err
	}
	log, object, err := disk.Ceiling(t.dir, t.o.each/4)
	if errors.Is(err, errors.ErrUnsupported) {
		fact("Disk", "4 KiB and fdatasync p50 %.3f ms; no direct writes here, so no ceiling", synced.Seconds()*1e3)
		return nil
	}
	if err == nil {
		fact("Disk", "4 KiB and fdatasync p50 %.3f ms; direct synchronous overwrites %.0f MB/s, new files %.0f MB/s; who writes each byte to a log and to an object gets at most %.0f MB/s",
			synced.Seconds()*1e3, log, object, 1/(1/log+1/object))
	}
	return err
}

var notes = []string{
	"*durable*: acknowledged after a sync. *page cache*: acknowledged when the system has it; a crash of the machine loses it. Tidemark has no class without sync, so it has no page cache rows, and Tidemark ⁄ Kafka's defaults compares a broker that syncs with one that does not.",
	"Production Kafka gets durability from three replicas, not from flushes. One node with replication factor 1 is what one machine can compare.",
	"Client and server share the machine: at full speed the client is often what is measured. The null broker keeps nothing and shows that ceiling; server s/GB and bytes per server-CPU-second compare brokers apart from it.",
	"Same client, seed, half-random payloads, acks=all and idempotence for all. Every record is checked for loss, order and checksum except on the null broker. Latency counts from the intended time of sending; in rows at full speed it is mostly the queue that the producer keeps.",
	"Rows at full speed are warmed up by windows on topics of their own until three agree within 5 %, with a JVM for a minute at least, others for 40 s at most; a window ends after about 2 GiB, and a measurement after about 8 GiB, so that the disk is not filled. Before the measurement, deleted topics have up to 25 s to leave the disk (Tidemark's go after its delete grace of 10 s). *disk GB* is the most that the disk held.",
	"*disturbed*: other processes (or the kernel's own work for disk and network) used over a tenth of the machine, or the hypervisor took over 1 %.",
	"RSS is the greatest during the run, warm-up included. Kafka's is mostly its fixed heap; the page cache that it lives from is not in it. MinIO's CPU and RSS are in columns apart (*store*); every ratio is of the broker's own.",
	"Catch-up: filled, stopped in order, files dropped from the page cache with fadvise, started, read once. Tidemark has everything in objects then; Kafka in its log.",
	"Start-up counts from the start of the broker's process to the first acknowledgement of a record; etcd is inside, MinIO runs already. For kill -9, Tidemark runs with seal-bytes and seal-age so great that 1 GiB stays in the WAL before the kill, and with the defaults after it. RSS in these rows is the greatest until the first acknowledgement.",
	"Syncs are made 2.6 ms longer by `strace --seccomp-bpf -e inject=fsync,fdatasync:delay_exit=2600` (from the system's packages; without it the row does not run), which stops a broker's threads only at fsync and fdatasync; Tidemark runs with `wal.sync: data` there, because its direct synchronous writes make no call that could be delayed. The tracer's CPU is not counted, that of being traced is.",
	"Rows 14 send requests of one batch of 1 MiB to the partitions in turn, so that the number of partitions is all that differs.",
	"References are programs run beside in some rows; they keep no order of anything beyond their run, and only acknowledgements are verified.",
	"The soak keeps 256 MiB per partition (`retention.bytes`), on all peers.",
}
