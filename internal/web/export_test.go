package web

import (
	"context"
	"sync/atomic"
	"time"
)

// Unremembering makes every start page read how many VMs are free.
func (w *Web) Unremembering() { w.vacant.keep = 0 }

// CountVacancies makes start pages remember how many VMs are free, and counts
// how often that is read.
func (w *Web) CountVacancies() *atomic.Int64 {
	var n atomic.Int64
	read := w.vacant.read
	w.vacant.keep, w.vacant.read = time.Hour, func(ctx context.Context) (vacancyView, error) {
		n.Add(1)
		return read(ctx)
	}
	return &n
}

// LookAgain makes pages read seats again at once.
func (w *Web) LookAgain() { w.times.seatTick = time.Millisecond }

// Quicken makes pages follow at once, and read again only when told.
func (w *Web) Quicken() {
	w.times = times{
		homeEvery: time.Millisecond, adminEvery: time.Millisecond, adminTick: time.Hour,
		seatTick: time.Hour, idleTick: time.Hour, logTick: time.Millisecond, keepAlive: time.Hour,
	}
	w.home.every, w.home.tick = time.Millisecond, time.Hour
}
