package directory

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tidemarkmq/tidemark/objectstore"
)

// List walks the folders in byte order of keys. It holds the names of one folder per level in memory, and asks the file
// system for no folder that prefix or after rule out. See objectstore.Store.
func (s *Store) List(ctx context.Context, prefix, after string, fn func(objectstore.Info) error) error {
	if err := objectstore.CheckPrefix(prefix); err != nil {
		return err
	}
	w := walk{store: s, ctx: ctx, prefix: prefix, after: after, fn: fn}
	dir := ""
	if i := strings.LastIndexByte(prefix, '/'); i >= 0 {
		dir = prefix[:i+1]
	}
	return w.folder(dir)
}

type walk struct {
	store         *Store
	ctx           context.Context
	prefix, after string
	fn            func(objectstore.Info) error
}

// folder lists what is below dir, which is empty or ends with '/'.
func (w *walk) folder(dir string) error {
	if err := w.ctx.Err(); err != nil {
		return fmt.Errorf("list %s: %w", w.prefix, err)
	}
	names, err := w.names(dir)
	if err != nil {
		return fmt.Errorf("list %s: %w", w.prefix, err)
	}
	for _, name := range names {
		key := dir + name
		if isFolder := strings.HasSuffix(name, "/"); isFolder {
			if err := w.folder(key); err != nil {
				return err
			}
			continue
		}
		if err := w.ctx.Err(); err != nil {
			return fmt.Errorf("list %s: %w", w.prefix, err)
		}
		file, err := w.store.root.Lstat(key)
		if err = notFound(err); errors.Is(err, objectstore.ErrNotFound) || err == nil && !file.Mode().IsRegular() {
			continue // deleted meanwhile
		}
		if err != nil {
			return fmt.Errorf("list %s: %w", w.prefix, err)
		}
		if err := w.fn(objectstore.Info{Key: key, SizeBytes: file.Size(), ModTime: file.ModTime()}); err != nil {
			return err
		}
	}
	return nil
}

// names returns the names in dir that may lead to keys with the prefix after w.after, folders with a '/' at the end, in the
// order of the keys they lead to: so the folder "a" comes after the object "a-b", because '-' is less than '/'.
func (w *walk) names(dir string) ([]string, error) {
	name := strings.TrimSuffix(dir, "/")
	if name == "" {
		name = "."
	}
	d, err := w.store.root.Open(name)
	if err = notFound(err); errors.Is(err, objectstore.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer d.Close()
	entries, err := d.ReadDir(-1)
	if err != nil {
		if errors.Is(notFound(err), objectstore.ErrNotFound) { // dir is an object, or was pruned
			return nil, nil
		}
		return nil, err
	}
	var names []string
	for _, entry := range entries {
		name := entry.Name()
		if name[0] == '.' || !entry.IsDir() && !entry.Type().IsRegular() {
			continue // not an object's
		}
		if entry.IsDir() {
			name += "/"
			if w.rulesOut(dir + name) {
				continue
			}
		} else if key := dir + name; key <= w.after || !strings.HasPrefix(key, w.prefix) {
			continue
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return names, nil
}

// rulesOut says whether no key below the folder can be listed.
func (w *walk) rulesOut(folder string) bool {
	if !strings.HasPrefix(folder, w.prefix) && !strings.HasPrefix(w.prefix, folder) {
		return true
	}
	return folder <= w.after && !strings.HasPrefix(w.after, folder)
}
