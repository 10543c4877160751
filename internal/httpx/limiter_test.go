package httpx

import (
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestLimiter_Burst(t *testing.T) {
	t.Parallel()
	l := NewLimiter(1, 3)
	for n := range 3 {
		if _, ok := l.Allow("192.0.2.1"); !ok {
			t.Fatalf("event %d is over a burst of 3", n+1)
		}
	}
	retry, ok := l.Allow("192.0.2.1")
	if ok || retry <= 50*time.Second || retry > time.Minute {
		t.Errorf("the fourth event: allowed %v, retry in %v; one a minute comes back", ok, retry)
	}
	if _, ok := l.Allow("192.0.2.2"); !ok {
		t.Error("another address is held responsible")
	}
}

func TestLimiter_ExhaustedCountsNothing(t *testing.T) {
	t.Parallel()
	l := NewLimiter(1, 1)
	for range 5 {
		if _, yes := l.Exhausted("192.0.2.1"); yes {
			t.Fatal("to ask has used up the allowance")
		}
	}
	l.Allow("192.0.2.1")
	if retry, yes := l.Exhausted("192.0.2.1"); !yes || retry <= 0 {
		t.Errorf("exhausted %v, retry in %v", yes, retry)
	}
}

func TestLimiter_IPv6Network(t *testing.T) {
	t.Parallel()
	l := NewLimiter(1, 1)
	l.Allow("2001:db8::1")
	if _, ok := l.Allow("2001:db8::ffff:2"); ok {
		t.Error("a second address of one /64 has an allowance of its own")
	}
	if _, ok := l.Allow("2001:db8:0:1::1"); !ok {
		t.Error("another /64 is held responsible")
	}
	if _, ok := l.Allow("a hostname"); !ok {
		t.Error("a key that is no address is refused")
	}
}

// Addresses that are back at their allowance make room; if all are busy, the rest
// share one allowance, and nobody gains by it.
func TestLimiter_BoundedMemory(t *testing.T) {
	t.Parallel()
	l := NewLimiter(1, 1)
	key := func(n int) string {
		return netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}).String()
	}
	passed := 0
	for n := range maxKeys + 10 {
		if _, ok := l.Allow(key(n)); ok {
			passed++
		}
	}
	if len(l.keys) > maxKeys {
		t.Errorf("%d keys are kept, at most %d", len(l.keys), maxKeys)
	}
	if passed != maxKeys+1 {
		t.Errorf("%d events passed, want %d of their own and one shared", passed, maxKeys)
	}
	if _, ok := l.Allow(key(0)); ok {
		t.Error("an exhausted address was forgotten, and so has a fresh allowance")
	}

	idle := NewLimiter(1, 2)
	for n := range maxKeys + 1 {
		idle.Exhausted(key(n)) // uses nothing up
	}
	if len(idle.keys) != 1 {
		t.Errorf("%d keys are kept, although all but one are as good as forgotten", len(idle.keys))
	}
}

func TestLimiter_AtOnce(t *testing.T) {
	t.Parallel()
	const burst = 50
	l := NewLimiter(1, burst)
	var passed atomic.Int64
	var wg sync.WaitGroup
	for n := range 4 * burst {
		wg.Go(func() {
			if _, ok := l.Allow("192.0.2.1"); ok {
				passed.Add(1)
			}
			l.Exhausted(fmt.Sprintf("192.0.2.%d", n%250))
		})
	}
	wg.Wait()
	if passed.Load() != burst {
		t.Errorf("%d events passed, want %d", passed.Load(), burst)
	}
}
