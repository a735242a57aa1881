package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// storedFormat is the version of the files in a folder of raw results.
const storedFormat = 1

// invocation is one run of this program, as the cells that it measured refer to it. Its file is run-ID.json.
type invocation struct {
	Format  int         `json:"format"`
	ID      string      `json:"id"` // when it began
	Started time.Time   `json:"started"`
	Commit  string      `json:"commit"`
	Remark  string      `json:"remark,omitempty"`
	Facts   [][2]string `json:"facts"` // machine, versions, settings
	Peers   []peerName  `json:"peers"`

	letter string // in the report
}

// peerName is what a report says of a peer.
type peerName struct {
	ID        string `json:"id"`
	Name      string `json:"name"`
	Class     string `json:"class"`
	Reference bool   `json:"reference,omitempty"`
}

// settings that change what a cell means.
type settings struct {
	Each   time.Duration `json:"each"`
	Warmup time.Duration `json:"warmup"` // at least
	Quick  bool          `json:"quick"`
}

// stored is one finished cell: a row on a peer, once. Its file is cell-ROW-PEER-REPETITION.json.
type stored struct {
	Format     int       `json:"format"`
	Run        string    `json:"run"`
	Commit     string    `json:"commit"`
	Started    time.Time `json:"started"`
	Row        string    `json:"row"`
	Peer       string    `json:"peer"`
	Repetition int       `json:"repetition"` // from 1
	Seconds    float64   `json:"seconds"`    // for all of it: start, warm-up, measurement, verification
	Settings   settings  `json:"settings"`
	Sample     sample    `json:"sample"`

	place string // what of the same place is compared: folder and repetition
}

// archive is what folders of raw results hold.
type archive struct {
	runs  []invocation // in order of time
	cells []stored
}

func (c *stored) file() string { return fmt.Sprintf("cell-%s-%s-%d.json", c.Row, c.Peer, c.Repetition) }

// save writes v whole or not at all: a run may be ended at any time.
func save(folder, name string, v any) error {
	text, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return err
	}
	part := filepath.Join(folder, name+".part")
	if err := os.WriteFile(part, append(text, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(part, filepath.Join(folder, name))
}

// load reads what the folders hold. A folder that is not there holds nothing.
func load(folders []string) (*archive, error) {
	a := &archive{}
	for i, folder := range folders {
		entries, err := os.ReadDir(folder)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, e := range entries {
			if filepath.Ext(e.Name()) != ".json" {
				continue
			}
			if err := a.add(filepath.Join(folder, e.Name()), i); err != nil {
				return nil, err
			}
		}
	}
	slices.SortFunc(a.runs, func(x, y invocation) int { return cmp.Compare(x.ID, y.ID) })
	a.runs = slices.CompactFunc(a.runs, func(x, y invocation) bool { return x.ID == y.ID })
	used := map[string]bool{}
	for i := range a.cells {
		used[a.cells[i].Run] = true
	}
	a.runs = slices.DeleteFunc(a.runs, func(r invocation) bool { return !used[r.ID] })
	for i := range a.runs {
		a.runs[i].letter = letters(i)
	}
	return a, nil
}

// letters names the n-th run: A to Z, then AA and so on.
func letters(n int) string {
	if n < 26 {
		return string(rune('A' + n))
	}
	return letters(n/26-1) + letters(n%26)
}

func (a *archive) add(file string, folder int) error {
	name := filepath.Base(file)
	isCell := strings.HasPrefix(name, "cell-")
	if !isCell && !strings.HasPrefix(name, "run-") {
		return nil // a load test's own result
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if isCell {
		var c stored
		if err = json.Unmarshal(text, &c); err == nil && c.Format != storedFormat {
			err = fmt.Errorf("format %d; this program reads %d", c.Format, storedFormat)
		}
		c.place = fmt.Sprintf("%d/%d", folder, c.Repetition)
		a.cells = append(a.cells, c)
	} else {
		var r invocation
		if err = json.Unmarshal(text, &r); err == nil && r.Format != storedFormat {
			err = fmt.Errorf("format %d; this program reads %d", r.Format, storedFormat)
		}
		a.runs = append(a.runs, r)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

// done tells whether a cell is there and need not run again: one that failed does.
func (a *archive) done(row, peer string, repetition int) bool {
	return slices.ContainsFunc(a.cells, func(c stored) bool {
		return c.Row == row && c.Peer == peer && c.Repetition == repetition && c.Sample.Failure == ""
	})
}

// of are the samples of a cell, in the order of folders and repetitions, ready for a report.
func (a *archive) of(row, peer string) []sample {
	var found []stored
	for _, c := range a.cells {
		if c.Row == row && c.Peer == peer {
			found = append(found, c)
		}
	}
	slices.SortFunc(found, func(x, y stored) int { return cmp.Compare(x.place, y.place) })
	var samples []sample
	for _, c := range found {
		s := c.Sample
		s.place, s.quick = c.place, c.Settings.Quick
		if i := slices.IndexFunc(a.runs, func(r invocation) bool { return r.ID == c.Run }); i >= 0 {
			s.run = a.runs[i].letter
		}
		samples = append(samples, s)
	}
	return samples
}

// took is how long such a cell took last time with the same settings; 0: it is not known.
func (a *archive) took(row, peer string, s settings) time.Duration {
	var longest float64
	for _, c := range a.cells {
		if c.Row == row && c.Peer == peer && c.Settings == s && c.Sample.Failure == "" {
			longest = max(longest, c.Seconds)
		}
	}
	return time.Duration(longest * float64(time.Second))
}
