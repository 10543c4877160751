//go:build linux

package bench_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"lablink/internal/pgserver"
	"lablink/internal/testkit"
)

const adminPassword = "a password for the benchmarks"

func BenchmarkLaunch(b *testing.B) {
	for range b.N {
		measureLaunch(b, &table, full())
	}
}

// measureLaunch asks what we add to a plain `terraform apply` of the same VMs of
// the local provider, into the same database: the wall time until the operation
// has succeeded, and until all VMs wait. The VMs of the floor are registered by
// hand, so that their agents have as much to do.
func measureLaunch(tb testing.TB, r *report, sc scale) {
	terraform := testkit.Terraform(tb)
	data := folder(tb)
	p := newServe(tb, sc, data, "", "LABLINK_PROVIDER=local", "LABLINK_PROVISION_TERRAFORM="+terraform,
		"LABLINK_ADMIN_PASSWORD="+adminPassword, "LABLINK_LIMITS_MAX_VMS=10000")
	p.start()
	plain := newPlain(tb, p, terraform, data)
	var applied, waited, floorApplied, floorWaited []time.Duration
	for round := range sc.rounds {
		a, w := plain.launch(round, sc.vms)
		floorApplied, floorWaited = append(floorApplied, a), append(floorWaited, w)
		a, w = launch(p, sc.vms)
		applied, waited = append(applied, a), append(waited, w)
	}
	name := func(s string) string { return fmt.Sprintf("launch of %d local VMs, %s", sc.vms, s) }
	r.add(tb, figure{name("until it has succeeded"), "launch", "s", percentile(applied, .5).Seconds(), percentile(floorApplied, .5).Seconds(), "1.05"})
	r.add(tb, figure{name("until all wait"), "launch-waiting", "s", percentile(waited, .5).Seconds(), percentile(floorWaited, .5).Seconds(), ""})
}

// launch launches, and destroys again.
func launch(p *process, n int) (applied, waited time.Duration) {
	p.tb.Helper()
	began := time.Now()
	p.ended(p.post("/api/launch", map[string]any{"num_vms": n}))
	applied = time.Since(began)
	until(p.tb, "the VMs to wait", func() bool { _, held := p.serveMemory(); return held == n })
	waited = time.Since(began)
	p.ended(p.post("/destroy", map[string]any{"all": true, "confirm": n}))
	until(p.tb, "the polls to end", func() bool { _, held := p.serveMemory(); return held == 0 })
	return applied, waited
}

// answer is what of the API's answers is needed here.
type answer struct {
	ID    int64  `json:"id"`
	State string `json:"state"`
	Error string `json:"error"`
	VMs   []struct {
		Hostname string `json:"hostname"`
		Token    string `json:"token"`
	} `json:"vms"`
}

func (p *process) call(method, path string, body any) (got answer) {
	p.tb.Helper()
	data, err := json.Marshal(body)
	if err != nil {
		p.tb.Fatal(err)
	}
	req, err := http.NewRequestWithContext(p.tb.Context(), method, "http://"+p.addr+path, bytes.NewReader(data))
	if err != nil {
		p.tb.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.SetBasicAuth("admin", adminPassword)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
	resp, err := client.Do(req)
	if err != nil {
		p.tb.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= http.StatusBadRequest {
		p.tb.Fatalf("%s %s: %s\n%s", method, path, resp.Status, p.tail())
	}
	if resp.StatusCode != http.StatusNoContent {
		if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
			p.tb.Fatal(err)
		}
	}
	return got
}

func (p *process) post(path string, body any) answer { return p.call(http.MethodPost, path, body) }

// ended waits for the end of an operation.
func (p *process) ended(op answer) {
	p.tb.Helper()
	path := fmt.Sprintf("/api/operations/%d", op.ID)
	until(p.tb, "the operation", func() bool {
		op = p.call(http.MethodGet, path, nil)
		return op.State != "pending" && op.State != "running"
	})
	if op.State != "succeeded" {
		p.tb.Fatalf("the operation has %s: %s", op.State, op.Error)
	}
}

// plain is Terraform without us, with the same module.
type plain struct {
	p         *process
	terraform string
	dir       string
	env       []string
	fixed     map[string]any // variables
}

func newPlain(tb testing.TB, p *process, terraform, data string) *plain {
	tb.Helper()
	databaseURL, err := pgserver.Attach(filepath.Join(data, "postgres"))
	if err != nil {
		tb.Fatal(err)
	}
	f := &plain{p: p, terraform: terraform, dir: folder(tb), env: environment([]string{"PG_CONN_STR=" + databaseURL, "CHECKPOINT_DISABLE=1"})}
	f.fixed = map[string]any{
		"allocator_url": "http://" + p.addr, "lablink": p.path, "start_host": filepath.Join(data, "simulated-crd", "start-host"),
		"folder": filepath.Join(f.dir, "machines"), "software": "sleap",
	}
	if err := os.CopyFS(f.dir, os.DirFS("../provision/module/local")); err != nil {
		tb.Fatal(err)
	}
	backend := "terraform {\n  backend \"pg\" {\n    schema_name = \"floor\"\n  }\n}\n"
	if err := os.WriteFile(filepath.Join(f.dir, "backend.tf"), []byte(backend), 0o600); err != nil {
		tb.Fatal(err)
	}
	f.run("init", "-input=false")
	return f
}

func (f *plain) run(args ...string) {
	f.p.tb.Helper()
	cmd := exec.CommandContext(f.p.tb.Context(), f.terraform, args...)
	cmd.Dir, cmd.Env = f.dir, f.env
	if out, err := cmd.CombinedOutput(); err != nil {
		f.p.tb.Fatalf("%s %v: %v\n%s", f.terraform, args, err, out)
	}
}

func (f *plain) launch(round, n int) (applied, waited time.Duration) {
	f.p.tb.Helper()
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("floor-%d-%d", round, i)
	}
	vms, tokens := map[string]any{}, map[string]string{}
	for _, vm := range f.p.post("/api/vms", map[string]any{"hostnames": names}).VMs {
		vms[vm.Hostname], tokens[vm.Hostname] = map[string]string{"instance_type": "small"}, vm.Token
	}
	f.vars(vms, tokens)
	began := time.Now()
	f.run("apply", "-auto-approve", "-input=false", "-var-file=vars.json")
	applied = time.Since(began)
	until(f.p.tb, "the VMs to wait", func() bool { _, held := f.p.serveMemory(); return held == n })
	waited = time.Since(began)
	f.run("destroy", "-auto-approve", "-input=false", "-var-file=vars.json")
	for _, name := range names {
		f.p.call(http.MethodDelete, "/api/vms/"+name, nil)
	}
	until(f.p.tb, "the polls to end", func() bool { _, held := f.p.serveMemory(); return held == 0 })
	return applied, waited
}

func (f *plain) vars(vms map[string]any, tokens map[string]string) {
	f.p.tb.Helper()
	all := map[string]any{"vms": vms, "tokens": tokens}
	maps.Copy(all, f.fixed)
	data, err := json.Marshal(all)
	if err == nil {
		err = os.WriteFile(filepath.Join(f.dir, "vars.json"), data, 0o600)
	}
	if err != nil {
		f.p.tb.Fatal(err)
	}
}
