package peer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/tidemarkmq/tidemark/wal"
)

// Errors that callers tell apart; test with errors.Is. What the other side's wal.Replicas answers is told apart by package wal's own.
var (
	// ErrDisconnected says that there is no connection, or that it was lost: what was asked for may or may not have happened.
	ErrDisconnected = errors.New("peer disconnected")
	// ErrRefused says that the other side, or this one, refuses the connection for what the hello says. More is wrapped beside it.
	ErrRefused = errors.New("peer refused")
	// ErrWrongCluster is an ErrRefused: the other side belongs to another cluster.
	ErrWrongCluster = errors.New("wrong cluster")
	// ErrWrongBroker is an ErrRefused: another broker answers at the address.
	ErrWrongBroker = errors.New("wrong broker")
	// ErrWrongDisk is an ErrRefused, and a wal.ErrLimbo: the broker has another disk by now. What was on the wanted one does not count.
	ErrWrongDisk = fmt.Errorf("wrong disk: %w", wal.ErrLimbo)
	// ErrWrongVersion is an ErrRefused: the sides have no version of the protocol in common.
	ErrWrongVersion = errors.New("no common version of the protocol")
	// ErrProtocol says that the other side has sent what it must not.
	ErrProtocol = errors.New("peer breaks the protocol")
	// ErrCorrupt says that the other side cannot read what was durable there.
	ErrCorrupt = errors.New("corrupt replica")
	// ErrUnknownKind says that nobody answers calls of that kind there.
	ErrUnknownKind = errors.New("unknown kind of call")
)

// codes are how errors travel; a code that is not known here is only text. They are part of the protocol: add at the end.
var codes = []error{
	1: wal.ErrFenced, 2: wal.ErrLimbo, 3: wal.ErrNoReplica, 4: wal.ErrSuperseded, 5: wal.ErrMalformed, 6: wal.ErrFull, 7: wal.ErrForeign, 8: wal.ErrTrimmed,
	9: wal.ErrClosed, 10: wal.ErrFailed, 11: ErrCorrupt, 12: ErrUnknownKind, 13: context.Canceled,
	14: ErrWrongCluster, 15: ErrWrongBroker, codeWrongDisk: ErrWrongDisk, 17: ErrWrongVersion, 18: ErrRefused, 19: ErrProtocol,
}

const (
	codeOther     = 0
	codeWrongDisk = 16
)

// codeOf finds the code. The order of codes decides where an error wraps several.
func codeOf(err error) uint16 {
	var rot *wal.CorruptionError
	if errors.Is(err, ErrWrongDisk) {
		return codeWrongDisk // not that of limbo
	}
	for code, known := range codes {
		if known != nil && errors.Is(err, known) {
			return uint16(code)
		}
		if known == ErrCorrupt && errors.As(err, &rot) { //nolint:errorlint // the table's own entry
			return uint16(code)
		}
	}
	return codeOther
}

// RemoteError is an error that the other side has sent. It unwraps to the error that its code stands for.
type RemoteError struct {
	Code uint16 // see FORMAT.md
	Text string // for people; at most 512 bytes
}

// Error implements error.
func (e *RemoteError) Error() string { return "remote: " + e.Text }

// Unwrap implements errors.
func (e *RemoteError) Unwrap() error {
	if int(e.Code) < len(codes) {
		return codes[e.Code]
	}
	return nil
}

func remote(err error) *RemoteError {
	text := err.Error()
	if len(text) > maxMessageBytes {
		text = strings.ToValidUTF8(text[:maxMessageBytes], "")
	}
	if !utf8.ValidString(text) {
		text = strings.ToValidUTF8(text, "?")
	}
	return &RemoteError{Code: codeOf(err), Text: text}
}

func refused(why error, format string, args ...any) error {
	return fmt.Errorf("%w: %w: %s", ErrRefused, why, fmt.Sprintf(format, args...))
}
