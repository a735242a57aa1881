package admin

import (
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"
)

func TestProfilesAreForThisMachineAndClosedByDefault(t *testing.T) {
	metrics, err := NewMetrics()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		profiling    bool
		from, target string
		want         int
	}{
		{false, "127.0.0.1:5", "/debug/pprof/heap", http.StatusNotFound},
		{false, "127.0.0.1:5", "/debug/pprof/", http.StatusNotFound},
		{true, "127.0.0.1:5", "/debug/pprof/heap", http.StatusOK},
		{true, "[::1]:5", "/debug/pprof/", http.StatusOK},
		{true, "127.0.0.1:5", "/debug/pprof/mutex?seconds=1", http.StatusOK},
		{true, "127.0.0.1:5", "/debug/pprof/block?seconds=1", http.StatusOK},
		{true, "10.0.0.1:5", "/debug/pprof/heap", http.StatusForbidden},
		{true, "[2001:db8::1]:5", "/debug/pprof/mutex?seconds=1", http.StatusForbidden},
		{true, "", "/debug/pprof/", http.StatusForbidden},
	} {
		r := httptest.NewRequest(http.MethodGet, c.target, nil)
		r.RemoteAddr = c.from
		w := httptest.NewRecorder()
		Handler(Options{Metrics: metrics, Readiness: &Readiness{}, Profiling: c.profiling}).ServeHTTP(w, r)
		if w.Code != c.want || c.want == http.StatusOK && w.Body.Len() == 0 {
			t.Errorf("%s from %q, profiling %v: %d, want %d", c.target, c.from, c.profiling, w.Code, c.want)
		}
	}
	if got := runtime.SetMutexProfileFraction(-1); got != 0 {
		t.Errorf("after the profile one wait in %d is recorded", got)
	}
}
