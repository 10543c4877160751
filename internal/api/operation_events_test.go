package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"lablink/internal/fleet"
	"lablink/internal/store"
	"lablink/internal/testkit"
)

func ids(op fleet.Operation) []int64 {
	list := make([]int64, len(op.Steps))
	for i, step := range op.Steps {
		list[i] = step.VM
	}
	return list
}

func times(n int) []time.Time { return slices.Repeat([]time.Time{time.Now()}, n) }

// view is all of an operation's JSON.
type view struct {
	ID           int64      `json:"id"`
	Kind         string     `json:"kind"`
	State        string     `json:"state"`
	Phase        string     `json:"phase"`
	Provider     string     `json:"provider"`
	InstanceType string     `json:"instance_type"`
	Stopping     bool       `json:"stopping"`
	Error        string     `json:"error"`
	CreatedAt    time.Time  `json:"created_at"`
	StartedAt    *time.Time `json:"started_at"`
	EndedAt      *time.Time `json:"ended_at"`
	URL          string     `json:"url"`
	VMs          []struct {
		Hostname string  `json:"hostname"`
		State    string  `json:"state"`
		Message  string  `json:"message"`
		Seconds  float64 `json:"seconds"`
	} `json:"vms"`
}

func parse(t *testing.T, body string) view {
	t.Helper()
	var v view
	dec := json.NewDecoder(strings.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&v); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return v
}

func TestOperations_Read(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	s.Launch(3)
	one := func() view { return parse(t, s.get("/api/operations/1").Body) }
	v := one()
	if v.State != "pending" || v.StartedAt != nil || v.EndedAt != nil || time.Since(v.CreatedAt) > time.Minute || v.CreatedAt.Location() != time.UTC || v.VMs[0].State != "waiting" {
		t.Errorf("at first %+v", v)
	}
	c := s.claim()
	began := time.Now().Add(-90 * time.Second)
	s.must(c.Begin(t.Context(), ids(c.Operation), []time.Time{began, began, began}))
	s.must(c.Created(t.Context(), ids(c.Operation)[:1], []time.Time{began.Add(time.Minute)}))
	v = one()
	if v.State != "running" || v.Phase != "preparing" || v.StartedAt == nil || v.EndedAt != nil || v.VMs[0].State != "done" || v.VMs[0].Seconds != 60 || v.VMs[1].State != "running" || v.VMs[1].Seconds != 0 {
		t.Errorf("under way %+v", v)
	}
	s.must(c.Failed(t.Context(), ids(c.Operation)[1:], []string{"no <capacity>\nat all", "no permission"}))
	s.must(c.Finish(t.Context(), fleet.OperationSucceeded, "half of it"))
	s.Destroy("lablink-client-1")
	v = one()
	if v.State != "succeeded" || v.Phase != "" || v.EndedAt == nil || v.Error != "half of it" || v.VMs[1].Message != "no <capacity>\nat all" || v.Provider != "local" {
		t.Errorf("at the end %+v", v)
	}
	var list struct{ Operations []json.RawMessage }
	s.get("/api/operations").JSON(t, &list)
	if len(list.Operations) != 2 || parse(t, string(list.Operations[0])).Kind != "destroy" || string(list.Operations[1])+"\n" != s.get("/api/operations/1").Body {
		t.Errorf("the list is %s", list)
	}
	for _, id := range []string{"3", "0", "-1", "x", "1x", "0x1", "1.0", "%20", "99999999999999999999", "1%00"} {
		for method, suffix := range map[string]string{"GET": "", "GET ": "/events", "POST": "/stop", "POST ": "/retry"} {
			r := s.Do(t.Context(), testkit.Request{Method: strings.TrimSpace(method), Path: "/api/operations/" + id + suffix, Admin: true, Header: map[string]string{"Accept": asJSON}})
			want := http.StatusNotFound
			if strings.Contains(id, "%00") {
				want = http.StatusBadRequest
			}
			if r.Status != want || !strings.Contains(r.Body, `"error"`) {
				t.Errorf("%s %q%s: %d %s", method, id, suffix, r.Status, r.Body)
			}
		}
	}
}

// events is an open stream of an operation.
type events struct {
	t     *testing.T
	data  chan string // closed when the stream ends
	close context.CancelFunc
}

func (s *site) follow(id int64) *events {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/api/operations/%d/events", s.URL, id), nil)
	s.must(err)
	req.SetBasicAuth("admin", testkit.AdminPassword)
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req) //nolint:bodyclose // below, where the stream ends
	s.must(err)
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" || resp.Header.Get("Cache-Control") != "no-store" {
		s.t.Fatalf("stream: %d %v", resp.StatusCode, resp.Header)
	}
	e := &events{s.t, make(chan string, 100), cancel}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer close(e.data)
		defer resp.Body.Close()
		lines := bufio.NewScanner(resp.Body)
		lines.Buffer(nil, 1<<20)
		name := ""
		for lines.Scan() {
			if after, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
				name = after
			}
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok && name == "operation" {
				e.data <- data
			}
		}
	}()
	s.t.Cleanup(func() {
		cancel()
		<-ended
	})
	return e
}

// next returns the next state that was sent.
func (e *events) next() view {
	e.t.Helper()
	select {
	case data, ok := <-e.data:
		if !ok {
			e.t.Fatal("the stream has ended")
		}
		return parse(e.t, data)
	case <-time.After(time.Minute):
		e.t.Fatal("nothing was sent")
		return view{}
	}
}

// ends waits for the end of the stream, and fails if anything else is sent.
func (e *events) ends() {
	e.t.Helper()
	select {
	case data, ok := <-e.data:
		if ok {
			e.t.Fatalf("sent %s, want the end", data)
		}
	case <-time.After(time.Minute):
		e.t.Fatal("the stream does not end")
	}
}

func TestOperationEvents(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	s.Launch(2)
	other := s.Launch(1)
	e := s.follow(1)
	if v := e.next(); v.State != "pending" || len(v.VMs) != 2 {
		t.Errorf("at first %+v", v)
	}
	c := s.claim()
	if v := e.next(); v.State != "running" {
		t.Errorf("claimed: %+v", v)
	}
	s.must(c.Enter(t.Context(), fleet.PhaseApplying))
	if v := e.next(); v.Phase != "applying" {
		t.Errorf("applying: %+v", v)
	}
	s.must(c.Created(t.Context(), ids(c.Operation)[:1], times(1)))
	if v := e.next(); v.VMs[0].State != "done" || v.VMs[1].State == "done" {
		t.Errorf("one VM is made: %+v", v)
	}
	// What concerns others is not sent, nor what has changed nothing.
	s.must(s.Store.StopOperation(t.Context(), other.ID))
	s.must(c.Enter(t.Context(), fleet.PhaseApplying))
	s.must(c.Created(t.Context(), ids(c.Operation)[1:], times(1)))
	if v := e.next(); v.VMs[1].State != "done" || v.State != "running" {
		t.Errorf("both VMs are made: %+v", v)
	}
	late := s.follow(1)
	if v := late.next(); v.VMs[1].State != "done" {
		t.Errorf("who comes later sees %+v", v)
	}
	s.must(c.Finish(t.Context(), fleet.OperationSucceeded, ""))
	for _, e := range []*events{e, late} {
		if v := e.next(); v.State != "succeeded" || v.EndedAt == nil {
			t.Errorf("at the end %+v", v)
		}
		e.ends()
	}
	over := s.follow(1)
	if v := over.next(); v.State != "succeeded" {
		t.Errorf("who comes too late sees %+v", v)
	}
	over.ends()
}

// A stream ends with its reader, and with the server.
func TestOperationEvents_Ends(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	s.Launch(1)
	gone, stays := s.follow(1), s.follow(1)
	gone.next()
	stays.next()
	gone.close()
	for range gone.data {
	}
	testkit.Eventually(t, "the end of the request to be logged", func() bool {
		return strings.Contains(s.Log.String(), "/api/operations/1/events")
	})
	s.claim()
	if v := stays.next(); v.State != "running" {
		t.Errorf("the other reader sees %+v", v)
	}
	began := time.Now()
	s.Stop()
	stays.ends()
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("the stop took %v: it waited for the stream", took)
	}
}

func TestOperations_StopAndRetry(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	s.Launch(2)
	post := func(path string) testkit.Response {
		return s.Do(t.Context(), testkit.Request{Path: "/api/operations/" + path, Admin: true, JSON: map[string]any{}})
	}
	conflict := func(path, says string) {
		t.Helper()
		if r := post(path); r.Status != http.StatusConflict || !strings.Contains(r.Body, says) {
			t.Errorf("%s: %d %s, want %q", path, r.Status, r.Body, says)
		}
		if r := s.send("/api/operations/"+path, asForm, "", "text/html"); r.Status != http.StatusConflict || r.Header.Get("Content-Type") != asHTML {
			t.Errorf("%s for a browser: %d %s", path, r.Status, r.Header.Get("Content-Type"))
		}
	}
	conflict("1/retry", "still pending")
	r := post("1/stop")
	if v := parse(t, r.Body); r.Status != http.StatusAccepted || !v.Stopping || v.State != "pending" || r.Header.Get("Location") != "/api/operations/1" {
		t.Errorf("stop: %d %s", r.Status, r.Body)
	}
	if r := s.send("/api/operations/1/stop", asForm, "", "text/html"); r.Status != http.StatusSeeOther || r.Header.Get("Location") != "/admin/operations/1" {
		t.Errorf("stop for a browser: %d %q", r.Status, r.Header.Get("Location"))
	}
	c := s.claim()
	s.must(c.Failed(t.Context(), ids(c.Operation), []string{"a", "b"}))
	s.must(c.Finish(t.Context(), fleet.OperationFailed, "none"))
	conflict("1/stop", "over already: failed")

	r = post("1/retry")
	v := parse(t, r.Body)
	if r.Status != http.StatusAccepted || v.ID != 2 || v.Kind != "launch" || v.State != "pending" || v.Stopping || len(v.VMs) != 2 || r.Header.Get("Location") != "/api/operations/2" {
		t.Errorf("retry: %d %s", r.Status, r.Body)
	}
	conflict("1/retry", "nothing is left")
	c = s.claim()
	s.must(c.Created(t.Context(), ids(c.Operation)[:1], times(1)))
	s.must(c.Failed(t.Context(), ids(c.Operation)[1:], []string{"b"}))
	s.must(c.Finish(t.Context(), fleet.OperationSucceeded, ""))
	r = s.send("/api/operations/2/retry", asForm, "", "text/html")
	if r.Status != http.StatusSeeOther || r.Header.Get("Location") != "/admin/operations/3" {
		t.Errorf("retry for a browser: %d %q", r.Status, r.Header.Get("Location"))
	}
	events, err := s.Store.Events(t.Context(), ids(c.Operation)[1], 1)
	s.must(err)
	if e := events[0]; e.What != "launch asked for" || e.Detail != "operation 3" || e.Actor.Address != "127.0.0.1" {
		t.Errorf("history %+v", e)
	}
}

// A database that fails is an error, without a word about it to outsiders.
func TestOperations_DatabaseFails(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	s.Launch(1)
	conn, err := pgx.Connect(t.Context(), s.DatabaseURL)
	s.must(err)
	defer conn.Close(context.WithoutCancel(t.Context()))
	_, err = conn.Exec(t.Context(), `ALTER TABLE operation_vms RENAME TO elsewhere`)
	s.must(err)
	for _, r := range []testkit.Request{
		{Path: "/api/launch", JSON: map[string]int{"num_vms": 1}}, {Path: "/api/launch", Form: "num_vms=1"},
		{Path: "/destroy", JSON: map[string]any{"all": true, "confirm": 1}}, {Path: "/api/operations/1/retry", JSON: map[string]any{}}, {Path: "/api/operations/1/stop", JSON: map[string]any{}},
		{Method: http.MethodGet, Path: "/api/operations"}, {Method: http.MethodGet, Path: "/api/operations/1"}, {Method: http.MethodGet, Path: "/api/operations/1/events"},
	} {
		r.Admin = true
		got := s.Do(t.Context(), r)
		if got.Status != http.StatusInternalServerError || strings.Contains(got.Body, "relation") || strings.Contains(got.Body, "SQLSTATE") {
			t.Errorf("%s %s: %d %s", r.Method, r.Path, got.Status, got.Body)
		}
		if id := got.Header.Get("X-Request-Id"); id == "" || !strings.Contains(s.Log.String(), id) {
			t.Errorf("%s %s: the log does not know request %q", r.Method, r.Path, id)
		}
	}
	_, err = conn.Exec(t.Context(), `ALTER TABLE elsewhere RENAME TO operation_vms`)
	s.must(err)
	s.untouched(1, 1) // all or nothing
}

// An operation that nobody here would take up is not begun.
func TestOperations_RetryOfAnotherProvider(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	op, err := s.Store.Launch(t.Context(), fleet.Actor{Kind: "admin"}, store.Launch{Provider: "aws", Prefix: "aws-", InstanceType: "x", Count: 1, Most: 9})
	s.must(err)
	w, err := s.Store.LockWorkspace(t.Context(), "aws")
	s.must(err)
	defer w.Close()
	c, err := w.Claim(t.Context())
	s.must(err)
	s.must(c.Failed(t.Context(), ids(op), []string{"why"}))
	s.must(c.Finish(t.Context(), fleet.OperationFailed, "why"))
	s.refused("/api/operations/1/retry", asJSON, `{}`, http.StatusConflict, "", "provider aws, this server's is local")
	s.untouched(1, 1)
	// Its VMs are not this server's to destroy either.
	s.refused("/destroy", asJSON, `{"hostnames": ["aws-1"]}`, http.StatusConflict, "hostnames", "aws-1: made by another provider than local")
}
