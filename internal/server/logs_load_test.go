package server_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lablink/internal/config"
	"lablink/internal/store"
	"lablink/internal/testkit"
	"lablink/internal/wire"
)

// generous lifts the limits of what a VM may post.
func generous(c *config.Config) { c.Limits.VMLogPostsPerMinute, c.Limits.LogPostsPerMinute = 1e6, 1e6 }

// postUntilTaken repeats a batch until it is answered by 200, as senders do.
func postUntilTaken(t *testing.T, a *testkit.Allocator, token string, body any) (tries int) {
	t.Helper()
	for {
		tries++
		r := a.Do(t.Context(), testkit.Request{Path: wire.PathLogs, Token: token, JSON: body})
		if r.Status == http.StatusOK {
			return tries
		}
		if r.Status != 0 && r.Status < 500 {
			t.Errorf("%d %s", r.Status, r.Body)
			return tries
		}
		select {
		case <-t.Context().Done():
			return tries
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// wantNumbered checks that a log has lines 1 to n, each once, in order if one
// sender wrote them.
func wantNumbered(t *testing.T, lines []store.LogLine, n int, ordered bool) {
	t.Helper()
	seen := map[string]bool{}
	for i, l := range lines {
		if want := fmt.Sprintf("line %d", i+1); ordered && l.Text != want {
			t.Fatalf("line %d is %q", i+1, l.Text)
		}
		if seen[l.Text] {
			t.Errorf("%q is there twice", l.Text)
		}
		seen[l.Text] = true
	}
	for i := 1; i <= n; i++ {
		if !seen[fmt.Sprintf("line %d", i)] {
			t.Fatalf("line %d is lost; there are %d", i, len(lines))
		}
	}
}

// 40 senders write to one VM's log at once, each batch twice, while somebody
// follows it by cursor: whoever reads after the last line that it saw misses none.
func TestLogs_ManySendersToOneVM(t *testing.T) {
	t.Parallel()
	a := serveLogs(t, generous, nil)
	second := testkit.Serve(t, testkit.ServeOptions{DatabaseURL: a.DatabaseURL, Configure: generous})
	token := a.Register("vm-1")["vm-1"]
	const senders, posts, each = 40, 15, 10
	vm, err := a.Store.LogVM(t.Context(), "vm-1")
	if err != nil {
		t.Fatal(err)
	}
	written := make(chan struct{})
	var followed []store.LogLine
	var following sync.WaitGroup
	following.Go(func() {
		var q store.LogQuery
		for last := false; ; {
			lines, err := a.Store.LogLines(context.WithoutCancel(t.Context()), vm.ID, q)
			if err != nil {
				t.Error(err)
				return
			}
			for _, l := range lines {
				q.After = l.Cursor
			}
			if followed = append(followed, lines...); last {
				return
			}
			select {
			case <-written:
				last = true
			default:
			}
		}
	})
	var wg sync.WaitGroup
	for s := range senders {
		wg.Go(func() {
			at := []*testkit.Allocator{a, second}[s%2]
			for p := range posts {
				first := (s*posts+p)*each + 1
				b := batch("vm-1", events(first, first+each-1)...)
				postUntilTaken(t, at, token, b)
				postUntilTaken(t, at, token, b)
			}
		})
	}
	wg.Wait()
	close(written)
	following.Wait()
	lines := logOf(t, a, "vm-1")
	wantNumbered(t, lines, senders*posts*each, false)
	if len(followed) != len(lines) {
		t.Errorf("whoever followed saw %d of %d lines", len(followed), len(lines))
	}
}

// 150 VMs write at once, through the processor and by themselves. Nothing is
// lost or doubled, and the VMs' reports and the participants are not kept waiting.
func TestLogs_ManyVMs(t *testing.T) {
	t.Parallel()
	a := serveLogs(t, generous, nil)
	const vms, posts, each = 150, 4, 20
	var names []string
	for n := range vms {
		names = append(names, fmt.Sprintf("vm-%d", n))
	}
	tokens := a.Register(names...)
	var wg sync.WaitGroup
	for n, name := range names {
		wg.Go(func() {
			token := tokens[name]
			if n%2 == 0 {
				token = processorToken
			}
			for p := range posts {
				postUntilTaken(t, a, token, batch(name, events(p*each+1, p*each+each)...))
			}
		})
	}
	wg.Wait()
	for _, name := range names {
		wantNumbered(t, logOf(t, a, name), posts*each, true)
	}
}

// PostgreSQL is killed and restarted again and again while 100,000 numbered lines
// arrive.
func TestLogs_DatabaseRestarts(t *testing.T) {
	t.Parallel()
	pg := testkit.RawServer(t)
	a := testkit.Serve(t, testkit.ServeOptions{DatabaseURL: pg.URL(), Configure: generous})
	token := a.Register("vm-1")["vm-1"]
	const lines, each, restarts = 100_000, 500, 3
	var sent, repeated atomic.Int64
	var wg sync.WaitGroup
	wg.Go(func() {
		for first := 1; first <= lines && !t.Failed(); first += each {
			repeated.Add(int64(postUntilTaken(t, a, token, batch("vm-1", events(first, first+each-1)...)) - 1))
			sent.Store(int64(first))
		}
	})
	for n := range restarts {
		testkit.Eventually(t, "some lines to be sent", func() bool { return sent.Load() > int64(n+1)*lines/(restarts+2) || t.Failed() })
		pg = testkit.RestartServer(t, pg)
	}
	wg.Wait()
	t.Logf("%d posts were repeated", repeated.Load())
	wantNumbered(t, logOf(t, a, "vm-1"), lines, true)
}

// Lines are dropped and purged while others write: nobody waits for long, and the
// newest are all there.
func TestLogs_TendedWhileWritten(t *testing.T) {
	t.Parallel()
	a := serveLogs(t, func(c *config.Config) {
		generous(c)
		c.Logs.MaxLines, c.Logs.Retention = 5000, 0
	}, nil)
	tokens := a.Register("vm-1", "vm-2")
	const lines, each = 40_000, 1000
	for first := 1; first <= lines; first += each { // the log that is to go
		wantStatus(t, postLogs(t, a, tokens["vm-2"], batch("vm-2", events(first, first+each-1)...)), http.StatusOK)
	}
	wantStatus(t, a.Do(t.Context(), testkit.Request{Method: http.MethodDelete, Path: "/api/vms/vm-2", Admin: true}), http.StatusNoContent)
	stop := make(chan struct{})
	var tending sync.WaitGroup
	tend := func(what string, f func(context.Context) (int64, error)) {
		tending.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := f(context.WithoutCancel(t.Context())); err != nil {
					t.Errorf("%s: %v", what, err)
					return
				}
			}
		})
	}
	for range 2 { // as two replicas do
		tend("cap", func(ctx context.Context) (int64, error) { return a.Store.CapLogs(ctx, 5000) })
		tend("purge", func(ctx context.Context) (int64, error) { return a.Store.PurgeLogs(ctx, 0) })
	}
	for first := 1; first <= lines; first += each {
		postUntilTaken(t, a, tokens["vm-1"], batch("vm-1", events(first, first+each-1)...))
	}
	close(stop)
	tending.Wait()
	if _, err := a.Store.CapLogs(t.Context(), 5000); err != nil {
		t.Fatal(err)
	}
	log := logOf(t, a, "vm-1")
	if len(log) != 5000 || !strings.HasPrefix(log[0].Text, "35,001 older lines were dropped") || log[4999].Text != fmt.Sprintf("line %d", lines) {
		t.Errorf("%d lines from %q to %q", len(log), log[0].Text, log[len(log)-1].Text)
	}
	if _, err := a.Store.PurgeLogs(t.Context(), 0); err != nil {
		t.Error(err)
	}
	if vm, err := a.Store.LogVM(t.Context(), "vm-2"); err == nil {
		t.Errorf("the log of a destroyed VM is still there: %+v", vm)
	}
}
