package wait

import "sync"

// Any is the topic that receives whatever is published.
const Any = ""

// Operation is the topic of an operation. The topic of a VM is its hostname,
// which has no space.
func Operation(id string) string { return "operation " + id }

// Feed wakes live pages. Each subscriber has a channel of capacity one: marks
// that come faster than it reads become one, and nobody waits for a slow reader.
type Feed struct {
	mu     sync.Mutex
	topics map[string]map[chan struct{}]struct{}
	closed chan struct{}
}

// NewFeed returns a feed without subscribers.
func NewFeed() *Feed {
	return &Feed{topics: map[string]map[chan struct{}]struct{}{}, closed: make(chan struct{})}
}

// Subscribe returns a channel that receives after something was published on
// the topic, and a function that ends the subscription.
func (f *Feed) Subscribe(topic string) (<-chan struct{}, func()) {
	c := make(chan struct{}, 1)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.topics[topic] == nil {
		f.topics[topic] = map[chan struct{}]struct{}{}
	}
	f.topics[topic][c] = struct{}{}
	return c, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.topics[topic], c)
		if len(f.topics[topic]) == 0 {
			delete(f.topics, topic)
		}
	}
}

// Publish wakes the subscribers of a topic and of Any.
func (f *Feed) Publish(topic string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.topics[topic] {
		signal(c)
	}
	if topic != Any {
		for c := range f.topics[Any] {
			signal(c)
		}
	}
}

// PublishAll wakes every subscriber: anything may have changed.
func (f *Feed) PublishAll() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, subscribers := range f.topics {
		for c := range subscribers {
			signal(c)
		}
	}
}

// Closed is closed when the process stops: every stream ends then.
func (f *Feed) Closed() <-chan struct{} { return f.closed }

// Close ends all streams. It is called once.
func (f *Feed) Close() { close(f.closed) }
