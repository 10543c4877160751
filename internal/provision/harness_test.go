package provision_test

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/shirou/gopsutil/v4/process"

	"lablink/internal/provision"
	"lablink/internal/store"
	"lablink/internal/testkit"
)

func TestMain(m *testing.M) {
	if signal.Ignored(os.Interrupt) { // a background job: so would the shells that stand for tofu, which cannot change it
		signal.Notify(make(chan os.Signal, 1), os.Interrupt)
	}
	testkit.Main(m)
}

const (
	token    = "token-of-a-machine-0123456789"
	patience = 30 * time.Second // for what must come; never waited for in full
)

// output is what a workspace has logged.
type output struct {
	mu    sync.Mutex
	lines []string
	more  chan struct{} // closed when there is another line
}

func newOutput() *output { return &output{more: make(chan struct{})} }

func (o *output) add(line string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	// A flood is not kept: the test wants to see the end of it.
	if len(o.lines) < 10_000 {
		o.lines = append(o.lines, line)
	}
	close(o.more)
	o.more = make(chan struct{})
}

func (o *output) text() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.Join(o.lines, "\n")
}

// await waits until a text is logged.
func (o *output) await(t *testing.T, text string) {
	t.Helper()
	deadline := time.After(patience)
	for {
		o.mu.Lock()
		found := slices.ContainsFunc(o.lines, func(line string) bool { return strings.Contains(line, text) })
		more := o.more
		o.mu.Unlock()
		if found {
			return
		}
		select {
		case <-more:
		case <-deadline:
			t.Fatalf("waited in vain for %q in the output:\n%s", text, o.text())
		}
	}
}

// workspace is a Workspace of a test's own, which ends whatever is left in it.
func workspace(t *testing.T, binary string, module fs.FS, backend provision.Backend) (*provision.Workspace, *output) {
	t.Helper()
	out := newOutput()
	w := &provision.Workspace{
		Binary: binary, Dir: filepath.Join(t.TempDir(), "work"), Backend: backend, Grace: patience, Log: out.add,
		Provider: provision.Provider{Name: "test", Module: module, Inputs: map[string]any{}},
	}
	t.Cleanup(func() {
		if err := provision.Reap(w.Dir); err != nil {
			t.Error(err)
		}
	})
	return w, out
}

// files is a module of these files. What every module must have is in it.
func files(more map[string]string) fstest.MapFS {
	m := fstest.MapFS{"main.tf": {Data: []byte(`
variable "vms" { type = map(object({ instance_type = string })) }
variable "tokens" {
  type      = map(string)
  sensitive = true
}
output "vms" { value = {} }
`)}}
	for name, text := range more {
		m[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return m
}

// fake is a workspace in which scripts stand for the commands of tofu.
func fake(t *testing.T, scripts map[string]string) (*provision.Workspace, *output) {
	t.Helper()
	binary, err := filepath.Abs("testdata/tofu")
	if err != nil {
		t.Fatal(err)
	}
	return workspace(t, binary, files(scripts), provision.Backend{PostgresURL: "postgres://lablink:pass-word@db.example/lablink"})
}

// engines are the Terraforms that are here, by name.
func engines(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, name := range []string{"tofu", "terraform", "../../.tools/tofu"} {
		if path, err := exec.LookPath(name); err == nil {
			if path, err = filepath.Abs(path); err != nil {
				t.Fatal(err)
			}
			found[filepath.Base(name)] = path
		}
	}
	if len(found) == 0 {
		testkit.Terraform(t) // fails, and says what to do
	}
	return found
}

// eachEngine runs a test with each Terraform, each with an empty database for its
// state.
func eachEngine(t *testing.T, test func(t *testing.T, binary, databaseURL string)) {
	t.Helper()
	for name, binary := range engines(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, binary, testkit.DB(t))
		})
	}
}

// backend is a state in a database.
func backend(t *testing.T, databaseURL string) provision.Backend {
	t.Helper()
	s, err := store.Open(t.Context(), databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	url, err := s.TerraformURL(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return provision.Backend{PostgresURL: url}
}

// isVM knows the hostnames of these tests.
func isVM(key string) bool { return strings.HasPrefix(key, "vm-") }

// want are VMs of these numbers, with their tokens.
func want(numbers ...int) (vms map[string]provision.VM, tokens map[string]string) {
	vms, tokens = map[string]provision.VM{}, map[string]string{}
	for _, n := range numbers {
		name := fmt.Sprintf("vm-%d", n)
		vms[name], tokens[name] = provision.VM{InstanceType: "small"}, fmt.Sprintf("%s-%d", token, n)
	}
	return vms, tokens
}

// events are what became of VMs: a word for each event, by hostname.
type events struct {
	mu sync.Mutex
	of map[string][]string
	at []time.Time
}

func (e *events) add(ev provision.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.of == nil {
		e.of = map[string][]string{}
	}
	word := map[provision.EventKind]string{
		provision.VMBegun: "begun", provision.VMCreated: "created", provision.VMDestroyed: "destroyed", provision.VMFailed: "failed",
	}[ev.Kind]
	e.of[ev.Hostname] = append(e.of[ev.Hostname], word)
	e.at = append(e.at, ev.At)
}

// String lists the events, such as "vm-1: begun created; vm-2: begun failed".
func (e *events) String() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(e.of)) {
		parts = append(parts, name+": "+strings.Join(e.of[name], " "))
	}
	return strings.Join(parts, "; ")
}

// marked are the processes that Terraform, or what it has started, still has in a
// working folder.
func marked(t *testing.T, dir string) (found []string) {
	t.Helper()
	procs, err := process.Processes()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range procs {
		if env, err := p.Environ(); err == nil && slices.Contains(env, provision.Marker+"="+dir) {
			args, _ := p.Cmdline()
			found = append(found, args)
		}
	}
	return found
}

func open(t *testing.T, w *provision.Workspace) {
	t.Helper()
	if err := w.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func plan(t *testing.T, w *provision.Workspace, numbers ...int) *provision.Plan {
	t.Helper()
	vms, tokens := want(numbers...)
	p, err := w.Plan(t.Context(), vms, tokens, isVM)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// apply carries a plan out, and returns the events and the outputs. It fails
// unless that succeeds.
func apply(t *testing.T, w *provision.Workspace, p *provision.Plan) (*events, map[string]provision.Machine) {
	t.Helper()
	e := &events{}
	machines, err := w.Apply(t.Context(), p, e.add)
	if err != nil {
		t.Fatal(err)
	}
	return e, machines
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
