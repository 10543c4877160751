package agent

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// backoff doubles the wait with each failure. Half of each wait is chance, so
// that thousands of agents do not come back in step.
type backoff struct {
	min, max time.Duration
	fails    int
}

func (b *backoff) next() time.Duration {
	d := b.max
	if b.fails < 32 && b.min<<b.fails < b.max {
		d = b.min << b.fails
	}
	b.fails++
	return d/2 + upTo(d/2)
}

// after is next, or longer if the allocator asked for it.
func (b *backoff) after(err error) time.Duration {
	d := b.next()
	if e, ok := errors.AsType[*statusError](err); ok && e.retryAfter > d {
		d = e.retryAfter + upTo(e.retryAfter/4)
	}
	return d
}

func (b *backoff) reset() { b.fails = 0 }

// upTo is a random duration from 0 to d.
func upTo(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return rand.N(d + 1)
}

// jitter is d, up to a tenth shorter or longer.
func jitter(d time.Duration) time.Duration { return d - d/10 + upTo(d/5) }

// wait returns nil after d, or the context's error.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
