package server_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"lablink/internal/config"
	"lablink/internal/fleet"
	"lablink/internal/store"
	"lablink/internal/testkit"
	"lablink/internal/wire"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// poll sends POST /vm_startup as our agent does, and returns where its answer
// will come.
func poll(ctx context.Context, a *testkit.Allocator, hostname, token string) <-chan testkit.Response {
	answer := make(chan testkit.Response, 1)
	go func() {
		answer <- a.Do(ctx, testkit.Request{Path: wire.PathStartup, Token: token,
			JSON: wire.StartupRequest{Hostname: hostname, Agent: "lablink/test"}})
	}()
	return answer
}

// waits returns when the VM is known to wait.
func waits(t *testing.T, a *testkit.Allocator, hostname string) {
	t.Helper()
	testkit.Eventually(t, hostname+" to wait", func() bool {
		v, err := a.Store.VM(t.Context(), hostname)
		return err == nil && v.Waiting
	})
}

// request asks for a VM as participant n, with a code of their own.
func request(t *testing.T, a *testkit.Allocator, n int) (hostname, pin string) {
	t.Helper()
	r := a.Do(t.Context(), testkit.Request{Path: "/api/request_vm", Header: map[string]string{"Accept": "application/json"},
		JSON: map[string]string{"email": fmt.Sprintf("p%d@example.org", n), "crd_command": command(n)}})
	if r.Status != http.StatusOK {
		t.Fatalf("request_vm: %d %s %v", r.Status, r.Body, r.Err)
	}
	var seat struct{ Hostname, PIN string }
	r.JSON(t, &seat)
	return seat.Hostname, seat.PIN
}

func command(n int) string { return fleet.CommandFor(fmt.Sprintf("4/0secret-code-%d", n)) }

// wantDelivery reads an answer that must bring the command of participant n.
func wantDelivery(t *testing.T, answer <-chan testkit.Response, n int, pin string) wire.StartupReply {
	t.Helper()
	var got testkit.Response
	select {
	case got = <-answer:
	case <-time.After(time.Minute):
		t.Fatal("the poll was not answered")
	}
	if got.Status != http.StatusOK || got.Err != nil {
		t.Fatalf("poll: %d %s %v", got.Status, got.Body, got.Err)
	}
	var reply wire.StartupReply
	got.JSON(t, &reply)
	if reply.Status != wire.StatusSuccess || reply.Command != command(n) || reply.PIN != pin || reply.Delivery == 0 {
		t.Fatalf("answer = %s, want the command and PIN %s of participant %d", got.Body, pin, n)
	}
	return reply
}

func acknowledge(t *testing.T, a *testkit.Allocator, hostname, token string, delivery int64, result, reason string) testkit.Response {
	t.Helper()
	return a.Do(t.Context(), testkit.Request{Path: wire.PathCRDResult, Token: token,
		JSON: wire.ResultRequest{Hostname: hostname, Delivery: delivery, Result: result, Reason: reason}})
}

func wantStatus(t *testing.T, r testkit.Response, status int) {
	t.Helper()
	if r.Status != status {
		t.Fatalf("status %d, want %d: %s %v", r.Status, status, r.Body, r.Err)
	}
}

func TestPoll_WaitsForTheParticipant(t *testing.T) {
	t.Parallel()
	a := testkit.Serve(t, testkit.ServeOptions{})
	token := a.Register("vm-1")["vm-1"]
	answer := poll(t.Context(), a, "vm-1", token)
	waits(t, a, "vm-1")
	hostname, pin := request(t, a, 1)
	if hostname != "vm-1" {
		t.Fatalf("got %s", hostname)
	}
	reply := wantDelivery(t, answer, 1, pin)
	wantStatus(t, acknowledge(t, a, "vm-1", token, reply.Delivery, wire.ResultConnected, ""), http.StatusOK)
	if v, err := a.Store.VM(t.Context(), "vm-1"); err != nil || v.Seat != fleet.SeatConnected {
		t.Fatalf("seat %v, %v", v.Seat, err)
	}
	for _, secret := range []string{"secret-code", pin, token, testkit.AdminPassword} {
		if strings.Contains(a.Log.String(), secret) {
			t.Errorf("the log holds the secret %q", secret)
		}
	}
}

// A code given while the agent is away is delivered when it comes, again and
// again until it says what became of it.
func TestPoll_AgentAway(t *testing.T) {
	t.Parallel()
	a := testkit.Serve(t, testkit.ServeOptions{})
	token := a.Register("vm-1")["vm-1"]
	_, pin := request(t, a, 1)
	first := wantDelivery(t, poll(t.Context(), a, "vm-1", token), 1, pin)
	second := wantDelivery(t, poll(t.Context(), a, "vm-1", token), 1, pin)
	if first.Delivery != second.Delivery {
		t.Errorf("delivery %d became %d", first.Delivery, second.Delivery)
	}
	wantStatus(t, acknowledge(t, a, "vm-1", token, first.Delivery+1, wire.ResultConnected, ""), http.StatusConflict)
	wantStatus(t, acknowledge(t, a, "vm-1", token, first.Delivery, wire.ResultFailed, "the code\nis too old"), http.StatusOK)
	if v, err := a.Store.VM(t.Context(), "vm-1"); err != nil || v.Reason != "the code is too old" {
		t.Errorf("reason %q, %v", v.Reason, err)
	}
	answer := poll(t.Context(), a, "vm-1", token)
	waits(t, a, "vm-1")
	select {
	case r := <-answer:
		t.Fatalf("after the acknowledgement the poll was answered: %+v", r)
	default:
	}
}

func TestPoll_Release(t *testing.T) {
	t.Parallel()
	a := testkit.Serve(t, testkit.ServeOptions{})
	token := a.Register("vm-1")["vm-1"]
	_, pin := request(t, a, 1)
	reply := wantDelivery(t, poll(t.Context(), a, "vm-1", token), 1, pin)
	wantStatus(t, acknowledge(t, a, "vm-1", token, reply.Delivery, wire.ResultConnected, ""), http.StatusOK)
	// An existing client would not understand a release; it waits on.
	old, hangUp := context.WithCancel(t.Context())
	oldAnswer := make(chan testkit.Response, 1)
	go func() {
		oldAnswer <- a.Do(old, testkit.Request{Path: wire.PathStartup, Token: token, JSON: map[string]string{"hostname": "vm-1"}})
	}()
	waits(t, a, "vm-1")
	if err := a.Store.Release(t.Context(), fleet.Actor{Kind: "admin"}, "vm-1"); err != nil {
		t.Fatal(err)
	}
	answer := poll(t.Context(), a, "vm-1", token)
	got := <-answer
	var release wire.StartupReply
	got.JSON(t, &release)
	if release.Status != wire.StatusRelease || release.Command != "" || release.PIN != "" {
		t.Fatalf("answer = %s", got.Body)
	}
	hangUp()
	if r := <-oldAnswer; r.Status == http.StatusOK && strings.TrimSpace(r.Body) != "" {
		t.Errorf("the existing client was told %s", r.Body)
	}
	if v, err := a.Store.VM(t.Context(), "vm-1"); err != nil || v.Free() {
		t.Fatalf("free before the agent confirmed: %+v, %v", v, err)
	}
	wantStatus(t, acknowledge(t, a, "vm-1", token, release.Delivery, wire.ResultReleased, ""), http.StatusOK)
	if v, err := a.Store.VM(t.Context(), "vm-1"); err != nil || !v.Free() {
		t.Fatalf("not free after the agent confirmed: %+v, %v", v, err)
	}
}

// An agent that reconnects while its older poll still lives is served on the
// newer one, at whichever replica.
func TestPoll_NewestWins(t *testing.T) {
	t.Parallel()
	a := testkit.Serve(t, testkit.ServeOptions{})
	b := testkit.Serve(t, testkit.ServeOptions{DatabaseURL: a.DatabaseURL})
	token := a.Register("vm-1")["vm-1"]
	conn, err := pgx.Connect(t.Context(), a.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	last := ""
	noted := func() { // another poll than before
		t.Helper()
		testkit.Eventually(t, "the next poll to be noted", func() bool {
			var now string
			err := conn.QueryRow(t.Context(), "SELECT replica || ' ' || poll FROM polls").Scan(&now)
			was := last
			last = now
			return err == nil && now != was
		})
	}
	oldest := poll(t.Context(), a, "vm-1", token)
	noted()
	older := poll(t.Context(), a, "vm-1", token)
	noted()
	r := <-oldest
	wantStatus(t, r, http.StatusServiceUnavailable)
	if r.Header.Get(wire.RestartHeader) == "" {
		t.Error("the replaced poll is not told to call again at once")
	}
	newest := poll(t.Context(), b, "vm-1", token)
	noted()
	if !strings.Contains(metrics(t, b), "lablink_waiting_vms 1") {
		t.Error("the other replica does not count its poll")
	}
	_, pin := request(t, a, 1)
	wantDelivery(t, newest, 1, pin)
	wantStatus(t, <-older, http.StatusServiceUnavailable)
}

func metrics(t *testing.T, a *testkit.Allocator) string {
	t.Helper()
	r := a.Do(t.Context(), testkit.Request{Method: http.MethodGet, Path: "/metrics"})
	wantStatus(t, r, http.StatusOK)
	return r.Body
}

// A VM waits at one replica, the participant comes to another; then the VM's
// replica ends, and the VM comes back at the one that is left.
func TestReplicas(t *testing.T) {
	t.Parallel()
	a := testkit.Serve(t, testkit.ServeOptions{})
	b := testkit.Serve(t, testkit.ServeOptions{DatabaseURL: a.DatabaseURL})
	tokens := a.Register("vm-1", "vm-2")
	answer := poll(t.Context(), a, "vm-1", tokens["vm-1"])
	waits(t, a, "vm-1")
	hostname, pin := request(t, b, 1)
	if hostname != "vm-1" {
		t.Fatalf("got %s, want the one that waits at the other replica", hostname)
	}
	wantDelivery(t, answer, 1, pin)
	answer = poll(t.Context(), a, "vm-2", tokens["vm-2"])
	waits(t, b, "vm-2")
	a.Stop()
	wantStatus(t, <-answer, http.StatusServiceUnavailable)
	_, pin = request(t, b, 2)
	wantDelivery(t, poll(t.Context(), b, "vm-2", tokens["vm-2"]), 2, pin)
}

func TestPoll_KeepaliveAndStop(t *testing.T) {
	t.Parallel()
	a := testkit.Serve(t, testkit.ServeOptions{Configure: func(c *config.Config) { c.Poll.Keepalive = 20 * time.Millisecond }})
	token := a.Register("vm-1")["vm-1"]
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, a.URL+wire.PathStartup, strings.NewReader(`{"hostname":"vm-1"}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+token)
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || len(resp.TransferEncoding) != 1 || resp.TransferEncoding[0] != "chunked" {
		t.Fatalf("status %d, transfer encoding %v", resp.StatusCode, resp.TransferEncoding)
	}
	two := make([]byte, 2)
	if _, err := io.ReadFull(resp.Body, two); err != nil || string(two) != "\n\n" {
		t.Fatalf("keep-alives: %q, %v", two, err)
	}
	a.Stop()
	// The 200 has begun: only a cut says "call again"; an orderly end would be final.
	if rest, err := io.ReadAll(resp.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("after the stop: %q, %v; want a cut connection", rest, err)
	}
}

func TestPoll_MaxWait(t *testing.T) {
	t.Parallel()
	a := testkit.Serve(t, testkit.ServeOptions{Configure: func(c *config.Config) {
		c.Poll.Keepalive, c.Poll.MaxWait = 10*time.Millisecond, 10*time.Millisecond
	}})
	token := a.Register("vm-1")["vm-1"]
	r := <-poll(t.Context(), a, "vm-1", token)
	wantStatus(t, r, http.StatusServiceUnavailable)
}

func TestPoll_RemovedVM(t *testing.T) {
	t.Parallel()
	a := testkit.Serve(t, testkit.ServeOptions{})
	token := a.Register("vm-1")["vm-1"]
	answer := poll(t.Context(), a, "vm-1", token)
	waits(t, a, "vm-1")
	wantStatus(t, a.Do(t.Context(), testkit.Request{Method: http.MethodDelete, Path: "/api/vms/vm-1", Admin: true}), http.StatusNoContent)
	wantStatus(t, <-answer, http.StatusNotFound)
	wantStatus(t, <-poll(t.Context(), a, "vm-1", token), http.StatusUnauthorized)
	a.Register("vm-1") // the name is free again
	if _, total, err := a.Store.VMs(t.Context(), store.VMFilter{}); err != nil || total != 1 {
		t.Fatalf("%d live VMs, %v", total, err)
	}
}
