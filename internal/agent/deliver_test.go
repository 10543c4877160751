package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"lablink/internal/agent/crd"
	"lablink/internal/wire"
)

// ending is how a set-up ends in the model.
type ending int

const (
	succeeds  ending = iota
	isRefused        // start-host exits 1
	diesEarly        // the agent dies before the host configuration is written
	diesLate         // the agent dies after that, before start-host ends
)

// modelDesktop is a desktop whose set-ups end as they are told.
type modelDesktop struct {
	next    ending
	kill    context.CancelFunc
	runs    map[string]int // by code
	config  int            // changes with each host configuration; 0: there is none
	written int
}

func (m *modelDesktop) Setup(ctx context.Context, req crd.Request, started func(int)) error {
	m.runs[req.Code]++
	started(0)
	if m.next == succeeds || m.next == diesLate {
		m.written++
		m.config = m.written
	}
	switch m.next {
	case succeeds:
	case isRefused:
		return &crd.Error{Reason: crd.ReasonCode, Err: errors.New("exit code 1")}
	case diesEarly, diesLate:
		m.kill()
		return ctx.Err()
	}
	return nil
}

func (m *modelDesktop) Finish(context.Context) error { return nil }

func (m *modelDesktop) Release(ctx context.Context) error {
	if m.next == diesEarly {
		m.kill()
		return ctx.Err()
	}
	m.config = 0
	return nil
}

func (m *modelDesktop) Snapshot() string {
	if m.config == 0 {
		return ""
	}
	return fmt.Sprint(m.config)
}

func (m *modelDesktop) WrittenSince(before string) bool {
	now := m.Snapshot()
	return now != "" && now != before
}

// Whatever the allocator sends, however often, and whenever the agent dies:
// each set-up runs at most once, what is reported is what happened, and nothing
// stays unreported once an agent lives long enough.
func TestDeliveries_Property(t *testing.T) {
	t.Parallel()
	base, lives := t.TempDir(), 0
	rapid.Check(t, func(t *rapid.T) {
		lives++
		dir := filepath.Join(base, strconv.Itoa(lives))
		host := &modelDesktop{runs: map[string]int{}}
		reported := map[int64]wire.ResultRequest{} // what the allocator has heard
		truth := map[int64]string{}                // what it must hear, if anything
		lossy := false
		var (
			d   *deliveries
			ctx context.Context
		)
		boot := func() {
			if d != nil {
				d.state.close()
			}
			state, notice, err := openState(dir, testHost)
			if err != nil || notice != nil {
				t.Fatal(err, notice)
			}
			ctx, host.kill = context.WithCancel(context.Background()) //nolint:fatcontext // a new life, not a nested one
			d = &deliveries{
				state: state, host: host, name: testHost, scope: "scope", log: slog.New(slog.DiscardHandler),
				report: func(ctx context.Context, r wire.ResultRequest) error {
					if lossy {
						host.kill() // the agent dies while it retries
					}
					if ctx.Err() != nil {
						return ctx.Err()
					}
					if before, again := reported[r.Delivery]; again && before != r {
						t.Fatalf("delivery %d was reported as %+v, then as %+v", r.Delivery, before, r)
					}
					reported[r.Delivery] = r
					return nil
				},
			}
			d.resume(ctx)
		}
		boot()
		defer func() { host.kill(); d.state.close() }()
		var last wire.StartupReply
		var id int64
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			host.next = ending(rapid.IntRange(0, 3).Draw(t, "ending"))
			lossy = rapid.Bool().Draw(t, "lossy")
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0: // a new set-up
				id++
				last = delivery(id, fmt.Sprintf("4/0code%d", id))
				truth[id] = map[ending]string{
					succeeds: wire.ResultConnected, isRefused: wire.ResultFailed,
					diesEarly: wire.ResultFailed, diesLate: wire.ResultConnected,
				}[host.next]
			case 1: // a release
				id++
				last = release(id)
				truth[id] = wire.ResultReleased
			case 2: // the last one again
				if id == 0 {
					continue
				}
			case 3: // only a restart
				host.kill()
			}
			if ctx.Err() == nil {
				_, _ = d.handle(ctx, last)
			}
			if ctx.Err() != nil {
				lossy = false
				boot()
			}
			if r, ok := reported[id]; ok && r.Result != truth[id] {
				t.Fatalf("delivery %d is reported as %q, but it ended %q", id, r.Result, truth[id])
			}
		}
		if id == 0 {
			return
		}
		lossy, host.next = false, succeeds
		if _, err := d.handle(ctx, last); err != nil {
			t.Fatal(err)
		}
		if r := reported[id]; r.Result != truth[id] || r.Hostname != testHost {
			t.Fatalf("delivery %d is reported as %+v, but it ended %q", id, r, truth[id])
		}
		for code, n := range host.runs {
			if n > 1 {
				t.Fatalf("%s was tried %d times", code, n)
			}
		}
		if last.Status == wire.StatusRelease && host.config != 0 {
			t.Fatal("released, but the host configuration is there")
		}
	})
}
