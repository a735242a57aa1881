package server

import (
	"log/slog"
	"sync"
	"time"
)

// warner keeps the log quiet: one warning per interval, with how many there were.
type warner struct {
	log *slog.Logger

	mu         sync.Mutex
	next       time.Time
	suppressed int
}

func (w *warner) warn(msg string, args ...any) {
	now := time.Now()
	w.mu.Lock()
	if now.Before(w.next) {
		w.suppressed++
		w.mu.Unlock()
		return
	}
	n := w.suppressed
	w.suppressed, w.next = 0, now.Add(warnEvery)
	w.mu.Unlock()
	w.log.Warn(msg, append(args, "others_since_last", n)...)
}
