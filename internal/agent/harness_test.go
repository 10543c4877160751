package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"lablink/internal/agent/simhost"
	"lablink/internal/wire"
)

// TestMain makes this test binary the simulated start-host as well: the scripts
// that simhost.Install writes run it with that argument.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "start-host":
			os.Exit(simhost.StartHost(context.Background(), os.Args[2:], os.Stdin, os.Stdout, os.Stderr))
		case "chrome-remote-desktop":
			os.Exit(simhost.Script(os.Args[2:], os.Stdout, os.Stderr))
		}
	}
	goleak.VerifyTestMain(m)
}

const (
	testHost  = "vm-7"
	testToken = "tok-aGVsbG8td29ybGQtMTIzNDU2Nzg5MA"
	testPIN   = "739184"
	patience  = 30 * time.Second // for what must come; never waited for in full
)

// heldPoll is a poll that waits at the fake allocator until the test answers it.
type heldPoll struct {
	request wire.StartupRequest
	header  http.Header
	gone    <-chan struct{}
	answer  chan<- func(http.ResponseWriter)
}

// reply answers the poll with JSON.
func (p heldPoll) reply(r wire.StartupReply) {
	p.answer <- func(w http.ResponseWriter) { writeJSON(w, r) }
}

func (p heldPoll) code(status int, header ...string) {
	p.answer <- func(w http.ResponseWriter) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		writeJSON(w, wire.Error{Error: "because"})
	}
}

// writeJSON writes v; a caller that has gone is no fault.
func writeJSON(w io.Writer, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	_, _ = w.Write(data)
}

// fakeAllocator hands every call to the test.
type fakeAllocator struct {
	t       *testing.T
	server  *httptest.Server
	polls   chan heldPoll
	results chan wire.ResultRequest
	status  chan wire.StatusRequest
	gpu     chan wire.GPURequest
	inUse   chan bool
	metrics chan wire.MetricsRequest
	logs    chan sentLogs

	mu     sync.Mutex
	refuse map[string][]int // by path: codes of the next answers
}

func newAllocator(t *testing.T) *fakeAllocator {
	t.Helper()
	f := &fakeAllocator{
		t: t, refuse: map[string][]int{},
		polls: make(chan heldPoll), results: make(chan wire.ResultRequest, 100),
		status: make(chan wire.StatusRequest, 10_000), gpu: make(chan wire.GPURequest, 10_000),
		inUse: make(chan bool, 10_000), metrics: make(chan wire.MetricsRequest, 100), logs: make(chan sentLogs, 10_000),
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+wire.PathStartup, f.startup)
	mux.HandleFunc("POST "+wire.PathCRDResult, take(f, f.results))
	mux.HandleFunc("POST "+wire.PathStatus, take(f, f.status))
	mux.HandleFunc("POST "+wire.PathGPU, take(f, f.gpu))
	mux.HandleFunc("POST "+wire.PathMetrics+testHost, take(f, f.metrics))
	mux.HandleFunc("POST "+wire.PathLogs, f.takeLogs)
	mux.HandleFunc("POST "+wire.PathInUse, func(_ http.ResponseWriter, r *http.Request) {
		var body wire.InUseRequest
		if json.NewDecoder(r.Body).Decode(&body) == nil && body.Status != nil {
			f.inUse <- *body.Status
		}
	})
	f.server = httptest.NewServer(mux)
	t.Cleanup(f.server.Close)
	return f
}

func (f *fakeAllocator) refuseNext(path string, codes ...int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refuse[path] = append(f.refuse[path], codes...)
}

func (f *fakeAllocator) refusal(path string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	codes := f.refuse[path]
	if len(codes) == 0 {
		return 0
	}
	f.refuse[path] = codes[1:]
	return codes[0]
}

// take returns a handler that decodes a body, passes it on and answers 200, or
// the refusal that the test asked for.
func take[T any](f *fakeAllocator, out chan T) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var body T
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			f.t.Errorf("%s: %v", r.URL.Path, err)
		}
		if code := f.refusal(r.URL.Path); code != 0 {
			w.WriteHeader(code)
			writeJSON(w, wire.Error{Error: "refused"})
		} else {
			fmt.Fprintln(w, `{"message":"ok"}`)
		}
		select {
		case out <- body:
		default: // a test that does not look
		}
	}
}

func (f *fakeAllocator) startup(w http.ResponseWriter, r *http.Request) {
	p := heldPoll{header: r.Header, gone: r.Context().Done()}
	if err := json.NewDecoder(r.Body).Decode(&p.request); err != nil {
		f.t.Errorf("body of a poll: %v", err)
	}
	answer := make(chan func(http.ResponseWriter))
	p.answer = answer
	select {
	case f.polls <- p:
	case <-r.Context().Done():
		return
	}
	select {
	case do := <-answer:
		do(w)
	case <-r.Context().Done():
	}
}

// next waits for something that must come.
func next[T any](t *testing.T, from <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(patience):
		t.Fatalf("no %s within %v", what, patience)
		panic("unreachable")
	}
}

// vm is a machine in a temporary folder, on which agents run one after another.
type vm struct {
	t    *testing.T
	cfg  Config
	home string
	log  *logBuffer
	sim  string // folder of the simulated programs
}

func newVM(t *testing.T, f *fakeAllocator) *vm {
	t.Helper()
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	v := &vm{t: t, home: filepath.Join(dir, "home"), sim: filepath.Join(dir, "crd"), log: &logBuffer{}}
	if err := os.MkdirAll(v.home, 0o700); err != nil {
		t.Fatal(err)
	}
	startHost, err := simhost.Install(v.sim, self)
	if err != nil {
		t.Fatal(err)
	}
	v.cfg = Config{
		Allocator: f.server.URL, Hostname: testHost, Token: testToken, Version: "1.2.3",
		StateDir: filepath.Join(dir, "state"), StartHost: startHost, Home: v.home,
		NvidiaSMI: filepath.Join(dir, "no-nvidia-smi"), SystemdDir: filepath.Join(dir, "no-systemd"),
		Log: slog.New(slog.NewJSONHandler(v.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Timing: Timing{
			RetryMin: 5 * time.Millisecond, RetryMax: 20 * time.Millisecond, AtOnce: time.Millisecond,
			StatusEvery: 10 * time.Millisecond, ProbeEvery: 20 * time.Millisecond, Repeat: 50 * time.Millisecond,
		},
	}
	return v
}

// start runs an agent, and returns what stops it and waits for its end.
func (v *vm) start() (stop func()) {
	v.t.Helper()
	a, err := New(v.cfg)
	if err != nil {
		v.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := next(v.t, ended, "end of the agent"); err != nil {
				v.t.Errorf("Run: %v", err)
			}
		})
	}
	v.t.Cleanup(stop)
	return stop
}

// program replaces one of the simulated programs by a shell script.
func (v *vm) program(name, script string) string {
	v.t.Helper()
	path := filepath.Join(v.sim, name)
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		v.t.Fatal(err)
	}
	return path
}

// fifo makes a named pipe in the home: both of its ends wait for each other.
func (v *vm) fifo(name string) string {
	v.t.Helper()
	path := filepath.Join(v.home, name)
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		v.t.Fatal(err)
	}
	return path
}

func (v *vm) read(path string) string {
	v.t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		v.t.Fatal(err)
	}
	return string(data)
}

func (v *vm) state() string { return v.read(filepath.Join(v.cfg.StateDir, testHost+".json")) }

func (v *vm) hostConfigs() []string {
	found, err := filepath.Glob(filepath.Join(v.home, ".config", "chrome-remote-desktop", "host#*.json"))
	if err != nil {
		v.t.Fatal(err)
	}
	return found
}

// codesUsed counts the codes that the simulated Google has redeemed.
func (v *vm) codesUsed() int {
	used, err := os.ReadDir(filepath.Join(v.sim, "codes"))
	if err != nil {
		return 0
	}
	return len(used)
}

// noSecrets fails if a secret is in the log or the state.
func (v *vm) noSecrets(secrets ...string) {
	v.t.Helper()
	for _, s := range append(secrets, testToken, testPIN) {
		if strings.Contains(v.log.String(), s) {
			v.t.Errorf("the log holds the secret %q:\n%s", s, v.log)
		}
		if strings.Contains(v.state(), s) {
			v.t.Errorf("the state holds the secret %q:\n%s", s, v.state())
		}
	}
}

func delivery(id int64, code string) wire.StartupReply {
	return wire.StartupReply{
		Status: wire.StatusSuccess, PIN: testPIN, Delivery: id,
		Command: `DISPLAY= /opt/google/chrome-remote-desktop/start-host --code="` + code +
			`" --redirect-url="https://remotedesktop.google.com/_/oauthredirect" --name=$(hostname)`,
	}
}

// logBuffer is a log that many goroutines write.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// startedPID waits until the state names the process of start-host.
func startedPID(t *testing.T, v *vm) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for wait(ctx, time.Millisecond) == nil {
		var r record
		data, err := os.ReadFile(filepath.Join(v.cfg.StateDir, testHost+".json"))
		if err == nil && json.Unmarshal(data, &r) == nil && r.PID != 0 {
			return r.PID
		}
	}
	t.Fatal("the state names no process")
	return 0
}

// background runs a process that is nobody's child and has arg among its
// arguments, until end is called or the test ends.
func (v *vm) background(arg string) (end func()) {
	v.t.Helper()
	until := v.fifo("until")
	out, err := exec.CommandContext(v.t.Context(), "sh", "-c", `exec 3<> "$1"; sh -c 'read line <&3' "$2" > /dev/null 2>&1 & exit 0`, "sh", until, arg).CombinedOutput()
	if err != nil {
		v.t.Fatalf("%v: %s", err, out)
	}
	var once sync.Once
	end = func() {
		once.Do(func() {
			if err := os.WriteFile(until, []byte("\n"), 0); err != nil {
				v.t.Error(err)
			}
		})
	}
	v.t.Cleanup(end)
	return end
}
