package server_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"lablink/internal/config"
	"lablink/internal/testkit"
)

// raw is a connection on which a test writes what it wants.
type raw struct {
	net.Conn
	t  *testing.T
	in *bufio.Reader
}

func dial(t *testing.T, a *testkit.Allocator) *raw {
	t.Helper()
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", strings.TrimPrefix(a.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return &raw{conn, t, bufio.NewReader(conn)}
}

func (c *raw) write(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		c.t.Fatal(err)
	}
}

// answer reads one answer to its end.
func (c *raw) answer() testkit.Response {
	c.t.Helper()
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return testkit.Response{Err: err}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return testkit.Response{Status: resp.StatusCode, Header: resp.Header, Body: string(body), Err: err}
}

// reset ends the connection as a machine does that loses power: at once, without
// a word more.
func (c *raw) reset() {
	c.t.Helper()
	if tcp, ok := c.Conn.(*net.TCPConn); !ok || tcp.SetLinger(0) != nil {
		c.t.Error("the connection cannot be reset")
	}
	c.Close()
}

// golden is a request exactly as an existing client sends it, from a file in
// testdata. The head and the body are apart, because Python sends them so.
func golden(t *testing.T, a *testkit.Allocator, name, hostname, value string) (head, body string) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name+".http"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("{{host}}", strings.TrimPrefix(a.URL, "http://"), "{{hostname}}", hostname, "{{value}}", value).Replace(string(data))
	head, body, ok := strings.Cut(text, "\n\n")
	if !ok {
		t.Fatalf("%s has no empty line after its head", name)
	}
	head = strings.ReplaceAll(head, "{{length}}", strconv.Itoa(len(body)))
	return strings.ReplaceAll(head, "\n", "\r\n") + "\r\n\r\n", body
}

// send sends such a request on a connection of its own, as each of those clients
// does.
func send(t *testing.T, a *testkit.Allocator, name, hostname, value string) testkit.Response {
	t.Helper()
	head, body := golden(t, a, name, hostname, value)
	c := dial(t, a)
	defer c.Close()
	c.write(head)
	c.write(body)
	return c.answer()
}

// subscribe begins a poll exactly as the Python client does.
func subscribe(t *testing.T, a *testkit.Allocator, hostname string) *raw {
	t.Helper()
	head, body := golden(t, a, "subscribe", hostname, "")
	c := dial(t, a)
	c.write(head)
	c.write(body)
	return c
}

// serveOpen starts an allocator for clients that send no credential.
func serveOpen(t *testing.T) *testkit.Allocator {
	t.Helper()
	return testkit.Serve(t, testkit.ServeOptions{Configure: func(c *config.Config) {
		c.Auth.Machines, c.Poll.Keepalive = config.MachineOpen, 30*time.Millisecond
	}})
}

// wantSeat waits until the seat of a VM is in a state.
func wantSeat(t *testing.T, a *testkit.Allocator, hostname, state string) {
	t.Helper()
	testkit.Eventually(t, "the seat of "+hostname+" to be "+state, func() bool {
		v, err := a.Store.VM(context.WithoutCancel(t.Context()), hostname)
		return err == nil && string(v.Seat) == state
	})
}
