package api_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"lablink/internal/api"
	"lablink/internal/fleet"
	"lablink/internal/httpx"
	"lablink/internal/store"
	"lablink/internal/testkit"
	"lablink/internal/wait"
	"lablink/internal/wire"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// endpoints serves the API alone, for machines that send no credential, with one
// running VM.
func endpoints(t *testing.T) (*httptest.Server, *store.Store, *wait.Hub) {
	t.Helper()
	st, err := store.Open(t.Context(), testkit.DB(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(st.Close)
	if err := st.EnsureVM(t.Context(), fleet.Actor{Kind: "vm"}, "vm-1", 10); err != nil {
		t.Fatal(err)
	}
	hub := wait.NewHub()
	a := api.New(api.Options{
		Store: st, Hub: hub, Replica: 1, OpenMachines: true, MaxWait: time.Hour, Keepalive: time.Hour, MaxRegistered: 10,
		VMLimit:    httpx.NewLimiter(600, 600),
		Admin:      func(h http.Handler, _ httpx.ErrorWriter) http.Handler { return h },
		OnDelivery: func(time.Duration) {},
	})
	a.SetOldHTTPWait(50 * time.Millisecond)
	mux := http.NewServeMux()
	a.Routes(mux)
	srv := httptest.NewServer(mux)
	t.Cleanup(func() {
		srv.Close()
		a.Wait()
	})
	return srv, st, hub
}

// raw sends a poll in a version of HTTP and returns the answer as it comes.
func raw(t *testing.T, srv *httptest.Server, proto string) io.Reader {
	t.Helper()
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", strings.TrimPrefix(srv.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	const body = `{"hostname": "vm-1"}`
	if _, err := fmt.Fprintf(conn, "POST %s %s\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		wire.PathStartup, proto, len(body), body); err != nil {
		t.Fatal(err)
	}
	return conn
}

// Without keep-alives a proxy would cut the connection: before that, the caller
// is told to call again, by a whole answer that is no 200.
func TestStartup_HTTP10IsToldToCallAgain(t *testing.T) {
	t.Parallel()
	srv, _, _ := endpoints(t)
	data, err := io.ReadAll(raw(t, srv, "HTTP/1.0"))
	if err != nil {
		t.Fatal(err)
	}
	head, body, _ := strings.Cut(string(data), "\r\n\r\n")
	if !strings.HasPrefix(head, "HTTP/1.0 503 ") || strings.Contains(head, "chunked") || !strings.HasPrefix(body, `{"error":`) || !strings.HasSuffix(body, "}\n") {
		t.Errorf("answer:\n%s", data)
	}
}

// A newer caller is not concerned.
func TestStartup_HTTP11IsHeldLonger(t *testing.T) {
	t.Parallel()
	srv, _, hub := endpoints(t)
	answer := make(chan int, 1)
	conn := raw(t, srv, "HTTP/1.1")
	go func() {
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			answer <- 0
			return
		}
		defer resp.Body.Close()
		answer <- resp.StatusCode
	}()
	testkit.Eventually(t, "the poll to be held", func() bool { return hub.Len() == 1 })
	// An old caller's whole time passes meanwhile.
	other, _, _ := endpoints(t)
	if _, err := io.ReadAll(raw(t, other, "HTTP/1.0")); err != nil {
		t.Fatal(err)
	}
	select {
	case status := <-answer:
		t.Fatalf("answered with %d", status)
	default:
	}
	hub.Close()
	if status := <-answer; status != http.StatusServiceUnavailable {
		t.Errorf("at the end: %d", status)
	}
}
