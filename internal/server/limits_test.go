package server_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"lablink/internal/config"
	"lablink/internal/server"
	"lablink/internal/testkit"
)

// 150 people behind one address press the button in the same moment: each gets a
// VM of their own, nobody is refused, and the count is right all the while.
func TestClassroomAtOnce(t *testing.T) {
	t.Parallel()
	a := testkit.Serve(t, testkit.ServeOptions{})
	const people = 150
	var names []string
	for n := range people {
		names = append(names, fmt.Sprintf("vm-%d", n))
	}
	a.Register(names...)
	var mu sync.Mutex
	holders := map[string]int{}
	var wg sync.WaitGroup
	for n := range people {
		wg.Go(func() {
			r := a.Do(t.Context(), testkit.Request{Path: "/api/request_vm", Header: map[string]string{"Accept": asJSON},
				Form: fmt.Sprintf("email=p%d@example.org&crd_command=4/0secret-code-%d", n, n)})
			if r.Status != http.StatusOK {
				t.Errorf("participant %d: %d %s %v", n, r.Status, r.Body, r.Err)
				return
			}
			var seat struct{ Hostname string }
			r.JSON(t, &seat)
			mu.Lock()
			defer mu.Unlock()
			if other, taken := holders[seat.Hostname]; taken {
				t.Errorf("%s was given to participants %d and %d", seat.Hostname, other, n)
			}
			holders[seat.Hostname] = n
		})
	}
	wg.Go(func() {
		for last := people; last > 0; {
			r := a.Do(t.Context(), testkit.Request{Method: http.MethodGet, Path: "/api/unassigned_vms_count"})
			var free struct{ Count int }
			r.JSON(t, &free)
			if r.Status != http.StatusOK || free.Count > last {
				t.Errorf("the count went from %d to %d: %d %s", last, free.Count, r.Status, r.Body)
				return
			}
			if last = free.Count; t.Failed() {
				return
			}
		}
	})
	wg.Wait()
	r := a.Do(t.Context(), testkit.Request{Path: "/api/request_vm", Header: map[string]string{"Accept": asJSON}, Form: "email=late@example.org&crd_command=4/0late"})
	if r.Status != http.StatusServiceUnavailable || r.Header.Get("Retry-After") == "" {
		t.Errorf("a full house: %d %s", r.Status, r.Body)
	}
}

func TestRequestLimit(t *testing.T) {
	t.Parallel()
	a := testkit.Serve(t, testkit.ServeOptions{Configure: func(c *config.Config) {
		c.Limits.RequestVMPerMinute, c.Limits.RequestVMBurst = 1, 3
	}})
	ask := func(accept, forwarded string) testkit.Response {
		return a.Do(t.Context(), testkit.Request{Path: "/api/request_vm", Form: "email=a@example.org&crd_command=4/0a",
			Header: map[string]string{"Accept": accept, "X-Forwarded-For": forwarded}})
	}
	for n := range 3 {
		// Whoever is no trusted proxy cannot speak for another address.
		wantStatus(t, ask(asJSON, fmt.Sprintf("198.51.100.%d", n)), http.StatusServiceUnavailable)
	}
	for accept, contentType := range map[string]string{asJSON: asJSON, "text/html": "text/html; charset=utf-8"} {
		r := ask(accept, "198.51.100.9")
		if r.Status != http.StatusTooManyRequests || r.Header.Get("Retry-After") == "" || r.Header.Get("Content-Type") != contentType {
			t.Errorf("the fourth request: %d, Retry-After %q, %s", r.Status, r.Header.Get("Retry-After"), r.Header.Get("Content-Type"))
		}
	}
}

func TestRequestLimit_BehindTrustedProxy(t *testing.T) {
	t.Parallel()
	a := testkit.Serve(t, testkit.ServeOptions{Configure: func(c *config.Config) {
		c.Limits.RequestVMPerMinute, c.Limits.RequestVMBurst = 1, 1
		c.Server.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	}})
	ask := func(forwarded string) int {
		return a.Do(t.Context(), testkit.Request{Path: "/api/request_vm", Form: "email=a@example.org&crd_command=4/0a",
			Header: map[string]string{"Accept": asJSON, "X-Forwarded-For": forwarded}}).Status
	}
	for _, tc := range []struct {
		forwarded string
		want      int
	}{
		{"198.51.100.1", 503}, {"198.51.100.1", 429}, {"198.51.100.2", 503}, {"198.51.100.9, 198.51.100.2", 429},
	} {
		if got := ask(tc.forwarded); got != tc.want {
			t.Errorf("X-Forwarded-For %q: %d, want %d", tc.forwarded, got, tc.want)
		}
	}
	if log := a.Log.String(); !strings.Contains(log, "address=198.51.100.2") {
		t.Error("the log does not name the caller's address")
	}
}

func TestLoginLimit(t *testing.T) {
	t.Parallel()
	a := testkit.Serve(t, testkit.ServeOptions{Configure: func(c *config.Config) { c.Limits.LoginFailuresPerMinute = 3 }})
	get := func(authorization string) testkit.Response {
		return a.Do(t.Context(), testkit.Request{Method: http.MethodGet, Path: "/admin", Admin: authorization == "",
			Header: map[string]string{"X-Forwarded-For": "198.51.100.1"}})
	}
	for range 10 {
		wantStatus(t, get(""), http.StatusOK) // what is right does not count
	}
	wrong := testkit.Request{Method: http.MethodGet, Path: "/admin", Header: map[string]string{"Authorization": "Basic YWRtaW46d3Jvbmc="}}
	for range 3 {
		wantStatus(t, a.Do(t.Context(), wrong), http.StatusUnauthorized)
	}
	r := a.Do(t.Context(), wrong)
	if r.Status != http.StatusTooManyRequests || r.Header.Get("Retry-After") == "" {
		t.Errorf("the fourth wrong log-in: %d, Retry-After %q", r.Status, r.Header.Get("Retry-After"))
	}
	// Others are not concerned: VMs and participants have the same address.
	wantStatus(t, a.Do(t.Context(), testkit.Request{Method: http.MethodGet, Path: "/"}), http.StatusOK)
}

func TestLoginLimit_RightPasswordAfterwards(t *testing.T) {
	t.Parallel()
	a := testkit.Serve(t, testkit.ServeOptions{Configure: func(c *config.Config) { c.Limits.LoginFailuresPerMinute = 30 }})
	wrong := testkit.Request{Method: http.MethodGet, Path: "/admin", Header: map[string]string{"Authorization": "Basic YWRtaW46d3Jvbmc="}}
	for a.Do(t.Context(), wrong).Status == http.StatusUnauthorized {
	}
	testkit.Eventually(t, "the right password to be let in again", func() bool {
		return a.Do(t.Context(), testkit.Request{Method: http.MethodGet, Path: "/admin", Admin: true}).Status == http.StatusOK
	})
}

func TestLargeHeader(t *testing.T) {
	t.Parallel()
	a := testkit.Serve(t, testkit.ServeOptions{})
	r := a.Do(t.Context(), testkit.Request{Method: http.MethodGet, Path: "/", Header: map[string]string{"X-Large": strings.Repeat("a", 64<<10)}})
	wantStatus(t, r, http.StatusRequestHeaderFieldsTooLarge)
	wantStatus(t, a.Do(t.Context(), testkit.Request{Method: http.MethodGet, Path: "/"}), http.StatusOK)
}

// A request that trickles in is ended; polls and live pages, which last longer
// than that by their nature, are not.
func TestSlowRequestsEnd(t *testing.T) {
	t.Parallel()
	a := testkit.Serve(t, testkit.ServeOptions{
		Configure: func(c *config.Config) { c.Auth.Machines, c.Poll.Keepalive = config.MachineOpen, time.Hour },
		Adjust:    func(s *server.Server) { server.SetReadTimeout(s, 500*time.Millisecond) },
	})
	wantStatus(t, send(t, a, "cloud_init_status", "vm-1", "running"), http.StatusOK)
	held := subscribe(t, a, "vm-1")
	waits(t, a, "vm-1")
	live := dial(t, a)
	live.write("GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
	resp, err := http.ReadResponse(live.in, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	defer live.Close() // first: otherwise the body is read to its end, which it does not have
	events := bufio.NewReader(resp.Body)

	for what, text := range map[string]string{
		"a head without an end":         "POST /api/vm-status HTTP/1.1\r\nHost: x\r\nX-Slow: ",
		"a body without an end":         "POST /api/vm-status HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{",
		"a poll's body without an end":  "POST /vm_startup HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{",
		"a form without an end":         "POST /api/request_vm HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 1000\r\n\r\nemail=",
		"a chunked body without an end": "POST /api/vm-status HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
	} {
		c := dial(t, a)
		c.write(text)
		// The deadline of dial makes this an error if nobody ends it.
		data, err := io.ReadAll(c)
		if err != nil {
			t.Errorf("%s is held for ever: %v", what, err)
		}
		if strings.Contains(string(data), " 200 ") {
			t.Errorf("%s: %s", what, data)
		}
	}
	_, pin := request(t, a, 1)
	if r := held.answer(); r.Status != http.StatusOK || !strings.Contains(r.Body, pin) {
		t.Errorf("the poll: %d %q %v", r.Status, r.Body, r.Err)
	}
	for {
		line, err := events.ReadString('\n')
		if err != nil {
			t.Fatalf("the live page was ended: %v", err)
		}
		if strings.HasPrefix(line, "data:") && strings.Contains(line, "free") {
			break
		}
	}
}
