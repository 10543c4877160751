package server_test

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"lablink/internal/config"
	"lablink/internal/fleet"
	"lablink/internal/server"
	"lablink/internal/store"
	"lablink/internal/testkit"
	"lablink/internal/wire"
)

// made launches n VMs and makes them, and returns their tokens by hostname.
func made(t *testing.T, a *testkit.Allocator, w *store.Workspace, n int) map[string]string {
	t.Helper()
	a.Launch(n)
	c, err := w.Claim(t.Context())
	if err != nil || c == nil {
		t.Fatalf("claim: %v, %v", c, err)
	}
	tokens := map[string]string{}
	ids, hashes := make([]int64, n), make([][]byte, n)
	for i, step := range c.Steps {
		tokens[step.Hostname] = fleet.NewToken()
		ids[i], hashes[i] = step.VM, fleet.HashToken(tokens[step.Hostname])
	}
	for _, err := range []error{
		c.GiveTokens(t.Context(), ids, hashes),
		c.Created(t.Context(), ids, slices.Repeat([]time.Time{time.Now()}, n)),
		c.Finish(t.Context(), fleet.OperationSucceeded, ""),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for hostname, token := range tokens {
		wantStatus(t, reports(t, a, hostname, token), http.StatusOK)
	}
	return tokens
}

func reports(t *testing.T, a *testkit.Allocator, hostname, token string) testkit.Response {
	t.Helper()
	return a.Do(t.Context(), testkit.Request{Path: wire.PathStatus, Token: token, JSON: wire.StatusRequest{Hostname: hostname, Status: "running"}})
}

// What is destroyed leaves the pool at once, long before the machine is gone.
func TestDestroy_LeavesThePoolAtOnce(t *testing.T) {
	t.Parallel()
	a, w := testkit.ServeByHand(t, nil)
	tokens := made(t, a, w, 3)
	count := func(want int) {
		t.Helper()
		r := a.Do(t.Context(), testkit.Request{Method: http.MethodGet, Path: "/api/unassigned_vms_count"})
		if r.Body != fmt.Sprintf("{\"count\":%d}\n", want) {
			t.Errorf("%s, want %d", r.Body, want)
		}
	}
	count(3)
	const held, idle, stays = "lablink-client-1", "lablink-client-2", "lablink-client-3"
	answer := poll(t.Context(), a, held, tokens[held])
	waits(t, a, held)
	ada := &browser{t: t, a: a}
	r := ada.ask("ada@example.org", "4/0secret-code-1")
	if r.Status != http.StatusOK || !strings.Contains(r.Body, held) {
		t.Fatalf("the one that waits: %d %s", r.Status, r.Body)
	}
	var seat struct{ PIN string }
	r.JSON(t, &seat)
	reply := wantDelivery(t, answer, 1, seat.PIN)
	answers := map[string]<-chan testkit.Response{}
	wantStatus(t, acknowledge(t, a, held, tokens[held], reply.Delivery, wire.ResultConnected, ""), http.StatusOK)
	for _, hostname := range []string{held, idle, stays} {
		answers[hostname] = poll(t.Context(), a, hostname, tokens[hostname])
		waits(t, a, hostname)
	}
	count(2)
	op := a.Destroy(held, idle)
	for _, hostname := range []string{held, idle} {
		select {
		case r := <-answers[hostname]:
			wantStatus(t, r, http.StatusNotFound)
		case <-time.After(time.Minute):
			t.Fatalf("the poll of %s is still held", hostname)
		}
		wantStatus(t, <-poll(t.Context(), a, hostname, tokens[hostname]), http.StatusUnauthorized)
		wantStatus(t, reports(t, a, hostname, tokens[hostname]), http.StatusUnauthorized)
		wantStatus(t, a.Do(t.Context(), testkit.Request{Method: http.MethodGet, Path: "/api/vm-status/" + hostname}), http.StatusNotFound)
	}
	if r := a.Do(t.Context(), testkit.Request{Method: http.MethodGet, Path: "/api/vm-status"}); r.Body != "{\""+stays+"\":\"running\"}\n" {
		t.Errorf("the list is %s", r.Body)
	}
	count(1)
	if now := a.Operation(op.ID); now.State != "pending" {
		t.Errorf("the machines are still there, the operation is %+v", now)
	}
	r = a.Do(t.Context(), testkit.Request{Method: http.MethodGet, Path: "/seat", Header: map[string]string{"Cookie": ada.cookie}})
	for _, secret := range []string{seat.PIN, held} {
		if strings.Contains(r.Body, secret) {
			t.Errorf("the page of an ended seat shows %q", secret)
		}
	}
	// The participant may have another one, and it is the one that stays.
	r = ada.ask("ada@example.org", "4/0secret-code-2")
	if r.Status != http.StatusOK || !strings.Contains(r.Body, stays) {
		t.Errorf("asking again: %d %s", r.Status, r.Body)
	}
	wantStatus(t, <-answers[stays], http.StatusOK)
}

// While a VM is being made it may wait, and is given to nobody; when it could not
// be made, its agent is turned away.
func TestLaunch_GateOverHTTP(t *testing.T) {
	t.Parallel()
	a, w := testkit.ServeByHand(t, nil)
	a.Launch(2)
	c, err := w.Claim(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ids := []int64{c.Steps[0].VM, c.Steps[1].VM}
	if err := c.GiveTokens(t.Context(), ids, [][]byte{fleet.HashToken("one"), fleet.HashToken("two")}); err != nil {
		t.Fatal(err)
	}
	const good, bad = "lablink-client-1", "lablink-client-2"
	for hostname, token := range map[string]string{good: "one", bad: "two"} {
		wantStatus(t, reports(t, a, hostname, token), http.StatusOK)
	}
	held := poll(t.Context(), a, good, "one")
	waits(t, a, good)
	ask := func() testkit.Response { return (&browser{t: t, a: a}).ask("p1@example.org", "4/0secret-code-1") }
	wantStatus(t, ask(), http.StatusServiceUnavailable)
	if r := a.Do(t.Context(), testkit.Request{Method: http.MethodGet, Path: "/api/vm-status"}); r.Body != "{\""+good+"\":\"provisioning\",\""+bad+"\":\"provisioning\"}\n" {
		t.Errorf("the list is %s", r.Body)
	}
	if err := c.Failed(t.Context(), ids[1:], []string{"no"}); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, reports(t, a, bad, "two"), http.StatusUnauthorized)
	wantStatus(t, <-poll(t.Context(), a, bad, "two"), http.StatusUnauthorized)
	wantStatus(t, ask(), http.StatusServiceUnavailable)
	if err := c.Created(t.Context(), ids[:1], []time.Time{time.Now()}); err != nil {
		t.Fatal(err)
	}
	r := ask()
	var seat struct{ Hostname, PIN string }
	r.JSON(t, &seat)
	if r.Status != http.StatusOK || seat.Hostname != good {
		t.Fatalf("%d %s", r.Status, r.Body)
	}
	wantDelivery(t, held, 1, seat.PIN)
}

// Where machines need no credential, a machine that is being destroyed still
// speaks; it does not come back into the pool.
func TestDestroy_OpenMachines(t *testing.T) {
	t.Parallel()
	a, w := testkit.ServeByHand(t, func(c *config.Config) { c.Auth.Machines = config.MachineOpen })
	made(t, a, w, 1)
	const hostname = "lablink-client-1"
	wantStatus(t, reports(t, a, hostname, ""), http.StatusOK)
	a.Destroy(hostname)
	for _, r := range machineRoutes(hostname) {
		wantStatus(t, a.Do(t.Context(), r), http.StatusNotFound)
	}
	wantStatus(t, a.Do(t.Context(), testkit.Request{Path: wire.PathStartup, JSON: wire.StartupRequest{Hostname: hostname}}), http.StatusNotFound)
	if n, err := a.Store.FreeCount(t.Context()); err != nil || n != 0 {
		t.Errorf("%d VMs are free, %v", n, err)
	}
}

// Without Terraform the operation says so, and what to do; when it is there, a
// second try works without a restart.
func TestOperation_TerraformComesLater(t *testing.T) {
	t.Parallel()
	terraform := testkit.Terraform(t)
	var later string
	a := testkit.Serve(t, testkit.LocalProvider(t, testkit.ServeOptions{Configure: func(c *config.Config) {
		later = filepath.Join(c.DataDir, "terraform-comes-later")
		c.Provision.Terraform = later
	}}))
	op := a.Ended(a.Launch(2).ID)
	if op.State != "failed" || !strings.Contains(op.Error, "provision.terraform") || !strings.Contains(op.Error, later) || len(op.Hostnames("failed")) != 2 {
		t.Errorf("without Terraform: %+v", op)
	}
	for _, vm := range op.VMs {
		if vm.Message != op.Error {
			t.Errorf("%s: %q", vm.Hostname, vm.Message)
		}
		if v, err := a.Store.VM(t.Context(), vm.Hostname); err != nil || v.Status != fleet.StatusError || v.Free() {
			t.Errorf("%+v, %v", v, err)
		}
	}
	if err := os.Symlink(terraform, later); err != nil {
		t.Fatal(err)
	}
	r := a.Do(t.Context(), testkit.Request{Path: fmt.Sprintf("/api/operations/%d/retry", op.ID), Admin: true, JSON: map[string]any{}})
	wantStatus(t, r, http.StatusAccepted)
	r.JSON(t, &op)
	if op = a.Ended(op.ID); op.State != "succeeded" || len(op.Hostnames("done")) != 2 {
		t.Errorf("with Terraform: %+v", op)
	}
	testkit.Eventually(t, "two free VMs", func() bool {
		n, err := a.Store.FreeCount(t.Context())
		return err == nil && n == 2
	})
	if op = a.Ended(a.DestroyAll(2).ID); op.State != "succeeded" {
		t.Errorf("the end: %+v", op)
	}
}

// A module that does not fit makes the operation fail, with the place to mend.
func TestOperation_ModuleDoesNotFit(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		files map[string]string
		says  []string
	}{
		"no variables": {
			map[string]string{"main.tf": "output \"vms\" {\n  value = {}\n}\n"},
			[]string{`no variable "vms"`, `no variable "tokens"`, "docs/provisioning.md"},
		},
		"a variable that nobody knows, and tokens in the open": {
			map[string]string{
				"main.tf":   "variable \"vms\" {}\n\nvariable \"tokens\" {}\n",
				"region.tf": "# where\nvariable \"region\" {\n  type = string\n}\n",
			},
			[]string{`main.tf:3: variable "tokens"`, "sensitive", `region.tf:2: `, `"region"`, "give it a default", `no output "vms"`},
		},
		"no HCL":        {map[string]string{"main.tf": "variable \"vms\" {\n"}, []string{"cannot be read", "no closing brace"}},
		"an empty one":  {nil, []string{`no variable "vms"`}},
		"wrong inside":  {map[string]string{"main.tf": fits + "\nresource \"terraform_data\" \"x\" {\n  input = local.nowhere\n}\n"}, []string{"main.tf", "nowhere"}},
		"fails by will": {map[string]string{"main.tf": fits + "\nresource \"terraform_data\" \"x\" {\n  lifecycle {\n    precondition {\n      condition     = length(var.vms) > 9\n      error_message = \"too few of them\"\n    }\n  }\n}\n"}, []string{"too few of them"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for file, text := range tc.files {
				if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			a := testkit.Serve(t, testkit.LocalProvider(t, testkit.ServeOptions{Configure: func(c *config.Config) { c.Provision.Module = dir }}))
			op := a.Ended(a.Launch(1).ID)
			if op.State != "failed" || len(op.Hostnames("failed")) != 1 {
				t.Fatalf("operation %+v", op)
			}
			for _, text := range tc.says {
				if !strings.Contains(op.Error, text) {
					t.Errorf("the error does not say %q:\n%s", text, op.Error)
				}
			}
			if strings.Contains(op.Error, a.DatabaseURL) {
				t.Errorf("the error holds the URL of the database:\n%s", op.Error)
			}
		})
	}
}

const fits = `variable "vms" { type = map(object({ instance_type = string })) }
variable "tokens" {
  type      = map(string)
  sensitive = true
}
output "vms" { value = { for h, vm in var.vms : h => { id = h, address = "" } } }
`

// A server that cannot make the VMs that its configuration promises says so when
// it starts, not when the workshop begins.
func TestStart_Provider(t *testing.T) {
	t.Parallel()
	const public = "https://lab.example.org"
	file := filepath.Join(t.TempDir(), "main.tf")
	if err := os.WriteFile(file, []byte(fits), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		provider  config.Provider
		module    string
		publicURL string
		says      []string // nil: it starts
	}{
		"aws, without an address": {config.ProviderAWS, "", "", []string{"provider aws", "set server.public_url"}},
		"aws, with a file":        {config.ProviderAWS, file, public, []string{"provision.module", file, "is no folder"}},
		"aws, with nothing":       {config.ProviderAWS, file + "-not", public, []string{"provision.module", file + "-not", "is no folder"}},
		"local, with nothing":     {config.ProviderLocal, file + "-not", "", []string{"provision.module", "is no folder"}},
		"aws, with a folder":      {config.ProviderAWS, filepath.Dir(file), public, nil},
		"none, whatever it says":  {config.ProviderNone, file + "-not", "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if tc.says == nil {
				testkit.Serve(t, testkit.ServeOptions{Configure: func(c *config.Config) {
					c.Provider, c.Provision.Module, c.Server.PublicURL = tc.provider, tc.module, tc.publicURL
				}})
				return
			}
			cfg, err := config.Load(config.Options{Flags: map[string]string{
				"listen": "127.0.0.1:0", "data-dir": t.TempDir(), "database-url": testkit.DB(t),
			}, Environ: []string{"LABLINK_ADMIN_PASSWORD=" + testkit.AdminPassword}})
			if err != nil {
				t.Fatal(err)
			}
			cfg.Provider, cfg.Provision.Module, cfg.Server.PublicURL = tc.provider, tc.module, tc.publicURL
			err = server.New(server.Options{Config: cfg, Logger: slog.New(slog.DiscardHandler), Ready: func(net.Addr, string) {
				t.Error("it answers")
			}}).Run(t.Context())
			if err == nil {
				t.Fatal("it ended without an error")
			}
			for _, text := range tc.says {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("%v does not say %q", err, text)
				}
			}
		})
	}
}
