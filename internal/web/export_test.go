package web

import "time"

// Quicken makes pages follow at once, and read again only when told.
func (w *Web) Quicken() {
	w.times = times{
		homeEvery: time.Millisecond, adminEvery: time.Millisecond, adminTick: time.Hour,
		seatTick: time.Hour, idleTick: time.Hour, keepAlive: time.Hour,
	}
	w.home.every, w.home.tick = time.Millisecond, time.Hour
}
