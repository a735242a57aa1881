package admin

import (
	"net"
	"net/http"
	"net/http/pprof"
	"runtime"
	"sync"
)

const (
	// Of waits for locks, one in mutexFraction is sampled; of other waits, one per blockNanos of waiting. The profiles are scaled up.
	mutexFraction = 10
	blockNanos    = 10_000
	waitSeconds   = "10" // of a profile of waits, unless the request says otherwise
)

// addProfiles serves the Go runtime's profiles to clients on this machine, whatever the listener's address: they show function names
// and cost CPU time. Waits for locks and others are only recorded while somebody asks for them: /debug/pprof/mutex and
// /debug/pprof/block, for ?seconds=10, are what happened during the request.
func addProfiles(mux *http.ServeMux) {
	var recording sync.Mutex // one profile of waits at a time: the rates are the process's
	waits := func(set func(on bool)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if !recording.TryLock() {
				writeText(w, http.StatusConflict, "another profile of waits is being recorded\n")
				return
			}
			defer recording.Unlock()
			query := r.URL.Query()
			if query.Get("seconds") == "" {
				query.Set("seconds", waitSeconds)
				r.URL.RawQuery = query.Encode()
			}
			set(true)
			defer set(false)
			pprof.Index(w, r)
		}
	}
	for path, serve := range map[string]http.HandlerFunc{
		"": pprof.Index, "profile": pprof.Profile, "trace": pprof.Trace,
		"mutex": waits(func(on bool) { runtime.SetMutexProfileFraction(rateIf(on, mutexFraction)) }),
		"block": waits(func(on bool) { runtime.SetBlockProfileRate(rateIf(on, blockNanos)) }),
	} {
		mux.HandleFunc("GET /debug/pprof/"+path, func(w http.ResponseWriter, r *http.Request) {
			if !fromHere(r) {
				writeText(w, http.StatusForbidden, "profiles are for clients on the broker's own machine\n")
				return
			}
			serve(w, r)
		})
	}
}

func rateIf(on bool, rate int) int {
	if on {
		return rate
	}
	return 0
}

// fromHere tells whether the client is on the loopback interface.
func fromHere(r *http.Request) bool {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	ip := net.ParseIP(host)
	return err == nil && ip != nil && ip.IsLoopback()
}
