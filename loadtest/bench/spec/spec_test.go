package spec

import (
	"errors"
	"flag"
	"io"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

func TestPresetsAreSound(t *testing.T) {
	for _, p := range Presets {
		s, err := For(p.Name)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Check(); err != nil {
			t.Errorf("%s: %v", p.Name, err)
		}
	}
	if _, err := For("nonsense"); err == nil || !strings.Contains(err.Error(), "produce-max") {
		t.Errorf("an unknown workload: %v", err)
	}
}

func quiet(fs *flag.FlagSet, _ *Spec) { fs.SetOutput(io.Discard) }

func TestFlagsOverridePresets(t *testing.T) {
	for _, args := range [][]string{
		{"--workload", "paced", "--rate", "7", "--bootstrap", "a:1, b:2", "--topic-config", "x=1", "--topic-config", "y=2", "--server-pid", "3", "--server-pid", "4"},
		{"--rate=7", "--server-pid=3", "--bootstrap=a:1,b:2", "--server-pid=4", "--topic-config=x=1", "-topic-config=y=2", "--workload=paced"},
	} {
		s, _, err := Parse("bench", args, quiet)
		if err != nil {
			t.Fatal(err)
		}
		if s.Workload != "paced" || s.Rate != 7 || s.Fanout != 1 || s.Linger != 0 || strings.Join(s.Bootstrap, " ") != "a:1 b:2" || len(s.TopicConfigs) != 2 || len(s.ServerPIDs) != 2 {
			t.Errorf("%v: %+v", args, s)
		}
	}
}

func TestMistakesAreNamed(t *testing.T) {
	for args, want := range map[string]string{
		"--nonsense":                                  "nonsense",
		"--partitions many":                           "partitions",
		"--server-pid x":                              "server-pid",
		"--topic-config x":                            "topic-config",
		"--acks 2":                                    "--acks",
		"--partitions 0":                              "--partitions",
		"--acks 1":                                    "--idempotent=false",
		"--producers 0":                               "neither producers nor consumers",
		"--producers 0 --fanout 1":                    "--read tail",
		"--compression brotli":                        "--compression",
		"--record-size 3":                             "--record-size",
		"--record-size uniform:100":                   "--record-size",
		"--record-size mix:100=0":                     "--record-size",
		"--record-size nan":                           "--record-size",
		"--warmup soon":                               "--warmup",
		"--client raw --compression lz4":              "compressed",
		"--client raw --txn-records 5":                "transactions",
		"--client raw --record-size uniform:100-200":  "one size",
		"--client raw --batch-bytes 1024":             "--record-size does not fit",
		"--client raw --in-flight 6":                  "five batches",
		"--in-flight 2":                               "always 5",
		"--existing":                                  "--topic",
		"--txn-records 5 --acks 1 --idempotent=false": "--txn-records",
		"--read loop --fanout 1":                      "--read loop",
		"--bootstrap ,":                               "--bootstrap",
	} {
		s, _, err := Parse("bench", strings.Fields(args), quiet)
		if err == nil {
			err = s.Check()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want something about %q", args, err, want)
		}
	}
	if _, _, err := Parse("bench", []string{"--help"}, quiet); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("--help: %v", err)
	}
}

func TestSizesAreDrawnAsSaid(t *testing.T) {
	for text, want := range map[string]struct {
		least, most int
		mean        float64
	}{
		"100":                 {100, 100, 100},
		"uniform:100-300":     {100, 300, 200},
		"mix:100=0.9,1000=.1": {100, 1000, 190},
		"lognormal:500,0.5":   {24, 3694, 500 * math.Exp(0.125)},
	} {
		z, err := ParseSize(text)
		if err != nil {
			t.Fatal(err)
		}
		if z.Min() != want.least || z.Max() != want.most {
			t.Errorf("%s: %d to %d", text, z.Min(), z.Max())
		}
		random := rand.New(rand.NewPCG(1, 2))
		sum := 0.0
		const n = 50_000
		for range n {
			d := z.Draw(random)
			if d < want.least || d > want.most {
				t.Fatalf("%s: drew %d", text, d)
			}
			sum += float64(d)
		}
		if mean := sum / n; math.Abs(mean-want.mean) > 0.02*want.mean {
			t.Errorf("%s: mean %.1f, want %.1f", text, mean, want.mean)
		}
	}
}

func TestWarmupTime(t *testing.T) {
	s := Default()
	if d, auto := s.WarmupTime(); d != 5*time.Second || auto {
		t.Errorf("%v, %v", d, auto)
	}
	s.Warmup = "auto"
	if _, auto := s.WarmupTime(); !auto {
		t.Error("not automatic")
	}
}
