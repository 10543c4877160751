package jobs

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"lablink/internal/provision"
	"lablink/internal/store"
)

const (
	// recordEvery is how far the record may be behind Terraform: a database that is
	// slow for a moment must not hold Terraform up, and many lines become one
	// statement.
	recordEvery = 100 * time.Millisecond
	// maxPending bounds the output that waits for the database, in bytes.
	maxPending = 4 << 20
)

// event is what has become of a VM.
type event struct {
	kind provision.EventKind
	vm   int64
	at   time.Time
}

// recorder writes down what becomes of an operation.
type recorder struct {
	claim   *store.Claim
	logger  *slog.Logger
	writing sync.Mutex // one flush at a time

	mu     sync.Mutex
	output []byte  // whole lines
	events []event // in their order
	full   bool    // output is missing from here on
}

func newRecorder(claim *store.Claim, logger *slog.Logger) *recorder {
	return &recorder{claim: claim, logger: logger}
}

// line takes a line of output.
func (r *recorder) line(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case len(r.output) <= maxPending:
		r.full = false
		r.output = append(append(r.output, text...), '\n')
	case !r.full:
		r.full = true
		r.output = append(r.output, "(Output came faster than it could be stored. Some of it is missing here.)\n"...)
	}
}

// event takes what has become of a VM.
func (r *recorder) event(e event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

// run writes again and again until ctx ends.
func (r *recorder) run(ctx context.Context) {
	tick := time.NewTicker(recordEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := r.flush(ctx); err != nil && ctx.Err() == nil {
			// Kept, and written with what comes next. If it cannot be written at all, the end
			// of the operation cannot either, and the next runner finds out for itself.
			r.logger.Warn("progress not recorded", "error", err)
		}
	}
}

// flush writes what is pending. What could not be written stays, and writing an
// event twice changes nothing.
func (r *recorder) flush(ctx context.Context) error {
	r.writing.Lock()
	defer r.writing.Unlock()
	r.mu.Lock()
	output, events := slices.Clone(r.output), slices.Clone(r.events)
	r.mu.Unlock()
	if len(output) > 0 {
		if err := r.claim.Write(ctx, string(output)); err != nil {
			return err
		}
		r.mu.Lock()
		r.output = slices.Clone(r.output[len(output):])
		r.mu.Unlock()
	}
	if err := r.writeEvents(ctx, events); err != nil {
		return err
	}
	r.mu.Lock()
	r.events = slices.Clone(r.events[len(events):])
	r.mu.Unlock()
	return nil
}

func (r *recorder) writeEvents(ctx context.Context, events []event) error {
	for _, kind := range []provision.EventKind{provision.VMBegun, provision.VMCreated, provision.VMDestroyed, provision.VMFailed} {
		var vms []int64
		var at []time.Time
		for _, e := range events {
			if e.kind == kind {
				vms, at = append(vms, e.vm), append(at, e.at)
			}
		}
		if len(vms) == 0 {
			continue
		}
		var err error
		switch kind {
		case provision.VMBegun:
			err = r.claim.Begin(ctx, vms, at)
		case provision.VMCreated:
			err = r.claim.Created(ctx, vms, at)
		case provision.VMDestroyed:
			err = r.claim.Destroyed(ctx, vms, at)
		case provision.VMFailed:
			err = r.claim.Failing(ctx, vms)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
