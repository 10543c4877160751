package httpx

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// maxKeys bounds the memory of a Limiter. When it is reached, keys that are back
// at their full allowance are forgotten, which changes nothing for them; if there
// are none, further keys share one allowance until there are.
const maxKeys = 20_000

// Limiter allows each key so many events a minute, with a burst.
type Limiter struct {
	perMinute, burst int

	mu   sync.Mutex
	keys map[string]*rate.Limiter
	rest *rate.Limiter // of keys beyond maxKeys
}

// NewLimiter returns a Limiter for perMinute events a minute and key.
func NewLimiter(perMinute, burst int) *Limiter {
	l := &Limiter{perMinute: perMinute, burst: burst, keys: map[string]*rate.Limiter{}}
	l.rest = l.fresh()
	return l
}

func (l *Limiter) fresh() *rate.Limiter {
	return rate.NewLimiter(rate.Limit(float64(l.perMinute)/60), l.burst)
}

// Allow counts an event of a key, which is an address as ClientAddr returns it.
// If it is over the limit, ok is false and retry says how long to wait.
func (l *Limiter) Allow(key string) (retry time.Duration, ok bool) {
	lim := l.of(key)
	if lim.Allow() {
		return 0, true
	}
	return l.wait(lim), false
}

// Exhausted reports whether the next event would be over the limit, without
// counting one.
func (l *Limiter) Exhausted(key string) (retry time.Duration, yes bool) {
	lim := l.of(key)
	if lim.Tokens() >= 1 {
		return 0, false
	}
	return l.wait(lim), true
}

func (l *Limiter) wait(lim *rate.Limiter) time.Duration {
	return time.Duration((1 - lim.Tokens()) * float64(time.Minute) / float64(l.perMinute))
}

func (l *Limiter) of(key string) *rate.Limiter {
	// Whoever has one IPv6 address usually has a whole /64 of them.
	if addr, err := netip.ParseAddr(key); err == nil && addr.Is6() && !addr.Is4In6() {
		if p, err := addr.Prefix(64); err == nil {
			key = p.String()
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	lim := l.keys[key]
	if lim != nil {
		return lim
	}
	if len(l.keys) >= maxKeys {
		for k, old := range l.keys {
			if old.Tokens() >= float64(l.burst) {
				delete(l.keys, k)
			}
		}
	}
	if len(l.keys) >= maxKeys {
		return l.rest
	}
	lim = l.fresh()
	l.keys[key] = lim
	return lim
}
