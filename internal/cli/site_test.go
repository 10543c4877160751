package cli_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"lablink/internal/fleet"
	"lablink/internal/testkit"
)

// site is a server whose VMs Terraform makes on this machine, and that can be
// killed and started again at the same address. Each VM waits at gates, so that a
// test can stop the world in the middle of a launch or a destroy.
type site struct {
	t       *testing.T
	dir     string // of everything; all its processes name it
	gates   string
	address string
	env     []string
}

// hosts counts sites. Each has an address of its own on the loopback network,
// where nobody takes its port while its server is down.
var hosts atomic.Int32

func newSite(t *testing.T) *site {
	t.Helper()
	dir := dataDir(t)
	pid := os.Getpid()
	s := &site{t: t, dir: dir, gates: filepath.Join(dir, "gates"),
		address: fmt.Sprintf("127.%d.%d.%d:0", 1+pid>>8%250, pid%256, hosts.Add(1))}
	module := filepath.Join(dir, "module")
	s.env = []string{
		"LABLINK_PROVIDER=local", "LABLINK_MACHINE_MACHINE_TYPE=small",
		"LABLINK_PROVISION_MODULE=" + module, "LABLINK_PROVISION_TERRAFORM=" + testkit.Terraform(t),
	}
	for _, folder := range []string{module, s.gates, filepath.Join(s.gates, "used")} {
		if err := os.Mkdir(folder, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	s.module(module)
	t.Cleanup(s.end)
	return s
}

// gated runs the built-in module's script between two gates: ACTION.before and
// ACTION.after. A gate lets one through for each ticket, or everybody when it is
// open.
const gated = `#!/bin/sh
set -eu
gate() {
	while ! [ -e "$1.open" ]; do
		for ticket in "$1".ticket.*; do
			if [ -e "$ticket" ] && mv "$ticket" "%[1]s/used" 2>/dev/null; then return; fi
		done
		sleep 0.1
	done
}
gate "%[1]s/$1.before"
sh ./agent.sh "$1"
gate "%[1]s/$1.after"
`

// module writes the built-in module with gates.
func (s *site) module(dir string) {
	s.t.Helper()
	const builtIn = "../provision/module/local"
	for _, name := range []string{"main.tf", "agent.sh"} {
		data, err := os.ReadFile(filepath.Join(builtIn, name))
		if err != nil {
			s.t.Fatal(err)
		}
		text := strings.ReplaceAll(string(data), `"sh ./agent.sh `, `"sh ./gated.sh `)
		if name == "main.tf" && strings.Count(text, "gated.sh") != 2 {
			s.t.Fatalf("%s/%s does not run agent.sh as this test expects", builtIn, name)
		}
		s.write(filepath.Join(dir, name), text)
	}
	s.write(filepath.Join(dir, "gated.sh"), fmt.Sprintf(gated, s.gates))
}

func (s *site) write(path, text string) {
	s.t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// let lets n more VMs through a gate.
func (s *site) let(gate string, n int) {
	s.t.Helper()
	for range n {
		s.write(filepath.Join(s.gates, fmt.Sprintf("%s.ticket.%d", gate, hosts.Add(1))), "")
	}
}

// open opens gates for good.
func (s *site) open(gates ...string) {
	s.t.Helper()
	for _, gate := range gates {
		s.write(filepath.Join(s.gates, gate+".open"), "")
	}
}

func (s *site) data() string { return filepath.Join(s.dir, "data") }

// serve starts the server, at the address that it had before.
func (s *site) serve() (*proc, *client) {
	s.t.Helper()
	p, c := serveWith(s.t, s.env, "--listen", s.address, "--data-dir", s.data())
	s.address = strings.TrimPrefix(c.url, "http://")
	c.login(s.data())
	return p, c
}

// end ends what a failed test left.
func (s *site) end() {
	left := processesOf(s.t, s.dir)
	if len(left) > 0 && !s.t.Failed() {
		s.t.Errorf("processes are left: %v", left)
	}
	end(left)
}

var agentPattern = regexp.MustCompile(` agent --hostname (\S+) `)

// agents returns the processes of the VMs' agents by hostname.
func (s *site) agents() map[string][]int {
	s.t.Helper()
	found := map[string][]int{}
	for _, p := range processesOf(s.t, s.dir) {
		if m := agentPattern.FindStringSubmatch(p.command); m != nil {
			found[m[1]] = append(found[m[1]], p.pid)
		}
	}
	return found
}

// folders returns the hostnames of VMs that have a folder.
func (s *site) folders() (names []string) {
	s.t.Helper()
	entries, err := os.ReadDir(filepath.Join(s.data(), "machines"))
	if err != nil && !os.IsNotExist(err) {
		s.t.Error(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// terraform returns the processes of Terraform and of all that it has started,
// except for agents.
func (s *site) terraform() (found []process) {
	s.t.Helper()
	for _, p := range processesOf(s.t, s.dir) {
		if slices.ContainsFunc(p.environ, func(v string) bool { return strings.HasPrefix(v, "LABLINK_WORKSPACE="+s.dir) }) {
			found = append(found, p)
		}
	}
	return found
}

// ended waits until processes are gone.
func (s *site) ended(what string, those []process) {
	s.t.Helper()
	testkit.Eventually(s.t, what+" to end", func() bool {
		return !slices.ContainsFunc(s.terraform(), func(p process) bool {
			return slices.ContainsFunc(those, func(old process) bool { return old.pid == p.pid })
		})
	})
}

// hostnames are those of the VMs from number first to last.
func hostnames(first, last int) (names []string) {
	for n := first; n <= last; n++ {
		names = append(names, fmt.Sprintf("lablink-client-%d", n))
	}
	slices.Sort(names)
	return names
}

// fleetIs waits until the fleet is what was asked for, by each who knows it: the
// API, the folders, the processes.
func (s *site) fleetIs(c *client, want []string) {
	s.t.Helper()
	var seen string
	defer func() {
		if s.t.Failed() {
			s.t.Logf("the fleet should be %v, it is %s", want, seen)
		}
	}()
	testkit.Eventually(s.t, "the fleet to be what was asked for", func() bool {
		statuses, folders := c.statuses(), s.folders()
		seen = fmt.Sprintf("%v by the API, %v by folders", statuses, folders)
		if !slices.Equal(slices.Sorted(maps.Keys(statuses)), want) || !slices.Equal(folders, want) ||
			slices.ContainsFunc(want, func(h string) bool { return statuses[h] != "running" }) {
			return false
		}
		agents := s.agents() // last, because it looks at every process of this machine
		seen += fmt.Sprintf(", %v by processes", agents)
		return slices.Equal(slices.Sorted(maps.Keys(agents)), want) &&
			!slices.ContainsFunc(want, func(h string) bool { return len(agents[h]) != 1 })
	})
	if left := s.terraform(); len(left) > 0 {
		s.t.Errorf("Terraform's processes are left: %v", left)
	}
}

// statuses are those of the VMs by hostname.
func (c *client) statuses() map[string]string {
	c.t.Helper()
	var answer json.RawMessage
	status := c.do(c.t.Context(), http.MethodGet, "/api/vm-status", nil, nil, &answer)
	if status == http.StatusNotFound {
		return nil // as the Python system answers for no VMs
	}
	var statuses map[string]string
	if err := json.Unmarshal(answer, &statuses); err != nil || status != http.StatusOK {
		c.t.Errorf("GET /api/vm-status: %d, %s, %v", status, answer, err)
	}
	return statuses
}

// ask asks for an operation.
func (c *client) ask(path string, body any) (op testkit.Operation) {
	c.t.Helper()
	if status := c.do(c.t.Context(), http.MethodPost, path, nil, body, &op); status != http.StatusAccepted {
		c.t.Fatalf("POST %s %v: %d", path, body, status)
	}
	return op
}

func (c *client) launch(n int) testkit.Operation {
	c.t.Helper()
	return c.ask("/api/launch", map[string]any{"num_vms": n})
}

func (c *client) destroyAll(n int) testkit.Operation {
	c.t.Helper()
	return c.ask("/destroy", map[string]any{"all": true, "confirm": n})
}

func (c *client) operation(id int64) (op testkit.Operation) {
	c.t.Helper()
	if status := c.do(c.t.Context(), http.MethodGet, fmt.Sprintf("/api/operations/%d", id), nil, nil, &op); status != http.StatusOK {
		c.t.Fatalf("GET operation %d: %d", id, status)
	}
	return op
}

// ends waits for the end of an operation, and fails if it ends otherwise.
func (c *client) ends(id int64, state string, done int) {
	c.t.Helper()
	var op testkit.Operation
	testkit.Eventually(c.t, fmt.Sprintf("the end of operation %d", id), func() bool {
		op = c.operation(id)
		return op.Over()
	})
	if op.State != state || len(op.Hostnames("done")) != done {
		c.t.Errorf("the %s has ended as %s, and should as %s with %d VMs done:\n%+v\n%s", op.Kind, op.State, state, done, op, c.output(id))
	}
}

// output returns what Terraform wrote.
func (c *client) output(id int64) string {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), http.MethodGet, fmt.Sprintf("%s/admin/operations/%d/output", c.url, id), http.NoBody)
	if err != nil {
		c.t.Fatal(err)
	}
	req.SetBasicAuth("admin", c.password)
	resp, err := c.http.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		c.t.Errorf("the output of operation %d: %s, %v", id, resp.Status, err)
	}
	return string(data)
}

// resumes waits until a new server takes up an operation, and says how long after
// its start that was.
func (p *proc) resumes(id int64) {
	p.t.Helper()
	var began, served time.Time
	testkit.Eventually(p.t, fmt.Sprintf("operation %d to be resumed", id), func() bool {
		for text := range strings.Lines(p.out.String()) {
			var entry struct {
				Time      time.Time `json:"time"`
				Msg       string    `json:"msg"`
				Operation int64     `json:"operation"`
				Attempt   int       `json:"attempt"`
			}
			switch {
			case json.Unmarshal([]byte(text), &entry) != nil:
			case entry.Msg == "serving":
				served = entry.Time
			case entry.Msg == "operation begins" && entry.Operation == id && entry.Attempt == 2:
				began = entry.Time
			}
		}
		return !began.IsZero() || !p.running()
	})
	p.t.Logf("operation %d was resumed %v after the server was there", id, began.Sub(served).Round(time.Millisecond))
}

// killed ends a server, and its PostgreSQL if that has a number, with kill -9.
func killed(p *proc, postgres int) {
	p.t.Helper()
	p.signal(syscall.SIGKILL)
	if err := p.wait(); err == nil {
		p.t.Fatal("kill -9 was survived")
	}
	if postgres != 0 {
		if err := syscall.Kill(postgres, syscall.SIGKILL); err != nil {
			p.t.Error(err)
		}
	}
}

// stops ends a server in order.
func (s *site) stops(p *proc) {
	s.t.Helper()
	p.signal(syscall.SIGTERM)
	if err := p.wait(); err != nil {
		s.t.Errorf("after SIGTERM: %v", err)
	}
}

// participant asks for a VM until one is ready.
func (s *site) participant(c *client) *participant {
	s.t.Helper()
	who := &participant{email: "ada@example.org", cookie: fleet.NewToken(), code: "4/0" + fleet.NewToken()}
	testkit.Eventually(s.t, "a VM for a participant", func() bool { return who.ask(s.t.Context(), c) == http.StatusOK })
	return who
}
