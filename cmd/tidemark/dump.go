package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/tidemarkmq/tidemark/tiering/manifest"
	"github.com/tidemarkmq/tidemark/tiering/segment"
	"github.com/tidemarkmq/tidemark/wal"
)

const (
	magicBytes       = 8
	maxManifestBytes = 256 << 20 // one object of manifests, which is read as a whole
)

// runDump prints files of Tidemark's formats, which it tells apart by their first bytes, and those in folders.
func runDump(w io.Writer, args []string) error {
	fs := flag.NewFlagSet("dump", flag.ContinueOnError)
	fs.Usage = func() {
		fmt.Fprintf(fs.Output(), "Usage: tidemark dump [flags] PATH...\n\nPATH is a WAL segment, an object or a manifest, or a folder of them.\n\n")
		fs.PrintDefaults()
	}
	var o segment.DumpOptions
	fs.BoolVar(&o.Blocks, "blocks", false, "list every block of an object")
	fs.BoolVar(&o.Verify, "verify", false, "read every block of an object and check it")
	switch err := fs.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return err
	case err != nil:
		return errUsage
	case fs.NArg() == 0:
		fs.Usage()
		return errUsage
	}
	out := bufio.NewWriter(w)
	var errs []error
	for _, path := range fs.Args() {
		errs = append(errs, dumpPath(out, path, o))
	}
	return errors.Join(append(errs, out.Flush())...)
}

// dumpPath prints one file, or all files of known formats below a folder; there, files of other formats are passed over.
func dumpPath(w io.Writer, path string, o segment.DumpOptions) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		known, err := dumpFile(w, path, o)
		if err == nil && !known {
			err = fmt.Errorf("%s: neither a WAL segment nor an object nor a manifest", path)
		}
		return err
	}
	var errs []error
	found := false
	err = filepath.WalkDir(path, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != path && strings.HasPrefix(d.Name(), "."):
			return filepath.SkipDir
		case d.Type().IsRegular():
			known, err := dumpFile(w, name, o)
			found = found || known
			errs = append(errs, err)
		}
		return nil
	})
	err = errors.Join(append(errs, err)...)
	if err == nil && !found {
		err = fmt.Errorf("%s: no WAL segment, object or manifest is in this folder", path)
	}
	return err
}

func dumpFile(w io.Writer, path string, o segment.DumpOptions) (known bool, err error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	magic := make([]byte, magicBytes)
	n, err := f.ReadAt(magic, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	print := map[string]func() error{
		"TMWALSEG": func() error { return wal.Dump(w, path) },
		"TIDEOBJ1": func() error { return segment.Dump(w, f, info.Size(), o) },
		"TIDM": func() error {
			if info.Size() > maxManifestBytes {
				return fmt.Errorf("%d bytes are too many for an object of manifests", info.Size())
			}
			content, err := io.ReadAll(io.LimitReader(f, maxManifestBytes))
			if err != nil {
				return err
			}
			return manifest.Dump(w, content)
		},
	}
	for prefix, dump := range print {
		if strings.HasPrefix(string(magic[:n]), prefix) {
			fmt.Fprintf(w, "== %s\n", path)
			if err := dump(); err != nil {
				return true, fmt.Errorf("%s: %w", path, err)
			}
			return true, nil
		}
	}
	return false, nil
}
