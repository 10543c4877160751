package server_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"lablink/internal/fleet"
	"lablink/internal/testkit"
	"lablink/internal/wire"
)

// keys of a JSON object.
func keys(t *testing.T, body string) []string {
	t.Helper()
	var object map[string]any
	if err := json.Unmarshal([]byte(body), &object); err != nil {
		t.Fatalf("%q is no JSON object: %v", body, err)
	}
	var names []string
	for k := range object {
		names = append(names, k)
	}
	slices.Sort(names)
	return names
}

// The whole life of an existing VM: cloud-init reports it, its three Python
// services run, a participant comes.
func TestExistingClient_WholeStory(t *testing.T) {
	t.Parallel()
	a := serveOpen(t)
	const vm = "lablink-vm-prod-1"
	for _, tc := range []struct{ file, value string }{
		{"cloud_init_status", "initializing"}, // makes the row
		{"cloud_init_status", "running"},
		{"cloud_init_metrics", ""},
		{"container_metrics", ""},
		{"check_gpu", "Healthy"},
		{"update_inuse_status", "true"},
		{"update_inuse_status", "false"},
		{"update_inuse_status", "true"},
	} {
		began := time.Now()
		r := send(t, a, tc.file, vm, tc.value)
		wantStatus(t, r, http.StatusOK)
		if got := keys(t, r.Body); !slices.Equal(got, []string{"message"}) || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %s: %s with keys %v", tc.file, tc.value, r.Header.Get("Content-Type"), got)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%s took %v; curl gives up after 5 s", tc.file, took)
		}
	}
	v, err := a.Store.VM(t.Context(), vm)
	if err != nil {
		t.Fatal(err)
	}
	if v.Status != fleet.StatusRunning || v.Health != fleet.Healthy || !v.InUse || v.Startup.CloudInit != 90*time.Second || v.Startup.Container != 30*time.Second {
		t.Errorf("after the reports: %+v", v)
	}

	c := subscribe(t, a, vm)
	waits(t, a, vm)
	hostname, pin := request(t, a, 1)
	if hostname != vm {
		t.Fatalf("got %s", hostname)
	}
	r := c.answer()
	wantStatus(t, r, http.StatusOK)
	var reply map[string]any
	r.JSON(t, &reply)
	if reply["status"] != "success" || reply["pin"] != pin || reply["command"] != command(1) {
		t.Errorf("answer %s", r.Body)
	}
	wantSeat(t, a, vm, "assumed") // a completely written answer counts as acknowledged
	// The GPU is as it was: the client reports only changes.
	if v, err := a.Store.VM(t.Context(), vm); err != nil || v.Health != fleet.Healthy {
		t.Errorf("after the assignment health is %q, %v", v.Health, err)
	}
}

// Keep-alives begin a chunked 200, and do not disturb who parses the body as JSON.
func TestExistingClient_Keepalives(t *testing.T) {
	t.Parallel()
	a := serveOpen(t)
	wantStatus(t, send(t, a, "cloud_init_status", "vm-1", "running"), http.StatusOK)
	c := subscribe(t, a, "vm-1")
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || !slices.Equal(resp.TransferEncoding, []string{"chunked"}) || resp.Header.Get("Content-Encoding") != "" {
		t.Errorf("status %d, transfer encoding %v, content encoding %q", resp.StatusCode, resp.TransferEncoding, resp.Header.Get("Content-Encoding"))
	}
	newline := make([]byte, 2)
	for i := range newline {
		if _, err := resp.Body.Read(newline[i : i+1]); err != nil {
			t.Fatal(err)
		}
	}
	if string(newline) != "\n\n" {
		t.Errorf("the body begins with %q", newline)
	}
	_, pin := request(t, a, 1)
	var reply wire.StartupReply
	if err := json.NewDecoder(resp.Body).Decode(&reply); err != nil || reply.PIN != pin {
		t.Errorf("after the newlines: %+v, %v", reply, err)
	}
	wantSeat(t, a, "vm-1", "assumed")
}

// The participant comes first, while the container still clones: the first poll
// is answered at once.
func TestExistingClient_AssignedBeforeItListens(t *testing.T) {
	t.Parallel()
	a := serveOpen(t)
	wantStatus(t, send(t, a, "cloud_init_status", "vm-1", "running"), http.StatusOK)
	_, pin := request(t, a, 1)
	r := subscribe(t, a, "vm-1").answer()
	wantStatus(t, r, http.StatusOK)
	if !strings.Contains(r.Body, pin) {
		t.Errorf("answer %q", r.Body)
	}
}

// A machine that lost power while it waited has received nothing: the code waits
// for it, and the next poll brings it.
func TestExistingClient_HungUpIsNotDelivered(t *testing.T) {
	t.Parallel()
	a := serveOpen(t)
	wantStatus(t, send(t, a, "cloud_init_status", "vm-1", "running"), http.StatusOK)
	c := subscribe(t, a, "vm-1")
	waits(t, a, "vm-1")
	c.reset()
	testkit.Eventually(t, "the poll to end", func() bool { return strings.Contains(metrics(t, a), "lablink_waiting_vms 0") })
	_, pin := request(t, a, 1)
	if v, err := a.Store.VM(t.Context(), "vm-1"); err != nil || v.Seat != fleet.SeatRequested {
		t.Fatalf("nobody listened, the seat is %s, %v", v.Seat, err)
	}
	if r := subscribe(t, a, "vm-1").answer(); r.Status != http.StatusOK || !strings.Contains(r.Body, pin) {
		t.Errorf("the next poll: %d %q %v", r.Status, r.Body, r.Err)
	}
	wantSeat(t, a, "vm-1", "assumed")
}

// Callers that vanish leave no poll, no goroutine and no database connection
// behind, however many there are.
func TestExistingClient_VanishedCallersLeaveNothing(t *testing.T) {
	t.Parallel()
	a := serveOpen(t)
	wantStatus(t, send(t, a, "cloud_init_status", "vm-1", "running"), http.StatusOK)
	for range 150 { // more than PostgreSQL has connections by default
		subscribe(t, a, "vm-1").reset()
	}
	testkit.Eventually(t, "the polls to end", func() bool { return strings.Contains(metrics(t, a), "lablink_waiting_vms 0") })
	c := subscribe(t, a, "vm-1")
	waits(t, a, "vm-1")
	_, pin := request(t, a, 1)
	if r := c.answer(); !strings.Contains(r.Body, pin) {
		t.Errorf("afterwards: %d %q %v", r.Status, r.Body, r.Err)
	}
}

// Whoever speaks HTTP/1.0, such as a proxy with its defaults, gets a whole answer
// of known length: it could not tell the end of a cut one.
func TestExistingClient_HTTP10(t *testing.T) {
	t.Parallel()
	a := serveOpen(t)
	wantStatus(t, send(t, a, "cloud_init_status", "vm-1", "running"), http.StatusOK)
	head, body := golden(t, a, "subscribe", "vm-1", "")
	c := dial(t, a)
	c.write(strings.NewReplacer("HTTP/1.1", "HTTP/1.0", "Connection: keep-alive", "Connection: close").Replace(head) + body)
	waits(t, a, "vm-1")
	_, pin := request(t, a, 1)
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || len(resp.TransferEncoding) != 0 || resp.ContentLength <= 0 {
		t.Errorf("status %d, transfer encoding %v, length %d", resp.StatusCode, resp.TransferEncoding, resp.ContentLength)
	}
	var reply wire.StartupReply
	if err := json.NewDecoder(resp.Body).Decode(&reply); err != nil || reply.PIN != pin {
		t.Errorf("answer %+v, %v", reply, err)
	}
	wantSeat(t, a, "vm-1", "assumed")
}

// What posts is never redirected: curl does not follow, and Python turns a
// redirected POST into a GET.
func TestExistingClient_NoRedirects(t *testing.T) {
	t.Parallel()
	a := serveOpen(t)
	wantStatus(t, send(t, a, "cloud_init_status", "vm-1", "running"), http.StatusOK)
	for path, want := range map[string]int{
		"/api/vm-status": 200, "//api/vm-status": 200, "/api//vm-status": 200, "/./api/vm-status": 200,
		"/api/vm-status/": 404, "/vm_startup/": 404, "/api/vm-metrics": 404, "/static": 404,
		"/api/request_vm/": 404, "/vm-status": 404, "/vms": 404, "/request_vm": 404, "/api/vm-startup": 404,
	} {
		r := a.Do(t.Context(), testkit.Request{Path: path, JSON: map[string]string{"hostname": "vm-1", "status": "running"}})
		if r.Status != want && (want != 404 || r.Status != 405) || r.Header.Get("Location") != "" {
			t.Errorf("POST %s: %d, Location %q; want %d", path, r.Status, r.Header.Get("Location"), want)
		}
	}
}
