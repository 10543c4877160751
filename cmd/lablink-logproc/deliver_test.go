package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"lablink/internal/config"
	"lablink/internal/store"
	"lablink/internal/testkit"
)

// serve starts an allocator that knows the log processor.
func serve(t *testing.T) *testkit.Allocator {
	t.Helper()
	return testkit.Serve(t, testkit.ServeOptions{Configure: func(c *config.Config) { c.Logs.ProcessorToken = token }})
}

// logOf is the log of a VM.
func logOf(t *testing.T, a *testkit.Allocator, hostname string) (lines []store.LogLine) {
	t.Helper()
	vm, err := a.Store.LogVM(t.Context(), hostname)
	if err == nil {
		err = a.Store.EachLogLine(t.Context(), vm.ID, store.LogQuery{}, func(l store.LogLine) error {
			lines = append(lines, l)
			return nil
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func wantLog(t *testing.T, a *testkit.Allocator, hostname string, want ...string) {
	t.Helper()
	var got []string
	for _, l := range logOf(t, a, hostname) {
		got = append(got, l.Text)
	}
	if !slices.Equal(got, want) {
		const most = 300
		g, w := fmt.Sprintf("%q", got), fmt.Sprintf("%q", want)
		t.Errorf("the log of %s has %d lines, want %d\n%s\nwant\n%s", hostname, len(got), len(want), g[:min(most, len(g))], w[:min(most, len(w))])
	}
}

// What CloudWatch delivers is in the VM's log, with the times of its events, once.
func TestDeliveries(t *testing.T) {
	t.Parallel()
	a := serve(t)
	a.Register("vm-1", "vm-2")
	f := start(t, a.URL)
	for range 2 {
		f.wantDelivered(delivery(t, "vm-1", 0, "hush one", "hush two\nERROR: hush three\n"))
		f.wantDelivered(delivery(t, "/aws/ec2/vm-2/", 0, "hush \x1b[31mfour\x1b[0m"))
		f.wantDelivered(packed(t, []byte(`{"messageType":"CONTROL_MESSAGE","owner":"CloudwatchLogs","logGroup":"","logStream":"","subscriptionFilters":[],`+
			`"logEvents":[{"id":"","timestamp":1735787045006,"message":"CWL CONTROL MESSAGE: Checking health of destination"}]}`)))
		f.wantDelivered(delivery(t, "vm-1", 2))
		f.wantDelivered(packed(t, []byte(`{"messageType":"DATA_MESSAGE","logGroup":"g","logStream":"vm-2","logEvents":[`+
			`{"id":"`+id(1)+`","timestamp":1735787045006,"message":"caf`+"\xe9"+` \u0000 \ud800 x"}]}`)))
	}
	wantLog(t, a, "vm-1", "hush one", "hush two", "ERROR: hush three")
	wantLog(t, a, "vm-2", "hush four", "caf\ufffd  \ufffd x")
	for i, l := range logOf(t, a, "vm-1") {
		if want := when.Add(time.Duration(min(i, 1)) * time.Second); !l.At.Equal(want) || l.Source != "cloudwatch" {
			t.Errorf("the line %q is of %v from %q, want %v", l.Text, l.At, l.Source, want)
		}
	}
	f.wantSecret("hush", "CONTROL MESSAGE", "caf")
	first := f.printed()[0]
	for key, want := range map[string]any{"msg": "delivered", "stream": "vm-1", "events": 2.0, "accepted": 2.0, "posts": 1.0} {
		if first[key] != want {
			t.Errorf("it printed %s = %v, want %v", key, first[key], want)
		}
	}
}

// More than a batch holds, by number and by size, stays in order.
func TestDeliveries_Large(t *testing.T) {
	t.Parallel()
	a := serve(t)
	a.Register("vm-1", "vm-2")
	f := start(t, a.URL)
	many := numbered(1, 10_001)
	f.wantDelivered(delivery(t, "vm-1", 0, many...))
	wantLog(t, a, "vm-1", many...)

	// The largest event there is, so that eight of them are too large for a batch.
	const event = 1 << 20
	messages, lines := []string{}, []string{}
	for i := range 9 {
		line := strings.Repeat(fmt.Sprint(i), 8191)
		messages = append(messages, strings.Repeat(line+"\n", event/8192))
		lines = append(lines, slices.Repeat([]string{line}, event/8192)...)
	}
	f.wantDelivered(delivery(t, "vm-2", 0, messages...))
	wantLog(t, a, "vm-2", lines...)
	for i, line := range f.printed() {
		if line["posts"] != 2.0 {
			t.Errorf("the delivery %d took %v posts", i, line["posts"])
		}
	}
}

// The allocator takes fewer lines at once than newlines can make of a batch.
func TestDeliveries_TooManyLines(t *testing.T) {
	t.Parallel()
	a := serve(t)
	a.Register("vm-1")
	f := start(t, a.URL)
	const lines = 10_000
	f.wantDelivered(delivery(t, "vm-1", 0, append(slices.Repeat([]string{strings.Repeat("x\n", lines)}, 12), "the end")...))
	wantLog(t, a, "vm-1", append(slices.Repeat([]string{"x"}, 12*lines), "the end")...)
	if posts := f.printed()[0]["posts"]; posts != 3.0 {
		t.Errorf("there were %v posts: all, and two halves", posts)
	}
}

// What the allocator will never take is left out, and Lambda is told.
func TestDeliveries_Impossible(t *testing.T) {
	t.Parallel()
	a := serve(t)
	a.Register("vm-1")
	front := newFront(t, a.URL)
	proxy := proxyTo(t, a.URL)
	front.answer(func(w http.ResponseWriter, r *http.Request) {
		unpacked, err := gzip.NewReader(r.Body)
		if err != nil {
			t.Error(err)
			return
		}
		body, err := io.ReadAll(unpacked)
		if err != nil || bytes.Contains(body, []byte("line 7")) {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
			return
		}
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		r.Header.Del("Content-Encoding")
		proxy.ServeHTTP(w, r)
	})
	f := start(t, front.url)
	event := delivery(t, "vm-1", 1, numbered(1, 30)...)
	for range 2 {
		f.wantFailure(event, enough, "413: the event is too large")
	}
	wantLog(t, a, "vm-1", append(numbered(1, 6), numbered(8, 30)...)...)
}

// A VM that is not known is a failure, so that AWS sends again; but the allocator
// has all of it, in order, as soon as there is such a VM.
func TestDeliveries_UnknownVM(t *testing.T) {
	t.Parallel()
	a := serve(t)
	f := start(t, a.URL)
	lines := numbered(1, 10_001) // two batches
	event := delivery(t, "vm-1", 0, lines...)
	f.wantFailure(event, enough, "404: it knows no VM of that name (yet)")
	a.Register("vm-1")
	testkit.Eventually(t, "the lines that were kept aside", func() bool { return len(logOf(t, a, "vm-1")) == len(lines) })
	f.wantDelivered(event)
	wantLog(t, a, "vm-1", lines...)
}

// What is not of CloudWatch is refused, and its text not repeated.
func TestDeliveries_Broken(t *testing.T) {
	t.Parallel()
	f := start(t, "http://127.0.0.1:1")
	bomb := packed(t, []byte(`{"messageType":"DATA_MESSAGE","logEvents":[{"message":"`+strings.Repeat("hush", 40<<20/4)+`"}]}`))
	for says, event := range map[string][]byte{
		"there is no awslogs.data":     []byte(`{"detail":"hush"}`),
		"not gzip in base64":           []byte(`{"awslogs":{"data":"aHVzaGh1c2hodXNoaHVzaA=="}}`),
		"gzip in base64: illegal":      []byte(`{"awslogs":{"data":"h u s h"}}`),
		"cannot be unpacked":           []byte(`{"awslogs":{"data":"H4sIAAAAAAAA/wAAAP//"}}`),
		"not the JSON of a delivery":   packed(t, []byte(`{"messageType":"DATA_MESSAGE","logEvents":"hush"}`)),
		"neither a DATA_MESSAGE nor a": packed(t, []byte(`{"hush":1}`)),
		"more than 32 MiB":             bomb,
	} {
		f.wantFailure(event, enough, says)
	}
	f.wantSecret("hush")
}

// Who gets the token wrong is told so, at once.
func TestDeliveries_Refused(t *testing.T) {
	t.Parallel()
	a := serve(t)
	tokens := a.Register("vm-1", "vm-2")
	for _, c := range []struct{ token, says string }{
		{"another-token", "401: API_TOKEN is not the allocator's logs.processor_token"},
		{tokens["vm-2"], "403: API_TOKEN belongs to one VM"},
	} {
		f := start(t, a.URL, "API_TOKEN="+c.token)
		f.wantFailure(delivery(t, "vm-1", 0, "hush"), enough, c.says)
		f.wantSecret("hush", c.token)
		if got := f.printed()[0]; got["posts"] != 1.0 {
			t.Errorf("it printed %v", got)
		}
	}
	f := start(t, a.URL)
	f.wantFailure(delivery(t, "not a hostname", 0, "hush"), enough, "answered 400")
	wantLog(t, a, "vm-1")
}

// A configuration that cannot work ends the process, which says what to set.
func TestConfiguration(t *testing.T) {
	t.Parallel()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f := startProgram(t, program, "API_TOKEN="+token)
	testkit.Eventually(t, "its words", func() bool { return strings.Contains(f.output(), "set API_ENDPOINT") })
	if level := f.printed()[0]["level"]; level != "ERROR" {
		t.Errorf("its level is %v", level)
	}
	f.wantSecret()

	a := serve(t)
	a.Register("vm-1")
	f = startProgram(t, program, "API_ENDPOINT="+strings.TrimPrefix(a.URL, "http://")+"/api/vm-logs/", "API_TOKEN="+token)
	f.wantDelivered(delivery(t, "vm-1", 0, "hello"))
	wantLog(t, a, "vm-1", "hello")
	if first := f.printed()[0]; first["level"] != "WARN" || !strings.Contains(fmt.Sprint(first["warning"]), "no scheme") {
		t.Errorf("it printed %v first", first)
	}
}

// The allocator of the Python system gets what its own Lambda sends.
func TestPythonAllocator(t *testing.T) {
	t.Parallel()
	p := newPythonAllocator(t, "vm-1", "/aws/ec2/vm-2")
	f := start(t, p.url, "API_FORMAT=python", "API_TOKEN=")
	f.wantDelivered(delivery(t, "vm-1", 0, numbered(1, 10_001)...))
	f.wantDelivered(delivery(t, "/aws/ec2/vm-2", 0, "a\nb", "c"))
	f.wantDelivered(delivery(t, "vm-1", 0))
	f.wantFailure(delivery(t, "vm-3", 0, "x"), enough, "404")
	if got := p.log("vm-1"); got != strings.Join(numbered(1, 10_001), "\n") {
		t.Errorf("the log has %d bytes", len(got))
	}
	if got := p.log("/aws/ec2/vm-2"); got != "a\nb\nc" {
		t.Errorf("the log is %q", got)
	}
	if p.posts.Load() != 3 {
		t.Errorf("there were %d posts, want one for each delivery", p.posts.Load())
	}

	f = start(t, p.url)
	f.wantFailure(delivery(t, "vm-1", 0, "x"), 4*time.Second, "set API_FORMAT=python")
	f = start(t, p.url, "API_FORMAT=python") // whose token its proxy may want
	f.wantDelivered(delivery(t, "vm-1", 0, "x"))
	if got := p.authorization.Load(); got != "Bearer "+token {
		t.Errorf("it shows %v", got)
	}
}

// Anything that answers 200 is no allocator yet.
func TestOtherServer(t *testing.T) {
	t.Parallel()
	front := newFront(t, "")
	front.answer(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<title>Welcome</title>")) })
	f := start(t, front.url)
	f.wantFailure(delivery(t, "vm-1", 0, "x"), enough, "not as an allocator does: look at API_ENDPOINT")
}
