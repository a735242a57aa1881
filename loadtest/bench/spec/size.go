package spec

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"

	"github.com/tidemarkmq/tidemark/loadtest/bench/stamp"
)

// maxRecordBytes bounds a record's value.
const maxRecordBytes = 64 << 20

// Size is a distribution of value sizes, all at least stamp.Bytes.
type Size struct {
	kind  string
	a, b  float64
	sizes []int     // of a mix
	upTo  []float64 // cumulated shares of a mix; the last is 1
}

// ParseSize reads N, uniform:LOW-HIGH, lognormal:MEDIAN,SIGMA or mix:N=SHARE,N=SHARE…
func ParseSize(text string) (Size, error) {
	kind, rest, named := strings.Cut(text, ":")
	if !named {
		kind, rest = "fixed", text
	}
	z := Size{kind: kind}
	bad := func() (Size, error) {
		return Size{}, fmt.Errorf("--record-size: %q is none of N, uniform:LOW-HIGH, lognormal:MEDIAN,SIGMA, mix:N=SHARE,N=SHARE (N of %d to %d bytes)",
			text, stamp.Bytes, maxRecordBytes)
	}
	ok := true
	number := func(text string) float64 {
		v, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
		ok = ok && err == nil && !math.IsNaN(v) && !math.IsInf(v, 0)
		return v
	}
	switch kind {
	case "fixed":
		z.a = number(rest)
		z.b = z.a
	case "uniform":
		low, high, found := strings.Cut(rest, "-")
		z.a, z.b, ok = number(low), number(high), ok && found
		ok = ok && z.a <= z.b
	case "lognormal":
		median, sigma, found := strings.Cut(rest, ",")
		z.a, z.b, ok = number(median), number(sigma), ok && found
		ok = ok && z.b > 0 && z.b <= 5 && z.a >= stamp.Bytes && z.a <= maxRecordBytes
	case "mix":
		ok = z.parseMix(rest, number)
	default:
		ok = false
	}
	if !ok || kind != "lognormal" && (z.Min() < stamp.Bytes || z.Max() > maxRecordBytes) {
		return bad()
	}
	return z, nil
}

func (z *Size) parseMix(text string, number func(string) float64) bool {
	sum := 0.0
	for part := range strings.SplitSeq(text, ",") {
		size, share, found := strings.Cut(part, "=")
		n, w := number(size), number(share)
		if !found || n < stamp.Bytes || n > maxRecordBytes || !(w > 0) {
			return false
		}
		sum += w
		z.sizes, z.upTo = append(z.sizes, int(n)), append(z.upTo, sum)
	}
	for i := range z.upTo {
		z.upTo[i] /= sum
	}
	return len(z.sizes) > 0
}

// Fixed tells whether all are of one size.
func (z Size) Fixed() bool { return z.kind == "fixed" }

// Min is the least size.
func (z Size) Min() int {
	switch z.kind {
	case "mix":
		least := z.sizes[0]
		for _, n := range z.sizes {
			least = min(least, n)
		}
		return least
	case "lognormal":
		return stamp.Bytes
	}
	return int(z.a)
}

// Max is the greatest size.
func (z Size) Max() int {
	switch z.kind {
	case "mix":
		most := 0
		for _, n := range z.sizes {
			most = max(most, n)
		}
		return most
	case "lognormal": // four deviations; what is beyond is cut
		return int(min(maxRecordBytes, z.a*math.Exp(4*z.b)))
	}
	return int(z.b)
}

// Draw returns the size of the next record.
func (z Size) Draw(random *rand.Rand) int {
	switch z.kind {
	case "uniform":
		return int(z.a) + random.IntN(int(z.b)-int(z.a)+1)
	case "lognormal":
		return min(z.Max(), max(stamp.Bytes, int(z.a*math.Exp(z.b*random.NormFloat64()))))
	case "mix":
		x := random.Float64()
		for i, upTo := range z.upTo {
			if x < upTo {
				return z.sizes[i]
			}
		}
		return z.sizes[len(z.sizes)-1]
	}
	return int(z.a)
}
