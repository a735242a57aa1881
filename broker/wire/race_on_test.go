//go:build race

package wire

// raceEnabled: sync.Pool drops things at random under the race detector, so that allocations cannot be counted.
const raceEnabled = true
