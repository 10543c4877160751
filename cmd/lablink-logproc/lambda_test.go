package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"lablink/internal/testkit"
)

const token = "processor-token-0123456789"

// TestMain runs the tests, or the log processor itself.
func TestMain(m *testing.M) {
	if os.Getenv("LOGPROC_TEST_RUN") != "" {
		main()
		return
	}
	testkit.Main(m)
}

// function is the log processor as a process of its own, and the service that
// runs it: what Lambda's runtime API says to a function.
type function struct {
	t       *testing.T
	calls   chan call
	results chan string // of the call before: "" or the error
	log     string      // the file that has what it prints
}

// call is what Lambda has a function do.
type call struct {
	event    []byte
	deadline time.Time
}

// start runs the log processor for an allocator at a URL.
func start(t *testing.T, url string, environ ...string) *function {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return startProgram(t, program, append([]string{"API_ENDPOINT=" + url + "/api/vm-logs", "API_TOKEN=" + token}, environ...)...)
}

func startProgram(t *testing.T, program string, environ ...string) *function {
	t.Helper()
	f := &function{t: t, calls: make(chan call), results: make(chan string), log: filepath.Join(t.TempDir(), "log")}
	mux := http.NewServeMux()
	const api = "/2018-06-01/runtime/invocation/"
	mux.HandleFunc("GET "+api+"next", func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case c := <-f.calls:
			w.Header().Set("Lambda-Runtime-Aws-Request-Id", "8476a536-e9f4-11e8-9739-2dfe598c3fcd")
			w.Header().Set("Lambda-Runtime-Deadline-Ms", fmt.Sprint(c.deadline.UnixMilli()))
			w.Header().Set("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:us-west-2:123456789012:function:lablink_log_processor_test")
			_, _ = w.Write(c.event)
		}
	})
	mux.HandleFunc("POST "+api+"{id}/response", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusAccepted)
		f.results <- ""
	})
	mux.HandleFunc("POST "+api+"{id}/error", func(w http.ResponseWriter, r *http.Request) {
		var failure struct {
			Message string `json:"errorMessage"`
		}
		if err := json.NewDecoder(r.Body).Decode(&failure); err != nil {
			t.Error(err)
		}
		w.WriteHeader(http.StatusAccepted)
		f.results <- "error: " + failure.Message
	})
	runtime := httptest.NewServer(mux)

	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, program)
	cmd.Env = append([]string{"LOGPROC_TEST_RUN=yes", "AWS_LAMBDA_RUNTIME_API=" + strings.TrimPrefix(runtime.URL, "http://")}, environ...)
	// A file, which has it all when Lambda has the answer: a pipe is read later.
	output, err := os.Create(f.log)
	if err != nil {
		t.Fatal(err)
	}
	defer output.Close()
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // it was killed
		runtime.Close()
		if t.Failed() {
			t.Logf("output of the log processor:\n%s", f.output())
		}
	})
	return f
}

// handle has it handle an event within a time, and returns "" or the error.
func (f *function) handle(event []byte, within time.Duration) string {
	f.t.Helper()
	deadline := time.Now().Add(within)
	f.calls <- call{event, deadline}
	result := <-f.results
	if time.Now().After(deadline) {
		f.t.Errorf("Lambda would have ended it: it answered %v late", time.Since(deadline))
	}
	return result
}

// enough time for what takes none.
const enough = 2 * time.Minute

func (f *function) wantDelivered(event []byte) {
	f.t.Helper()
	if result := f.handle(event, enough); result != "" {
		f.t.Errorf("the delivery failed: %s", result)
	}
}

func (f *function) wantFailure(event []byte, within time.Duration, says ...string) {
	f.t.Helper()
	result := f.handle(event, within)
	for _, text := range append(says, "error: ") {
		if !strings.Contains(result, text) {
			f.t.Errorf("the answer to Lambda is %q, want %q", result, text)
		}
	}
}

// output is what it has printed.
func (f *function) output() string { return string(read(f.t, f.log)) }

// printed returns what it has printed, of which each line must be a JSON object.
func (f *function) printed() (lines []map[string]any) {
	f.t.Helper()
	for text := range strings.Lines(f.output()) {
		line := map[string]any{}
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			f.t.Errorf("it printed %q: %v", text, err)
		}
		lines = append(lines, line)
	}
	return lines
}

// wantSecret fails the test if one of these texts was printed.
func (f *function) wantSecret(texts ...string) {
	f.t.Helper()
	for _, text := range append(texts, token) {
		if strings.Contains(f.output(), text) {
			f.t.Errorf("%q is in its output", text)
		}
	}
}

// packed is an event for the function, with any text inside.
func packed(t *testing.T, text []byte) []byte {
	t.Helper()
	var data bytes.Buffer
	zip := gzip.NewWriter(&data)
	if _, err := zip.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := zip.Close(); err != nil {
		t.Fatal(err)
	}
	event, err := json.Marshal(events.CloudwatchLogsEvent{AWSLogs: events.CloudwatchLogsRawData{
		Data: base64.StdEncoding.EncodeToString(data.Bytes()),
	}})
	if err != nil {
		t.Fatal(err)
	}
	return event
}

// ids are like those of CloudWatch, which have 56 digits.
func id(n int) string { return fmt.Sprintf("%056d", n) }

var when = time.Date(2025, 1, 2, 3, 4, 5, 6e6, time.UTC)

// delivery is one of a stream, with a second between its messages. Their ids go on
// from the first.
func delivery(t *testing.T, stream string, first int, messages ...string) []byte {
	t.Helper()
	d := events.CloudwatchLogsData{
		Owner: "123456789012", LogGroup: "lablink-cloud-init-test", LogStream: stream, SubscriptionFilters: []string{"lablink_lambda_subscription_test"},
		MessageType: "DATA_MESSAGE",
	}
	for i, m := range messages {
		at := when.Add(time.Duration(first+i) * time.Second)
		d.LogEvents = append(d.LogEvents, events.CloudwatchLogsLogEvent{ID: id(first + i), Timestamp: at.UnixMilli(), Message: m})
	}
	text, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	return packed(t, text)
}

// numbered are the lines of the numbers.
func numbered(first, last int) (lines []string) {
	for n := first; n <= last; n++ {
		lines = append(lines, fmt.Sprintf("line %d", n))
	}
	return lines
}
