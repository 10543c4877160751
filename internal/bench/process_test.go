//go:build linux

package bench_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// built is the program under test, built once without the race detector,
// whatever this test binary has.
var built struct {
	once sync.Once
	dir  string
	err  error
}

func lablink(tb testing.TB) string {
	tb.Helper()
	built.once.Do(func() {
		built.dir, built.err = os.MkdirTemp("", "lablink-bench-") //nolint:usetesting // it outlives this test
		if built.err != nil {
			return
		}
		cmd := exec.CommandContext(context.Background(), "go", "build", "-o", built.dir, "./cmd/lablink")
		cmd.Dir = "../.."
		if out, err := cmd.CombinedOutput(); err != nil {
			built.err = fmt.Errorf("go build: %w\n%s", err, out)
		}
	})
	if built.err != nil {
		tb.Fatal(built.err)
	}
	return filepath.Join(built.dir, "lablink")
}

// folder makes a temporary folder that PostgreSQL's user may pass, unlike that
// of TempDir when this runs as root.
func folder(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("", "lablink-bench-") //nolint:usetesting // its folder is closed to others
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			tb.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o711); err != nil {
		tb.Fatal(err)
	}
	return dir
}

// process is a server that runs beside this one: LabLink's or the bare one.
type process struct {
	tb   testing.TB
	path string
	args []string
	env  []string
	addr string
	log  string // file
	cmd  *exec.Cmd
}

// freeAddr is an address that nobody listens on at this moment.
func freeAddr(tb testing.TB) string {
	tb.Helper()
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// newServe prepares `lablink serve`; more is added to its environment.
func newServe(tb testing.TB, sc scale, dataDir, databaseURL string, more ...string) *process {
	tb.Helper()
	p := &process{tb: tb, path: lablink(tb), addr: freeAddr(tb), log: filepath.Join(folder(tb), "log")}
	p.args = []string{"serve", "--listen", p.addr, "--data-dir", dataDir}
	p.env = append([]string{
		"LABLINK_DATABASE_URL=" + databaseURL, "LABLINK_POLL_KEEPALIVE=" + sc.keepalive.String(),
		// All participants come from one address here.
		"LABLINK_LIMITS_REQUEST_VM_PER_MINUTE=1000000", "LABLINK_LIMITS_REQUEST_VM_BURST=1000000",
	}, more...)
	return p
}

// newBare prepares the bare server.
func newBare(tb testing.TB, sc scale) *process {
	tb.Helper()
	self, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	p := &process{tb: tb, path: self, addr: freeAddr(tb), log: filepath.Join(folder(tb), "log")}
	p.env = []string{roleVariable + "=bare", "BENCH_LISTEN=" + p.addr, "BENCH_KEEPALIVE=" + sc.keepalive.String()}
	return p
}

// environment is ours without what would configure LabLink.
func environment(more []string) []string {
	var env []string
	for _, line := range os.Environ() {
		if !strings.HasPrefix(line, "LABLINK_") && !strings.HasPrefix(line, "PG") && !strings.HasPrefix(line, "CONFIG_") {
			env = append(env, line)
		}
	}
	return append(env, more...)
}

// start starts the process and returns how long it took to be ready.
func (p *process) start() time.Duration {
	p.tb.Helper()
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		p.tb.Fatal(err)
	}
	defer log.Close()
	p.cmd = exec.CommandContext(context.Background(), p.path, p.args...)
	p.cmd.Env = environment(p.env)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	began := time.Now()
	if err := p.cmd.Start(); err != nil {
		p.tb.Fatal(err)
	}
	p.tb.Cleanup(p.stop)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.addr+"/readyz", http.NoBody)
		if err != nil {
			p.tb.Fatal(err)
		}
		if resp, err := client.Do(req); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return time.Since(began)
			}
		}
		if pause(ctx, 2*time.Millisecond) != nil {
			p.tb.Fatalf("%s is not ready:\n%s", p.path, p.tail())
		}
	}
}

func (p *process) tail() string {
	data, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(data[max(0, len(data)-4000):])
}

// kill ends the process at once, as a power cut would.
func (p *process) kill() {
	p.tb.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		p.tb.Fatal(err)
	}
	_ = p.cmd.Wait() // it reports the signal
	p.cmd = nil
}

// stop ends the process in order; it does nothing if it is not running.
func (p *process) stop() {
	p.tb.Helper()
	if p.cmd == nil {
		return
	}
	cmd := p.cmd
	p.cmd = nil
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.tb.Errorf("%s: %v\n%s", p.path, err, p.tail())
	}
	late := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	defer late.Stop()
	// The bare server has no orderly end.
	if err := cmd.Wait(); err != nil && len(p.args) > 0 {
		p.tb.Errorf("%s: %v\n%s", p.path, err, p.tail())
	}
}

func (p *process) get(path string) []byte {
	p.tb.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
	resp, err := client.Get("http://" + p.addr + path) //nolint:noctx // the client has a time limit
	if err != nil {
		p.tb.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		p.tb.Fatalf("GET %s: %d, %v", path, resp.StatusCode, err)
	}
	return data
}

// memory is what a process takes, in bytes.
type memory struct {
	rss, heap, stack float64
}

func (m memory) minus(o memory) memory {
	return memory{m.rss - o.rss, m.heap - o.heap, m.stack - o.stack}
}

func (m memory) over(n int) memory {
	return memory{m.rss / float64(n), m.heap / float64(n), m.stack / float64(n)}
}

// rss reads the resident memory of a process.
func (p *process) rss() float64 {
	p.tb.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		p.tb.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "VmRSS:" {
			kib, err := strconv.ParseFloat(f[1], 64)
			if err != nil {
				p.tb.Fatal(err)
			}
			return kib * 1024
		}
	}
	p.tb.Fatal("no VmRSS")
	return 0
}

// bareMemory asks the bare server.
func (p *process) bareMemory() (m memory, held int) {
	p.tb.Helper()
	rss := p.rss() // before the question, which takes some itself
	var s bareStats
	if err := json.Unmarshal(p.get("/stats"), &s); err != nil {
		p.tb.Fatal(err)
	}
	return memory{rss, float64(s.Heap), float64(s.Stack)}, int(s.Held)
}

// serveMemory asks LabLink's metrics.
func (p *process) serveMemory() (m memory, held int) {
	p.tb.Helper()
	m.rss = p.rss()
	values := map[string]float64{}
	lines := bufio.NewScanner(bytes.NewReader(p.get("/metrics")))
	for lines.Scan() {
		if name, value, ok := strings.Cut(lines.Text(), " "); ok && name[0] != '#' {
			v, err := strconv.ParseFloat(value, 64)
			if err != nil {
				continue // a label with a space in it
			}
			values[name] = v
		}
	}
	m.heap, m.stack = values["go_memstats_heap_inuse_bytes"], values["go_memstats_stack_inuse_bytes"]
	if m.heap == 0 || m.stack == 0 {
		p.tb.Fatal("no memory in /metrics")
	}
	return m, int(values["lablink_waiting_vms"])
}
