package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// byteUnits are the units of sizes: those of IEC 80000-13 count by 1024, those of the SI by 1000. Larger ones come first.
var byteUnits = []struct {
	name  string
	bytes int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"GB", 1e9}, {"MB", 1e6}, {"KB", 1e3}}

// parseBytes reads a number of bytes, bare or with a unit, whose letters may be of either case. The error of a number beyond 64 bits
// is strconv.ErrRange.
func parseBytes(text string) (int64, error) {
	factor := int64(1)
	number := text
	for _, u := range byteUnits {
		if cut := len(text) - len(u.name); cut > 0 && strings.EqualFold(text[cut:], u.name) {
			factor, number = u.bytes, strings.TrimRight(text[:cut], " ")
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		return 0, err
	}
	if n > math.MaxInt64/factor || n < math.MinInt64/factor {
		return 0, fmt.Errorf("%s: %w", text, strconv.ErrRange)
	}
	return n * factor, nil
}

// formatBytes writes a size with the largest binary unit that divides it.
func formatBytes(n int64) string {
	for _, u := range byteUnits[:3] {
		if n != 0 && n%u.bytes == 0 {
			return strconv.FormatInt(n/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(n, 10)
}
