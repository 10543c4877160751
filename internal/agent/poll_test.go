package agent

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"lablink/internal/wire"
)

// trickle begins a 200 as the allocator does: the interval, and a newline.
func trickle(w http.ResponseWriter) {
	w.Header().Set(wire.KeepaliveHeader, "1")
	fmt.Fprintln(w)
	_ = http.NewResponseController(w).Flush()
}

func TestPoll_KeepalivesBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	f := newAllocator(t)
	v := newVM(t, f)
	v.start()
	next(t, f.polls, "poll").answer <- func(w http.ResponseWriter) {
		trickle(w)
		for range 100 {
			trickle(w)
		}
		writeJSON(w, delivery(5, "4/0good"))
	}
	if got := next(t, f.results, "result"); got.Result != wire.ResultConnected || got.Delivery != 5 {
		t.Errorf("result %+v", got)
	}
}

func TestPoll_SilenceAfterKeepalives(t *testing.T) {
	t.Parallel()
	f := newAllocator(t)
	v := newVM(t, f)
	v.cfg.Timing.MaxSilence = 100 * time.Millisecond
	v.start()
	p := next(t, f.polls, "poll")
	p.answer <- func(w http.ResponseWriter) {
		trickle(w)
		<-p.gone // says nothing more, and keeps the connection
	}
	next(t, f.polls, "poll after the silence")
	if !strings.Contains(v.log.String(), errSilence.Error()) {
		t.Errorf("the log does not say why:\n%s", v.log)
	}
}

// The allocator's interval may be a fraction of a second.
func TestPoll_SilenceAfterKeepalivesInFractions(t *testing.T) {
	t.Parallel()
	f := newAllocator(t)
	v := newVM(t, f)
	v.cfg.Timing.HeaderSilence = time.Hour                // unless the header counts
	v.cfg.Timing.SilenceMargin = -2900 * time.Millisecond // leaves 100 ms of three seconds
	v.start()
	p := next(t, f.polls, "poll")
	p.answer <- func(w http.ResponseWriter) {
		w.Header().Set(wire.KeepaliveHeader, "0.25")
		_ = http.NewResponseController(w).Flush()
		<-p.gone
	}
	next(t, f.polls, "poll after the silence")
}

func TestKeepalive(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]time.Duration{
		"15": 15 * time.Second, "0.05": time.Second, "1.5": 2 * time.Second, "86399.5": 24 * time.Hour,
		"": 0, "0": 0, "-1": 0, "86400": 0, "1e300": 0, "NaN": 0, "+Inf": 0, "soon": 0,
	} {
		got, ok := keepalive(http.Header{wire.KeepaliveHeader: {value}})
		if got != want || ok != (want != 0) {
			t.Errorf("%q: %v, %v; want %v", value, got, ok, want)
		}
	}
}

// A poll may be held for days: that it works again is said when it begins.
func TestPoll_ReliefIsLoggedAtOnce(t *testing.T) {
	t.Parallel()
	const relief = "can be used again"
	f := newAllocator(t)
	v := newVM(t, f)
	v.cfg.Timing.SilenceMargin, v.cfg.Timing.MaxSilence = time.Hour, time.Hour // or the end of the poll is the relief
	v.start()
	next(t, f.polls, "poll").code(http.StatusInternalServerError)
	// A 200 that the allocator did not send is no relief.
	next(t, f.polls, "poll").answer <- func(w http.ResponseWriter) { fmt.Fprint(w, "<html>captive portal</html>") }
	p := next(t, f.polls, "poll after the refusals")
	if log := v.log.String(); strings.Contains(log, relief) {
		t.Errorf("relief too early:\n%s", log)
	}
	p.answer <- func(w http.ResponseWriter) {
		trickle(w)
		<-p.gone
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for !strings.Contains(v.log.String(), relief) {
		if wait(ctx, time.Millisecond) != nil {
			t.Fatalf("no relief while the poll is held:\n%s", v.log)
		}
	}
}

func TestPoll_SilenceBeforeTheHeaders(t *testing.T) {
	t.Parallel()
	f := newAllocator(t)
	v := newVM(t, f)
	v.cfg.Timing.HeaderSilence = 100 * time.Millisecond
	// A poll that was held that long ended in the usual way: no growing waits.
	v.cfg.Timing.RetryMin, v.cfg.Timing.RetryMax = time.Hour, time.Hour
	v.start()
	next(t, f.polls, "poll")
	next(t, f.polls, "second poll")
	next(t, f.polls, "third poll")
}

func TestPoll_CutConnection(t *testing.T) {
	t.Parallel()
	f := newAllocator(t)
	v := newVM(t, f)
	v.cfg.Timing.RetryMin, v.cfg.Timing.RetryMax = time.Hour, time.Hour // only "at once" can pass
	v.start()
	for _, part := range []string{"", `{"status":"success","pin":"73918`} {
		next(t, f.polls, "poll").answer <- func(w http.ResponseWriter) {
			trickle(w)
			fmt.Fprint(w, part)
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
	}
	next(t, f.polls, "poll after the cuts").reply(delivery(1, "4/0good"))
	if got := next(t, f.results, "result"); got.Result != wire.ResultConnected {
		t.Errorf("result %+v", got)
	}
	v.noSecrets()
}

func TestPoll_RestartHeader(t *testing.T) {
	t.Parallel()
	f := newAllocator(t)
	v := newVM(t, f)
	v.cfg.Timing.RetryMin, v.cfg.Timing.RetryMax = time.Hour, time.Hour
	v.start()
	next(t, f.polls, "poll").code(http.StatusServiceUnavailable, wire.RestartHeader, "1")
	next(t, f.polls, "poll at once").reply(delivery(1, "4/0good"))
	next(t, f.results, "result")
	next(t, f.polls, "poll").code(http.StatusServiceUnavailable, wire.RestartHeader, "1")
	next(t, f.polls, "poll at once, also the second time")
}

func TestPoll_RefusalsAreRetriedAndExplained(t *testing.T) {
	t.Parallel()
	f := newAllocator(t)
	v := newVM(t, f)
	v.start()
	for code, want := range map[int]string{
		401: "the token is missing or wrong", 403: "the token is another VM's", 404: "does not know this hostname",
		500: "answered 500", 502: "answered 502", 400: "answered 400 (because)",
	} {
		next(t, f.polls, "poll").code(code)
		next(t, f.polls, "poll after the refusal").code(code) // the same again is not logged again
		next(t, f.polls, "poll").code(code)
		if n := strings.Count(v.log.String(), want); n != 1 {
			t.Errorf("%d: the log says %q %d times, want once", code, want, n)
		}
	}
	next(t, f.polls, "poll").reply(delivery(1, "4/0good"))
	next(t, f.results, "result")
	if !strings.Contains(v.log.String(), "can be used again") {
		t.Error("the log does not say that it works again")
	}
	v.noSecrets()
}

func TestPoll_StrangeAnswers(t *testing.T) {
	t.Parallel()
	f := newAllocator(t)
	v := newVM(t, f)
	v.start()
	for _, body := range []string{
		"", "\n\n", "<html>captive portal, PIN 739184</html>", `{"status":"dance","delivery":1}`, `{`, `[]`,
		strings.Repeat("x", 200_000),
	} {
		next(t, f.polls, "poll").answer <- func(w http.ResponseWriter) { fmt.Fprint(w, body) }
	}
	next(t, f.polls, "poll").reply(delivery(1, "4/0good"))
	if got := next(t, f.results, "result"); got.Result != wire.ResultConnected {
		t.Errorf("result %+v", got)
	}
	v.noSecrets()
}

func TestPoll_Redirects(t *testing.T) {
	t.Parallel()
	t.Run("307 on the same host is followed", func(t *testing.T) {
		t.Parallel()
		f := newAllocator(t)
		v := newVM(t, f)
		inner := f.server.Config.Handler
		f.server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if rest, ok := strings.CutPrefix(r.URL.Path, "/old"); ok {
				http.Redirect(w, r, rest, http.StatusTemporaryRedirect)
				return
			}
			inner.ServeHTTP(w, r)
		})
		v.cfg.Allocator += "/old/"
		v.start()
		p := next(t, f.polls, "poll")
		if p.header.Get("Authorization") == "" || p.request.Hostname != testHost {
			t.Errorf("the redirected poll lost its body or token: %+v", p)
		}
	})
	t.Run("nothing goes to another host, nor as a GET", func(t *testing.T) {
		t.Parallel()
		strangers := make(chan string, 1000)
		stranger := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			strangers <- r.Method + " " + r.URL.Path
		}))
		t.Cleanup(stranger.Close)
		for _, code := range []int{301, 302, 303, 307, 308} {
			f := newAllocator(t)
			v := newVM(t, f)
			polls := make(chan string)
			f.server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body) // only then is the caller's end noticed
				to := stranger.URL + "/there?token=" + testToken
				if code < 307 && r.URL.Path == wire.PathStartup {
					to = "/elsewhere" // the same host, but as a GET
				}
				w.Header().Set("Location", to)
				w.WriteHeader(code)
				select {
				case polls <- r.Method + " " + r.URL.Path:
				case <-r.Context().Done():
				}
			})
			stop := v.start()
			for range 10 {
				if got := next(t, polls, "call"); !strings.HasPrefix(got, "POST ") || strings.Contains(got, "elsewhere") {
					t.Errorf("%d: %s", code, got)
				}
			}
			stop()
			if log := v.log.String(); !strings.Contains(log, "set --allocator to the address that answers itself") || strings.Contains(log, testToken) {
				t.Errorf("%d: log\n%s", code, log)
			}
		}
		if len(strangers) > 0 {
			t.Errorf("another host was called: %s", <-strangers)
		}
	})
}

func TestPace(t *testing.T) {
	t.Parallel()
	cut := &pollError{err: errCut, alive: true}
	refused := &pollError{err: &statusError{code: 503}}
	restart := &pollError{err: &statusError{code: 503, restart: true}}
	p := pace{backoff: backoff{min: time.Second, max: time.Minute}, atOnce: time.Second}
	between := func(what string, d, low, high time.Duration) {
		t.Helper()
		if d < low || d > high {
			t.Errorf("%s: %v, want %v to %v", what, d, low, high)
		}
	}
	for i, seconds := range []int{1, 2, 4, 8, 16, 32, 60, 60, 60} {
		high := time.Duration(seconds) * time.Second
		between(fmt.Sprint("failure ", i), p.after(refused), high/2, high)
	}
	between("cut", p.after(cut), 0, time.Second)
	between("failure after a cut", p.after(refused), time.Second/2, time.Second)
	between("restart", p.after(restart), 0, time.Second)
	between("second restart in a row", p.after(restart), time.Second/2, time.Second)
	p.reset()
	between("restart after an answer", p.after(restart), 0, time.Second)
	asked := &pollError{err: &statusError{code: 429, retryAfter: 40 * time.Second}}
	between("Retry-After", p.after(asked), 40*time.Second, 50*time.Second)
	for range 100 {
		p.fails = 1000
		between("many failures", p.after(refused), 30*time.Second, time.Minute)
	}
}
