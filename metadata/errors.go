package metadata

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// The answers of a mutation that callers act on. All are wrapped with context: compare with errors.Is.
var (
	// ErrExists: the name, id or record is taken.
	ErrExists = errors.New("metadata: already exists")
	// ErrNotFound: the topic, partition, stream, group or record is not there (or was deleted).
	ErrNotFound = errors.New("metadata: not found")
	// ErrConflict: a swap was lost to somebody with an equal right. Re-read and decide again.
	ErrConflict = errors.New("metadata: conflict")
	// ErrFenced: the epoch, incarnation or stream is no longer the caller's. Stop; never retry.
	ErrFenced = errors.New("metadata: fenced")
	// ErrUnavailable: etcd could not be reached, or did not say what became of a transaction, after the retries that are
	// safe. The mutation may have been applied: re-read before drawing conclusions.
	ErrUnavailable = errors.New("metadata: etcd unavailable, outcome unknown")
	// ErrInvalid: an argument or a stored record is outside the documented bounds. Nothing was written.
	ErrInvalid = errors.New("metadata: invalid")
)

// PartialError is the answer of a mutation of many items of which some failed. Items that are not named were applied.
// errors.Is looks into every item's error.
type PartialError struct {
	Errors map[int]error // by index in the caller's slice
}

// Error names the number of failures and the first few.
func (e *PartialError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "metadata: %d items failed", len(e.Errors))
	for n, i := range slices.Sorted(maps.Keys(e.Errors)) {
		if n == 3 {
			b.WriteString("; …")
			break
		}
		fmt.Fprintf(&b, "; [%d] %v", i, e.Errors[i])
	}
	return b.String()
}

// Unwrap returns the items' errors in the order of their indexes.
func (e *PartialError) Unwrap() []error {
	errs := make([]error, 0, len(e.Errors))
	for _, i := range slices.Sorted(maps.Keys(e.Errors)) {
		errs = append(errs, e.Errors[i])
	}
	return errs
}

// partial returns nil when nothing failed.
func partial(errs map[int]error) error {
	if len(errs) == 0 {
		return nil
	}
	return &PartialError{Errors: errs}
}
