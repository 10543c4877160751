package httpx

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strings"
	"time"

	"lablink/internal/fleet"
)

type infoKey struct{}

// info is what is known of a request from its first moment.
type info struct {
	id     string
	addr   string
	start  time.Time
	logger *slog.Logger
	quiet  bool
}

func infoOf(ctx context.Context) *info {
	i, _ := ctx.Value(infoKey{}).(*info)
	return i
}

// RequestID returns the id under which the log knows the request.
func RequestID(ctx context.Context) string {
	if i := infoOf(ctx); i != nil {
		return i.id
	}
	return ""
}

// ClientAddr returns the address that the request came from, as far as our own
// proxies are believed.
func ClientAddr(r *http.Request) string {
	if i := infoOf(r.Context()); i != nil {
		return i.addr
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// ActorOf returns who makes a change by this request, for the record.
func ActorOf(r *http.Request, kind string) fleet.Actor {
	return fleet.Actor{Kind: kind, Address: ClientAddr(r)}
}

// Quiet keeps a request that went well out of the log: the reports that every VM
// sends every few seconds would bury everything else.
func Quiet(r *http.Request) {
	if i := infoOf(r.Context()); i != nil {
		i.quiet = true
	}
}

// Observer is told of every request that has ended. Route is the pattern that
// matched, "" if none.
type Observer func(route, method string, status int, took time.Duration)

// Observe gives each request an id and a logger, logs its end, and catches
// panics. trusted are the proxies whose X-Forwarded-For is believed.
func Observe(next http.Handler, logger *slog.Logger, trusted []netip.Prefix, observe Observer, onPanic ErrorWriter) http.Handler {
	// Thousands of polls rest below this function. It is split so that its frame
	// stays small: their stacks then fit into 8 KiB instead of 16.
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r = begin(w, r, logger, trusted)
		rec := &recorder{ResponseWriter: w}
		defer func() { end(recover(), rec, r, observe, onPanic) }()
		next.ServeHTTP(rec, r)
	})
}

func begin(w http.ResponseWriter, r *http.Request, logger *slog.Logger, trusted []netip.Prefix) *http.Request {
	i := &info{id: newRequestID(), addr: clientAddr(r, trusted), start: time.Now()}
	i.logger = logger.With("request_id", i.id)
	w.Header().Set("X-Request-Id", i.id)
	return r.WithContext(context.WithValue(r.Context(), infoKey{}, i))
}

// end finishes a request that panicked with p, or did not, if p is nil.
func end(p any, rec *recorder, r *http.Request, observe Observer, onPanic ErrorWriter) {
	i := infoOf(r.Context())
	aborted := p == http.ErrAbortHandler //nolint:errorlint // net/http compares the value itself
	answered := rec.status != 0
	if p != nil && !aborted {
		i.logger.Error("panic", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		if !answered {
			WriteError(rec, r, errors.New("panic"), onPanic)
		}
	}
	observe(r.Pattern, r.Method, rec.code(), time.Since(i.start))
	i.logEnd(r, rec.code(), time.Since(i.start), aborted)
	if p != nil && (aborted || answered) {
		panic(http.ErrAbortHandler) // the answer is half written: cut the connection
	}
}

func (i *info) logEnd(r *http.Request, status int, took time.Duration, aborted bool) {
	level := slog.LevelInfo
	switch {
	case status >= 500 && status != http.StatusServiceUnavailable:
		level = slog.LevelError
	case i.quiet && status < 400:
		level = slog.LevelDebug
	}
	// The query string is left out: people paste secrets anywhere.
	i.logger.Log(r.Context(), level, "request", "method", r.Method, "path", r.URL.Path, "status", status,
		"ms", took.Milliseconds(), "address", i.addr, "cut", aborted)
}

func newRequestID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand.Read ends the program instead
	return hex.EncodeToString(b[:])
}

// clientAddr walks X-Forwarded-For from the right, for as long as the address
// that spoke last is a trusted proxy: what stands further left anybody can write.
func clientAddr(r *http.Request, trusted []netip.Prefix) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	forwarded := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for n := len(forwarded) - 1; n >= 0 && isTrusted(host, trusted); n-- {
		addr, err := netip.ParseAddr(strings.TrimSpace(forwarded[n]))
		if err != nil {
			break
		}
		host = addr.Unmap().String()
	}
	return host
}

func isTrusted(host string, trusted []netip.Prefix) bool {
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	for _, p := range trusted {
		if p.Contains(addr.Unmap()) {
			return true
		}
	}
	return false
}

// recorder remembers the status of an answer.
type recorder struct {
	http.ResponseWriter
	status int
}

// WriteHeader remembers the status and passes it on.
func (r *recorder) WriteHeader(status int) {
	if r.status == 0 && status >= 200 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

// Write passes the body on.
func (r *recorder) Write(b []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return r.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach flushing and deadlines.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func (r *recorder) code() int {
	if r.status == 0 {
		return http.StatusOK
	}
	return r.status
}
