package web

import (
	"context"
	"net/http"
	"sync"
	"time"

	"lablink/internal/httpx"
	"lablink/internal/wait"
)

// liveEvent is one fragment of a page that follows what happens.
type liveEvent struct {
	name, data string
}

// caster renders what many open pages show once for all of them: 150 home pages
// must not mean 150 queries for each change. It works only while somebody
// watches.
type caster struct {
	feed   *wait.Feed
	every  time.Duration // at most so often
	tick   time.Duration // at least so often
	render func(context.Context) ([]liveEvent, error)

	mu       sync.Mutex
	watchers map[chan []liveEvent]struct{}
	last     []liveEvent
	stop     context.CancelFunc
	failed   func(error) // told of a rendering that failed; the next one may work
}

func newCaster(feed *wait.Feed, every, tick time.Duration, render func(context.Context) ([]liveEvent, error)) *caster {
	return &caster{
		feed: feed, every: every, tick: tick, render: render,
		watchers: map[chan []liveEvent]struct{}{}, failed: func(error) {},
	}
}

// watch returns a channel of what to show, the newest only, and a function that
// ends the watching.
func (c *caster) watch() (<-chan []liveEvent, func()) {
	watcher := make(chan []liveEvent, 1)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watchers[watcher] = struct{}{}
	if len(c.watchers) == 1 {
		// It outlives the request of the first watcher, and ends with the last one's.
		ctx, cancel := context.WithCancel(context.Background())
		c.stop, c.last = cancel, nil
		go c.run(ctx)
	} else if c.last != nil {
		watcher <- c.last
	}
	return watcher, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.watchers, watcher)
		if len(c.watchers) == 0 {
			c.stop()
		}
	}
}

func (c *caster) run(ctx context.Context) {
	changed, unsubscribe := c.feed.Subscribe(wait.Any)
	defer unsubscribe()
	for {
		reading, cancel := context.WithTimeout(ctx, readTimeout)
		events, err := c.render(reading)
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			c.failed(err)
		default:
			c.publish(ctx, events)
		}
		if !pause(ctx, c.every) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-time.After(c.tick):
		}
	}
}

func (c *caster) publish(ctx context.Context, events []liveEvent) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ctx.Err() != nil {
		return // the watchers of today are another run's
	}
	c.last = events
	for watcher := range c.watchers {
		select {
		case <-watcher: // it never saw the one before
		default:
		}
		watcher <- events
	}
}

// pause waits, and reports whether ctx is still alive.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// sender sends the fragments that a page does not have yet.
type sender struct {
	stream *httpx.EventStream
	sent   map[string]string
}

func newSender(rw http.ResponseWriter) (*sender, error) {
	stream, err := httpx.Stream(rw)
	if err != nil {
		return nil, err
	}
	return &sender{stream, map[string]string{}}, nil
}

func (s *sender) send(events []liveEvent) error {
	for _, e := range events {
		if old, ok := s.sent[e.name]; ok && old == e.data {
			continue
		}
		if err := s.stream.Send(e.name, e.data); err != nil {
			return err
		}
		s.sent[e.name] = e.data
	}
	return nil
}

func (w *Web) getHomeEvents(rw http.ResponseWriter, r *http.Request) error {
	httpx.Quiet(r)
	s, err := newSender(rw)
	if err != nil {
		return err
	}
	events, unwatch := w.home.watch()
	defer unwatch()
	keepAlive := time.NewTicker(w.times.keepAlive)
	defer keepAlive.Stop()
	for {
		var err error
		select {
		case <-r.Context().Done():
			return nil
		case <-w.feed.Closed():
			return nil
		case e := <-events:
			err = s.send(e)
		case <-keepAlive.C:
			err = s.stream.Comment()
		}
		if err != nil {
			return nil // the reader has gone: there is nobody to tell
		}
	}
}

// getAdminEvents tells the admin's pages when to read themselves again.
func (w *Web) getAdminEvents(rw http.ResponseWriter, r *http.Request) error {
	httpx.Quiet(r)
	// Subscribed first: what changes once the page knows that it is connected reaches it.
	changed, unsubscribe := w.feed.Subscribe(wait.Any)
	defer unsubscribe()
	stream, err := httpx.Stream(rw)
	if err != nil {
		return err
	}
	for {
		select {
		case <-r.Context().Done():
			return nil
		case <-w.feed.Closed():
			return nil
		case <-changed:
		case <-time.After(w.times.adminTick):
		}
		if stream.Send("changed", "") != nil {
			return nil // the reader has gone
		}
		select {
		case <-r.Context().Done():
			return nil
		case <-w.feed.Closed():
			return nil
		case <-time.After(w.times.adminEvery):
		}
	}
}

// readTimeout bounds a read of the database by a live page, which lives long
// itself.
const readTimeout = 10 * time.Second

func (w *Web) readSeatPanel(ctx context.Context, browser []byte) (livePanel, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	return w.seatPanel(ctx, browser)
}

// getSeatEvents shows one browser what becomes of its seat. Each time it reads
// the seat by the browser's cookie: who may no longer see it gets no more of it.
func (w *Web) getSeatEvents(rw http.ResponseWriter, r *http.Request) error {
	httpx.Quiet(r)
	browser := browserOf(r)
	first, err := w.readSeatPanel(r.Context(), browser)
	if err != nil {
		return err
	}
	s, err := newSender(rw)
	if err != nil {
		return err
	}
	topic := first.hostname
	changed, unsubscribe := w.feed.Subscribe(topic)
	defer func() { unsubscribe() }()
	keepAlive := time.NewTicker(w.times.keepAlive)
	defer keepAlive.Stop()
	for {
		// Read after subscribing: what changes from here on wakes us.
		panel, err := w.readSeatPanel(r.Context(), browser)
		switch {
		case err != nil && r.Context().Err() != nil:
			return nil // the reader has gone
		case err != nil:
			httpx.Logger(r.Context()).Warn("seat not read for a live page", "error", err)
		default:
			if s.send(panel.events) != nil || panel.ended {
				return nil // the reader has gone, or there is nothing more to see
			}
			if panel.hostname != topic {
				unsubscribe()
				topic = panel.hostname
				changed, unsubscribe = w.feed.Subscribe(topic)
				continue
			}
		}
		tick := w.times.idleTick
		if err != nil || panel.pending {
			tick = w.times.seatTick
		}
		if !w.waitForSeat(r.Context(), s, changed, tick, keepAlive.C) {
			return nil
		}
	}
}

// waitForSeat returns true when the seat should be read again.
func (w *Web) waitForSeat(ctx context.Context, s *sender, changed <-chan struct{}, tick time.Duration, keepAlive <-chan time.Time) bool {
	again := time.After(tick)
	for {
		select {
		case <-ctx.Done():
			return false
		case <-w.feed.Closed():
			return false
		case <-changed:
			return true
		case <-again:
			return true
		case <-keepAlive:
			if s.stream.Comment() != nil {
				return false
			}
		}
	}
}
