package main

import (
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"lablink/internal/testkit"
)

// An allocator that is away for a moment has everything when it is back.
func TestTrouble_DownAndBack(t *testing.T) {
	t.Parallel()
	a := serve(t)
	a.Register("vm-1")
	var listen net.ListenConfig
	listener, err := listen.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	f := start(t, "http://"+address)
	result := make(chan string, 1)
	go func() { result <- f.handle(delivery(t, "vm-1", 0, "hello"), enough) }()
	testkit.Eventually(t, "two tries", func() bool { return strings.Count(f.output(), "trying again") >= 2 })

	listener, err = listen.Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{ReadHeaderTimeout: enough, Handler: proxyTo(t, a.URL)}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	if got := <-result; got != "" {
		t.Error(got)
	}
	wantLog(t, a, "vm-1", "hello")
	if err := server.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
}

// It comes again when it is told to, if there is the time.
func TestTrouble_TooMany(t *testing.T) {
	t.Parallel()
	a := serve(t)
	a.Register("vm-1")
	front := newFront(t, a.URL)
	retryAfter := func(text string) {
		front.answer(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", text)
			w.WriteHeader(http.StatusTooManyRequests)
			front.pass()
		})
	}
	f := start(t, front.url)
	soon := time.Now().Add(5 * time.Second).Truncate(time.Second)
	for i, text := range []string{"1", soon.UTC().Format(http.TimeFormat)} {
		retryAfter(text)
		earliest := soon
		if i == 0 {
			earliest = time.Now().Add(time.Second)
		}
		f.wantDelivered(delivery(t, "vm-1", i, "hello"))
		if early := time.Until(earliest); early > 0 {
			t.Errorf("after Retry-After: %s it came again %v too early", text, early)
		}
	}
	if got := front.posts.Load(); got != 4 {
		t.Errorf("there were %d posts", got)
	}
	retryAfter("3600")
	f.wantFailure(delivery(t, "vm-1", 2, "one more"), enough, "429", "no time for another try")
	wantLog(t, a, "vm-1", "hello", "hello")
}

// Whatever the allocator does, Lambda gets an answer in time, and with it the
// chance to come again. What was accepted before is not there twice.
func TestTrouble_NoTimeLeft(t *testing.T) {
	t.Parallel()
	a := serve(t)
	a.Register("vm-1")
	front := newFront(t, a.URL)
	f := start(t, front.url)
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	f.wantDelivered(delivery(t, "vm-1", 0, "first"))

	lines, proxy := numbered(1, 10_001), proxyTo(t, a.URL)
	event := delivery(t, "vm-1", 1, lines...)
	for name, trouble := range map[string]struct {
		does http.HandlerFunc
		says string
	}{
		"hangs":       {func(_ http.ResponseWriter, r *http.Request) { wait(r, release) }, "deadline exceeded"},
		"is restless": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }, "answered 503"},
		"hangs up":    {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
	} {
		front.answer(func(w http.ResponseWriter, r *http.Request) {
			if r.ContentLength < 2000 { // the second batch, which has one event
				trouble.does(w, r)
				return
			}
			proxy.ServeHTTP(w, r)
		})
		t.Log(name)
		f.wantFailure(event, 5*time.Second, trouble.says, "no time")
	}
	wantLog(t, a, "vm-1", append([]string{"first"}, lines[:10_000]...)...)
	front.pass()
	f.wantDelivered(event)
	wantLog(t, a, "vm-1", append([]string{"first"}, lines...)...)
}

// Where a batch fails, those behind it wait.
func TestTrouble_Order(t *testing.T) {
	t.Parallel()
	a := serve(t)
	a.Register("vm-1")
	front := newFront(t, a.URL)
	f := start(t, front.url)
	front.answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) })
	lines := numbered(1, 20_001)
	f.wantFailure(delivery(t, "vm-1", 0, lines...), enough, "403")
	if got := front.posts.Load(); got != 1 {
		t.Errorf("there were %d posts", got)
	}
	front.pass()
	f.wantDelivered(delivery(t, "vm-1", 0, lines...))
	wantLog(t, a, "vm-1", lines...)
}

func wait(r *http.Request, release <-chan struct{}) {
	select {
	case <-release:
	case <-r.Context().Done():
	}
}
