//go:build race

package batch

// raceEnabled says that sync.Pool, which the zstd decoder uses inside, drops things at random.
const raceEnabled = true
