package cli_test

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"lablink/internal/wire"
)

// The server is killed again and again, once with its PostgreSQL, while a VM
// sends 100,000 numbered lines: all are there, in order, once.
func TestServe_KillNineLosesNoLog(t *testing.T) {
	t.Parallel()
	const lines, each, kills = 100_000, 250, 4
	dir := dataDir(t)
	limits := []string{"LABLINK_LIMITS_VM_LOG_POSTS_PER_MINUTE=1000000"}
	p, c := serveWith(t, limits, "--data-dir", dir)
	c.login(dir)
	token := c.register("vm-1")["vm-1"]
	var current atomic.Pointer[client]
	current.Store(c)

	var sent, repeated atomic.Int64
	var wg sync.WaitGroup
	wg.Go(func() {
		for first := 1; first <= lines; first += each {
			batch := wire.LogBatch{Hostname: "vm-1", Source: "console"}
			for n := first; n < first+each; n++ {
				batch.Events = append(batch.Events, wire.LogEvent{ID: fmt.Sprintf("%09d", n), Message: fmt.Sprintf("line %d", n)})
			}
			for current.Load().do(t.Context(), http.MethodPost, wire.PathLogs, bearer(token), batch, nil) != http.StatusOK {
				repeated.Add(1)
				select {
				case <-t.Context().Done():
					return
				case <-time.After(10 * time.Millisecond):
				}
			}
			sent.Store(int64(first))
		}
	})
	for n := range kills {
		for sent.Load() < int64(n+1)*lines/(kills+2) && t.Context().Err() == nil {
			select {
			case <-t.Context().Done():
			case <-time.After(time.Millisecond):
			}
		}
		if n == kills-1 { // as when the machine goes down
			if err := syscall.Kill(postgresPID(t, dir), syscall.SIGKILL); err != nil {
				t.Error(err)
			}
		}
		p.signal(syscall.SIGKILL)
		if err := p.wait(); err == nil {
			t.Fatal("kill -9 was survived")
		}
		p, c = serveWith(t, limits, "--data-dir", dir)
		c.login(dir)
		current.Store(c)
	}
	wg.Wait()
	t.Logf("%d posts were repeated", repeated.Load())

	next, want := int64(0), 1
	for {
		var page struct {
			Lines []struct{ Message string }
			Next  int64
		}
		path := fmt.Sprintf("%s/vm-1?format=json&limit=5000&after=%d", wire.PathLogs, next)
		if status := c.do(context.WithoutCancel(t.Context()), http.MethodGet, path, nil, nil, &page); status != http.StatusOK {
			t.Fatalf("reading the log: %d", status)
		}
		for _, l := range page.Lines {
			if l.Message != fmt.Sprintf("line %d", want) {
				t.Fatalf("line %d is %q", want, l.Message)
			}
			want++
		}
		if next = page.Next; len(page.Lines) == 0 {
			break
		}
	}
	if want != lines+1 {
		t.Errorf("%d lines, want %d", want-1, lines)
	}
}
