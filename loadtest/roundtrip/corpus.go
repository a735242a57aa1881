package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// file is one key: its lines are the values, in order, each without its line feed.
type file struct {
	key   string
	lines [][]byte
}

// corpus is every line of every file below a folder, in the order in which it is sent.
type corpus struct {
	files   []file
	byKey   map[string]int
	records int
	bytes   int64
}

// loadCorpus reads all regular files below dir, at most maxRecords lines (0: all).
func loadCorpus(dir string, maxRecords int) (*corpus, error) {
	c := &corpus{byKey: map[string]int{}}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		if maxRecords > 0 && c.records >= maxRecords {
			return fs.SkipAll
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		f := file{key: filepath.ToSlash(rel)}
		for len(text) > 0 && (maxRecords == 0 || c.records < maxRecords) {
			line, rest, _ := bytes.Cut(text, []byte("\n"))
			f.lines = append(f.lines, line)
			c.records++
			c.bytes += int64(len(line))
			text = rest
		}
		if len(f.lines) > 0 {
			c.byKey[f.key] = len(c.files)
			c.files = append(c.files, f)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if c.records == 0 {
		return nil, fmt.Errorf("%s holds no lines", dir)
	}
	return c, nil
}
