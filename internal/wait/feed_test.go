package wait

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestFeed_Topics(t *testing.T) {
	t.Parallel()
	f := NewFeed()
	one, endOne := f.Subscribe("vm-1")
	two, endTwo := f.Subscribe("vm-2")
	all, endAll := f.Subscribe(Any)
	defer endTwo()
	defer endAll()
	for what, tc := range map[string]struct {
		publish       func()
		one, two, all bool
	}{
		"one VM":     {func() { f.Publish("vm-1") }, true, false, true},
		"nobody's":   {func() { f.Publish("vm-3") }, false, false, true},
		"everything": {f.PublishAll, true, true, true},
		"many times": {func() { f.Publish("vm-2"); f.Publish("vm-2"); f.PublishAll() }, true, true, true},
	} {
		tc.publish()
		if a, b, c := received(one), received(two), received(all); a != tc.one || b != tc.two || c != tc.all {
			t.Errorf("%s: woken %v %v %v, want %v %v %v", what, a, b, c, tc.one, tc.two, tc.all)
		}
		if received(one) || received(two) || received(all) {
			t.Errorf("%s: somebody is woken twice", what)
		}
	}
	endOne()
	endOne() // harmless
	f.Publish("vm-1")
	if received(one) {
		t.Error("a subscription that has ended still receives")
	}
	if len(f.topics) != 2 {
		t.Errorf("%d topics are kept, want 2", len(f.topics))
	}
}

// Whoever reads after it was woken sees the newest state, however slowly it
// reads and however many others come and go.
func TestFeed_NeverALostMark(t *testing.T) {
	t.Parallel()
	const last = 2000
	f := NewFeed()
	var state atomic.Int64
	var readers, visitors sync.WaitGroup
	for _, topic := range []string{"vm-1", "vm-1", Any, Any} {
		changed, end := f.Subscribe(topic)
		readers.Go(func() {
			defer end()
			for state.Load() < last {
				select {
				case <-changed:
				case <-time.After(patience):
					t.Errorf("a page of topic %q sleeps through the last change", topic)
					return
				}
			}
		})
	}
	done := make(chan struct{})
	visitors.Go(func() {
		for !received(done) {
			_, end := f.Subscribe("vm-1")
			end()
		}
	})
	for range last {
		state.Add(1)
		f.Publish("vm-1")
	}
	readers.Wait()
	close(done)
	visitors.Wait()
	f.Close()
	if !received(f.Closed()) {
		t.Error("the streams go on after the end")
	}
}
