//go:build linux

package bench_test

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"runtime"
	"sync/atomic"
	"time"
)

// bareStats is what the bare server tells of itself.
type bareStats struct {
	Held  int64  `json:"held"`
	Heap  uint64 `json:"heap"`
	Stack uint64 `json:"stack"`
}

// serveBare is the least that a Go program can do to hold requests: no database,
// no log, no credential. It is a process of its own, like LabLink's server.
func serveBare() error {
	keepalive, err := time.ParseDuration(os.Getenv("BENCH_KEEPALIVE"))
	if err != nil {
		return err
	}
	var held atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("POST /vm_startup", func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
		held.Add(1)
		defer held.Add(-1)
		rc := http.NewResponseController(w)
		tick := time.NewTicker(keepalive)
		defer tick.Stop()
		for {
			select {
			case <-r.Context().Done():
				return
			case <-tick.C:
				if _, err := w.Write([]byte("\n")); err != nil || rc.Flush() != nil {
					return
				}
			}
		}
	})
	mux.HandleFunc("GET /readyz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /stats", func(w http.ResponseWriter, _ *http.Request) {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		_ = json.NewEncoder(w).Encode(bareStats{held.Load(), m.HeapInuse, m.StackInuse}) // the reader notices
	})
	s := &http.Server{Addr: os.Getenv("BENCH_LISTEN"), Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	return s.ListenAndServe()
}
