// Package ship sends what a VM prints to the allocator: lines of files that grow,
// are rotated, appear and vanish. What the allocator has accepted is remembered on
// disk. All else is sent again after a crash, by the same names, so that the
// allocator stores it once.
package ship

import (
	"context"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"lablink/internal/wire"
)

// Config is what Run needs. Timing and Secrets may be empty.
type Config struct {
	Dir      string // for what is remembered
	Hostname string
	Sources  []Source
	Secrets  []string // never to be sent

	// Send posts a batch. Its error may be a Refusal.
	Send func(context.Context, wire.LogBatch) error
	// Pause is how long to wait after so many failures in a row, of which err is the last.
	Pause func(fails int, err error) time.Duration
	// Log gets complaints. It must not be one of the sources: a complaint that cannot
	// be sent would make the next.
	Log    *slog.Logger
	Timing Timing
}

// Source is a log: the file that something appends to, or the folder of a Spool.
type Source struct {
	Name  string // at the allocator
	Path  string
	Spool bool
	Maybe bool // if it may not be read, that is no trouble
}

// Refusal is an answer of the allocator other than 200.
type Refusal interface {
	error
	Status() int
}

// Timing holds periods and limits. Zero values mean the defaults.
type Timing struct {
	Look    time.Duration // between two looks for new lines: 100 ms
	Batch   time.Duration // between two batches that are not full: 500 ms
	Partial time.Duration // until a line without its end is sent as it is: 2 s
	Settle  time.Duration // after the last write to a rotated file, until it counts as complete: 1 s
	Stop    time.Duration // for what is left at the end: 3 s
}

func (t *Timing) defaults() {
	for _, d := range []struct {
		value    *time.Duration
		standard time.Duration
	}{
		{&t.Look, 100 * time.Millisecond}, {&t.Batch, 500 * time.Millisecond}, {&t.Partial, 2 * time.Second},
		{&t.Settle, time.Second}, {&t.Stop, 3 * time.Second},
	} {
		if *d.value == 0 {
			*d.value = d.standard
		}
	}
}

// Run ships until ctx ends, and then, within Timing.Stop, what is there.
func Run(ctx context.Context, cfg Config) {
	cfg.Timing.defaults()
	var group sync.WaitGroup
	for _, s := range cfg.Sources {
		f := &follower{cfg: &cfg, source: s, saved: filepath.Join(cfg.Dir, s.Name+".json"), complaints: map[string]complaint{}}
		if s.Spool {
			f.files = segments{dir: s.Path}
		} else {
			f.files = rotated{s.Path, cfg.Timing.Partial}
		}
		group.Go(func() { f.run(ctx) })
	}
	group.Wait()
}
