package httpx

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"lablink/internal/fleet"
)

func TestClientAddr(t *testing.T) {
	t.Parallel()
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")}
	for name, tc := range map[string]struct {
		remote    string
		forwarded []string
		want      string
	}{
		"no proxy":                           {"192.0.2.1:99", nil, "192.0.2.1"},
		"a stranger says what he likes":      {"192.0.2.1:99", []string{"198.51.100.1"}, "192.0.2.1"},
		"our proxy":                          {"10.0.0.1:99", []string{"198.51.100.1"}, "198.51.100.1"},
		"our proxy, nobody forwarded":        {"10.0.0.1:99", nil, "10.0.0.1"},
		"two of our proxies":                 {"10.0.0.1:99", []string{"198.51.100.1, 10.0.0.2"}, "198.51.100.1"},
		"in two headers":                     {"10.0.0.1:99", []string{"198.51.100.1", "10.0.0.2"}, "198.51.100.1"},
		"a stranger before our proxy":        {"10.0.0.1:99", []string{"127.0.0.1, 198.51.100.1"}, "198.51.100.1"},
		"rubbish is not believed":            {"10.0.0.1:99", []string{"<script>"}, "10.0.0.1"},
		"rubbish further left":               {"10.0.0.1:99", []string{"rubbish, 10.0.0.2"}, "10.0.0.2"},
		"IPv6":                               {"[2001:db8::1]:99", []string{"2001:db9::7"}, "2001:db9::7"},
		"IPv4 in IPv6":                       {"[::ffff:10.0.0.1]:99", []string{"::ffff:198.51.100.1"}, "198.51.100.1"},
		"a port in the header is no address": {"10.0.0.1:99", []string{"198.51.100.1:5000"}, "10.0.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody)
			r.RemoteAddr = tc.remote
			for _, f := range tc.forwarded {
				r.Header.Add("X-Forwarded-For", f)
			}
			if got := clientAddr(r, trusted); got != tc.want {
				t.Errorf("clientAddr = %s, want %s", got, tc.want)
			}
			// Without proxies nothing is believed.
			if got := clientAddr(r, nil); !strings.Contains(tc.remote, got) {
				t.Errorf("without trusted proxies clientAddr = %s", got)
			}
		})
	}
}

// A panic is a 500 with a number that the log knows, and the server lives on.
func TestObserve_Panic(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /panic", func(http.ResponseWriter, *http.Request) { panic("secret internals") })
	mux.HandleFunc("GET /half", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusOK)
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
		panic("too late")
	})
	mux.HandleFunc("GET /abort", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	mux.HandleFunc("GET /fine", func(http.ResponseWriter, *http.Request) {})
	s := serve(t, mux)

	a := s.send(t, http.MethodGet, "/panic", "")
	id := a.header.Get("X-Request-Id")
	if a.status != http.StatusInternalServerError || id == "" || !strings.Contains(a.body, id) {
		t.Errorf("a panic: %d %q with id %q", a.status, a.body, id)
	}
	if strings.Contains(a.body, "internals") || strings.Contains(a.body, "goroutine") {
		t.Errorf("a stranger sees %q", a.body)
	}
	if log := s.log.String(); !strings.Contains(log, id) || !strings.Contains(log, "secret internals") || !strings.Contains(log, "observe_test.go") {
		t.Errorf("the log lacks the id, the reason or the stack:\n%s", log)
	}
	if got := <-s.observed; got != (observed{"GET /panic", http.MethodGet, 500}) {
		t.Errorf("observed %+v", got)
	}
	// What is half written must not look complete.
	if a := s.send(t, http.MethodGet, "/half", ""); a.err == nil {
		t.Errorf("half an answer looks complete: %d %q", a.status, a.body)
	}
	if a := s.send(t, http.MethodGet, "/abort", ""); a.err == nil {
		t.Errorf("an aborted answer looks complete: %d %q", a.status, a.body)
	}
	if a := s.send(t, http.MethodGet, "/fine", ""); a.status != http.StatusOK || a.err != nil {
		t.Errorf("after the panics: %d, %v", a.status, a.err)
	}
}

func TestObserve_Log(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	mux.HandleFunc("/loud", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/quiet/{status}", func(w http.ResponseWriter, r *http.Request) {
		Quiet(r)
		if r.PathValue("status") == "bad" {
			w.WriteHeader(http.StatusBadRequest)
		}
	})
	s := serve(t, mux)
	s.send(t, http.MethodPost, "/loud?token=in-the-query", "in the body", "Authorization", "Bearer in-the-header", "Cookie", "a=in-the-cookie")
	s.send(t, http.MethodGet, "/quiet/good", "")
	s.send(t, http.MethodGet, "/quiet/bad", "")
	log := s.log.String()
	for text, want := range map[string]bool{
		"/loud": true, "/quiet/good": false, "/quiet/bad": true, "status=400": true, "method=POST": true, "address=127.0.0.1": true,
		"in-the-query": false, "in the body": false, "in-the-header": false, "in-the-cookie": false,
	} {
		if strings.Contains(log, text) != want {
			t.Errorf("the log holds %q: %v, want %v:\n%s", text, !want, want, log)
		}
	}
}

// Every kind of error has a status, and what is ours alone is not shown.
func TestWriteError(t *testing.T) {
	t.Parallel()
	for kind := fleet.Internal; kind <= fleet.Unavailable; kind++ {
		if Status(kind) == 0 || http.StatusText(Status(kind)) == "" {
			t.Errorf("kind %d has no status", kind)
		}
	}
	for name, tc := range map[string]struct {
		err    error
		status int
		says   string
	}{
		"ours":            {errors.New("pq: relation vms does not exist"), 500, "this number"},
		"wrapped":         {fmt.Errorf("doing: %w", fleet.Errorf(fleet.Conflict, "taken")), 409, "taken"},
		"with its cause":  {&fleet.Error{Kind: fleet.Unavailable, Message: "later", Err: errors.New("pq: down")}, 503, "later"},
		"took too long":   {context.DeadlineExceeded, 503, "too long"},
		"the field at it": {fleet.FieldErrorf("hostname", "no"), 400, `"field":"hostname"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, Adapt(func(http.ResponseWriter, *http.Request) error { return tc.err }, JSONError))
			a := s.send(t, http.MethodGet, "/", "")
			if a.status != tc.status || !strings.Contains(a.body, tc.says) || strings.Contains(a.body, "pq:") {
				t.Errorf("%d %s, want %d with %q and no cause", a.status, a.body, tc.status, tc.says)
			}
			if shown := strings.Contains(tc.err.Error(), "pq:"); shown && !strings.Contains(s.log.String(), "pq:") {
				t.Errorf("the cause is not in the log:\n%s", s.log.String())
			}
		})
	}
}
