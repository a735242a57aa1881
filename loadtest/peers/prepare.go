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
	if b.strace, err = exec.LookPath("strace"); err != nil {
		b.strace = ""
	}
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
	info, r := machine.Describe(), &t.report
	fact := func(name, text string, args ...any) {
		r.Facts = append(r.Facts, [2]string{name, fmt.Sprintf(text, args...)})
	}
	revision, err := output(ctx, "git", "describe", "--always", "--dirty")
	if err != nil {
		revision = "unknown"
	}
	t.version = revision
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
	fact("Run", "%s UTC, %d repetitions of %v, warm-up at least %v (JVM %v)", time.Now().UTC().Format("2006-01-02 15:04"), t.o.repetitions, t.o.each, t.o.warmup(false), t.o.warmup(true))
	fact("Machine", "%s, %d CPUs, %.0f GiB, %s; client and servers share it, over the loopback interface", info.CPUModel, runtime.NumCPU(), float64(info.Memory)/(1<<30), info.Kernel)
	if err := t.disk(fact); err != nil {
		return err
	}
	fact("Tidemark", "%s, %s; durability `local`, embedded etcd, defaults but `delete-grace: %s` (only when objects leave the disk)", revision, runtime.Version(), tidemarkGrace)
	fact("Apache Kafka", "%s, %s, `%s`, logging off; [kafka.properties](peers/kafka.properties)", kafka, java, strings.Join(kafkaJVM, " "))
	fact("Kafka, flush.messages=1", "the same and `%s`", strings.TrimSpace(flushEach))
	fact("MinIO", "%s, one folder of the same disk; its CPU and memory count as the server's", minio)
	r.Heading = "Tidemark beside its peers, written by `go run ./loadtest/peers`."
	if t.o.quick {
		r.Heading += " **A quick run: one repetition of short runs, warm-ups shorter than what is fair to a JVM.**"
	}
	if t.o.remark != "" {
		r.Heading += " **" + t.o.remark + "**"
	}
	r.Notes = notes
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
	"Rows at full speed are warmed up by windows on topics of their own until three agree within 5 %; a window ends after about 2 GiB, and a measurement after about 8 GiB, so that the disk is not filled.",
	"*disturbed*: other processes (or the kernel's own work for disk and network) used over a tenth of the machine, or the hypervisor took over 1 %.",
	"RSS is the greatest during the run. Kafka's is mostly its fixed heap; the page cache that it lives from is not in it. MinIO's is in that of its row.",
	"Catch-up: filled, stopped in order, files dropped from the page cache with fadvise, started, read once. Tidemark has everything in objects then; Kafka in its log.",
	"Start-up counts from the start of the broker's process to the first acknowledgement of a record; etcd is inside, MinIO runs already. For kill -9, Tidemark runs with seal-bytes and seal-age so great that 1 GiB stays in the WAL, which the start then moves to objects.",
	"Syncs are made 2.6 ms longer by strace, which stops a broker's threads only at fsync and fdatasync; Tidemark runs with `wal.sync: data` there, because its direct synchronous writes make no call that could be delayed. The tracer's CPU is not counted, that of being traced is.",
	"The soak keeps 256 MiB per partition (`retention.bytes`), on all peers.",
}
