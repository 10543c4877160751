package wait

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must come at once.
const patience = time.Minute

func received(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// TestHub_Property drives a hub at random and compares it with what a map of the
// newest polls would be.
func TestHub_Property(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		h := NewHub()
		newest := map[string]*Waiter{}
		marked := map[*Waiter]bool{}
		var all []*Waiter
		name := rapid.SampledFrom([]string{"vm-1", "vm-2", "vm-3"})
		some := func(rt *rapid.T) *Waiter {
			if len(all) == 0 {
				rt.Skip("there is no poll yet")
			}
			return rapid.SampledFrom(all).Draw(rt, "poll")
		}
		rt.Repeat(map[string]func(*rapid.T){
			"enter": func(rt *rapid.T) {
				n := name.Draw(rt, "name")
				w := h.Enter(n)
				if len(all) > 0 && w.ID <= all[len(all)-1].ID {
					rt.Fatalf("the poll has number %d after %d", w.ID, all[len(all)-1].ID)
				}
				newest[n], all = w, append(all, w)
			},
			"leave": func(rt *rapid.T) { // also one that left before, or was replaced
				w := some(rt)
				w.Leave()
				if newest[w.name] == w {
					delete(newest, w.name)
				}
			},
			"wake": func(rt *rapid.T) {
				n := name.Draw(rt, "name")
				h.Wake(n)
				if w := newest[n]; w != nil {
					marked[w] = true
				}
			},
			"read": func(rt *rapid.T) {
				w := some(rt)
				if got := received(w.Wake); got != marked[w] {
					rt.Fatalf("poll %d of %s: woken %v, want %v", w.ID, w.name, got, marked[w])
				}
				delete(marked, w)
			},
			"": func(rt *rapid.T) {
				if h.Len() != len(newest) {
					rt.Fatalf("%d polls are held, want %d", h.Len(), len(newest))
				}
				held := h.Held()
				for n, w := range newest {
					if held[n] != w.ID || received(w.Ousted) {
						rt.Fatalf("%s is held by poll %d, want %d, which nobody has replaced", n, held[n], w.ID)
					}
				}
			},
		})
	})
}

func TestHub_NewerPollEndsTheOlder(t *testing.T) {
	t.Parallel()
	h := NewHub()
	older := h.Enter("vm-1")
	newer := h.Enter("vm-1")
	if !received(older.Ousted) {
		t.Error("the older poll goes on")
	}
	older.Leave() // must not end the newer one
	h.Wake("vm-1")
	if received(older.Wake) || !received(newer.Wake) {
		t.Error("the wake-up did not go to the newer poll alone")
	}
}

func TestHub_ClosedForEver(t *testing.T) {
	t.Parallel()
	h := NewHub()
	h.Close()
	if h.Enter("vm-1"); !received(h.Closed()) {
		t.Error("a poll that comes after the end is held")
	}
}

// A value is written beside the hub, as a participant's request is in the
// database, while polls come, replace each other, read, and sleep: whatever the
// order, the value is read.
func TestHub_NeverALostWakeup(t *testing.T) {
	t.Parallel()
	const vms, rounds = 8, 500
	h := NewHub()
	var wg sync.WaitGroup
	for n := range vms {
		name := fmt.Sprintf("vm-%d", n)
		var value atomic.Int64
		seen := make(chan int64, 2*rounds)
		// Two pollers of one VM, as when an agent reconnects while its older poll lives.
		stop := make(chan struct{})
		for range 2 {
			wg.Go(func() {
				for !received(stop) {
					pollOnce(h, name, &value, seen, stop)
				}
			})
		}
		wg.Go(func() {
			defer close(stop)
			for round := int64(1); round <= rounds; round++ {
				value.Store(round)
				h.Wake(name)
				for got := int64(0); got < round; {
					select {
					case got = <-seen:
					case <-time.After(patience):
						t.Errorf("%s sleeps through value %d", name, round)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	if h.Len() != 0 {
		t.Errorf("%d polls are left", h.Len())
	}
}

// pollOnce is a poll: enter, then read, then sleep; it ends with a value.
func pollOnce(h *Hub, name string, value *atomic.Int64, seen chan<- int64, stop <-chan struct{}) {
	w := h.Enter(name)
	defer w.Leave()
	for {
		if v := value.Swap(0); v != 0 {
			seen <- v
			return
		}
		select {
		case <-w.Wake:
		case <-w.Ousted:
			return
		case <-stop:
			return
		}
	}
}
