// Package wait holds requests until there is something to say: the Hub holds the
// polls of VMs, the Feed wakes live pages. Both know names and channels only;
// what there is to say is read from the database by whoever is woken.
package wait

import "sync"

// Hub is the set of polls that are held in this process, at most one for each
// name: a newer poll replaces an older one. The zero value is not usable, see
// NewHub.
type Hub struct {
	mu      sync.Mutex
	waiters map[string]*Waiter
	lastID  int64
	closed  chan struct{}
}

// Waiter is one held poll.
type Waiter struct {
	ID     int64         // unique within the hub, rising
	Wake   chan struct{} // receives when there may be something to fetch; a hint
	Ousted chan struct{} // closed when a newer poll of the same name replaced this one
	hub    *Hub
	name   string
}

// NewHub returns an empty hub.
func NewHub() *Hub {
	return &Hub{waiters: map[string]*Waiter{}, closed: make(chan struct{})}
}

// Enter adds a poll. The caller reads what there is to fetch only afterwards, so
// that no wake-up can fall between, and calls Leave at the end.
func (h *Hub) Enter(name string) *Waiter {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lastID++
	w := &Waiter{ID: h.lastID, Wake: make(chan struct{}, 1), Ousted: make(chan struct{}), hub: h, name: name}
	if old := h.waiters[name]; old != nil {
		close(old.Ousted)
	}
	h.waiters[name] = w
	return w
}

// Leave removes the poll, unless a newer one has taken its place.
func (w *Waiter) Leave() {
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	if w.hub.waiters[w.name] == w {
		delete(w.hub.waiters, w.name)
	}
}

// Wake wakes the poll of a name, if one is held here.
func (h *Hub) Wake(name string) {
	h.mu.Lock()
	w := h.waiters[name]
	h.mu.Unlock()
	if w != nil {
		signal(w.Wake)
	}
}

// Len returns how many polls are held.
func (h *Hub) Len() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.waiters)
}

// Held returns the ID of each poll by name.
func (h *Hub) Held() map[string]int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	held := make(map[string]int64, len(h.waiters))
	for name, w := range h.waiters {
		held[name] = w.ID
	}
	return held
}

// Closed is closed when the process stops: every poll ends then.
func (h *Hub) Closed() <-chan struct{} { return h.closed }

// Close ends all polls, now and later. It is called once.
func (h *Hub) Close() { close(h.closed) }

// signal leaves a mark in a channel of capacity one, or finds one there.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
