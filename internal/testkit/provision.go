package testkit

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"lablink/internal/config"
	"lablink/internal/provision"
	"lablink/internal/server"
	"lablink/internal/store"
)

// root returns the folder of go.mod, from the folder of a package's tests.
func root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", fmt.Errorf("no go.mod above %s", dir)
		}
		dir = parent
	}
}

// Terraform returns the path of the Terraform or OpenTofu that tests run.
// Without one the test fails.
func Terraform(t testing.TB) string {
	t.Helper()
	for _, name := range []string{"tofu", "terraform"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	dir, err := root()
	if err != nil {
		t.Fatal(err)
	}
	path, err := exec.LookPath(filepath.Join(dir, ".tools", "tofu"))
	if err != nil {
		t.Fatalf("neither tofu nor terraform is here, run make deps: %v", err)
	}
	return path
}

// program is the lablink program, built once per test process.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "lablink-program-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "lablink")
	programDir = dir
	cmd := exec.CommandContext(context.Background(), "go", "build", "-o", path, "lablink/cmd/lablink")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

// programDir is removed by Run.
var programDir string

// Program returns the path of the lablink program, as users run it: without the
// race detector. Run must be the package's test main.
func Program(t testing.TB) string {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// LocalProvider configures an allocator to make VMs with Terraform on this
// machine. When the test ends, whatever VMs are left are destroyed.
func LocalProvider(t testing.TB, o ServeOptions) ServeOptions {
	t.Helper()
	terraform, binary := Terraform(t), Program(t)
	configure, adjust := o.Configure, o.Adjust
	o.Configure = func(c *config.Config) {
		c.Provider, c.Provision.Terraform = config.ProviderLocal, terraform
		c.Machine.MachineType = "small"
		folder := filepath.Join(c.DataDir, "machines")
		t.Cleanup(func() { endMachines(t, folder) }) // after the allocator's own end
		if configure != nil {
			configure(c)
		}
	}
	o.Adjust = func(s *server.Server) {
		s.Binary = binary
		if adjust != nil {
			adjust(s)
		}
	}
	return o
}

// What the local module runs to make a VM, and to destroy it.
const (
	StartAgent = "sh ./agent.sh start"
	StopAgent  = "sh ./agent.sh stop"
)

// LocalModule writes a module like the local provider's, with other commands.
// $VM_HOSTNAME and the rest are set for them, and $ORDERS is a folder by which
// the test may speak to them.
func LocalModule(t testing.TB, orders, create, destroy string) string {
	t.Helper()
	top, err := root()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range []string{"main.tf", "agent.sh"} {
		data, err := os.ReadFile(filepath.Join(top, "internal", "provision", "module", "local", name))
		if err != nil {
			t.Fatal(err)
		}
		text := string(data)
		if name == "main.tf" {
			for from, to := range map[string]string{StartAgent: create, StopAgent: destroy} {
				command := fmt.Sprintf("%q", "export ORDERS="+orders+"; "+to)
				replaced := strings.Replace(text, fmt.Sprintf("%q", from), strings.ReplaceAll(command, "${", "$${"), 1)
				if replaced == text {
					t.Fatalf("the local module does not run %q", from)
				}
				text = replaced
			}
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// Order leaves word for the commands of a LocalModule: a file of that name in
// its folder of orders.
func Order(t testing.TB, orders, name string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(orders, name), nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Ordered reports whether there is a file of that name, of the test's or of a
// command's own.
func Ordered(orders, name string) bool {
	_, err := os.Stat(filepath.Join(orders, name))
	return err == nil
}

// ServeByHand starts an allocator with the local provider whose operations the
// test runs itself, by the workspace: there is no Terraform.
func ServeByHand(t testing.TB, configure func(*config.Config)) (*Allocator, *store.Workspace) {
	t.Helper()
	a := Serve(t, ServeOptions{Configure: func(c *config.Config) {
		c.Provider, c.Machine.MachineType = config.ProviderLocal, "small"
		c.Provision.Terraform = filepath.Join(c.DataDir, "no-terraform")
		if configure != nil {
			configure(c)
		}
	}})
	w, err := a.Store.LockWorkspace(t.Context(), string(config.ProviderLocal))
	if err != nil || w == nil {
		t.Fatalf("workspace: %v, %v", w, err)
	}
	t.Cleanup(func() {
		a.Stop() // before its runner gets the workspace
		w.Close()
	})
	return a, w
}

func endMachines(t testing.TB, folder string) {
	cloud := provision.Local(provision.LocalOptions{Folder: folder}).Cloud
	left, err := cloud.Inventory(context.Background())
	if err != nil {
		t.Errorf("machines are left: %v", err)
	}
	for _, m := range left {
		if err := cloud.End(context.Background(), m); err != nil {
			t.Errorf("a machine is left: %v", err)
		}
	}
}

// Operation is an operation as the API tells it.
type Operation struct {
	ID                 int64
	Kind, State, Phase string
	Error              string
	Stopping           bool
	InstanceType       string `json:"instance_type"`
	URL                string
	VMs                []struct{ Hostname, State, Message string }
}

// Hostnames returns those VMs of the operation that are in a state, all for "".
func (o Operation) Hostnames(state string) []string {
	var names []string
	for _, vm := range o.VMs {
		if state == "" || vm.State == state {
			names = append(names, vm.Hostname)
		}
	}
	return names
}

// Launch asks for VMs, and returns the operation as it was answered.
func (a *Allocator) Launch(n int) Operation {
	a.t.Helper()
	return a.ask("/api/launch", map[string]any{"num_vms": n})
}

// Destroy asks for VMs to be destroyed.
func (a *Allocator) Destroy(hostnames ...string) Operation {
	a.t.Helper()
	return a.ask("/destroy", map[string]any{"hostnames": hostnames})
}

// DestroyAll asks for all n VMs to be destroyed.
func (a *Allocator) DestroyAll(n int) Operation {
	a.t.Helper()
	return a.ask("/destroy", map[string]any{"all": true, "confirm": n})
}

func (a *Allocator) ask(path string, body any) Operation {
	a.t.Helper()
	r := a.Do(a.t.Context(), Request{Path: path, Admin: true, JSON: body})
	if r.Status != http.StatusAccepted {
		a.t.Fatalf("POST %s: %d %s %v", path, r.Status, r.Body, r.Err)
	}
	var op Operation
	r.JSON(a.t, &op)
	return op
}

// Operation returns an operation as it is now.
func (a *Allocator) Operation(id int64) Operation {
	a.t.Helper()
	r := a.Do(a.t.Context(), Request{Method: http.MethodGet, Path: fmt.Sprintf("/api/operations/%d", id), Admin: true})
	if r.Status != http.StatusOK {
		a.t.Fatalf("operation %d: %d %s %v", id, r.Status, r.Body, r.Err)
	}
	var op Operation
	r.JSON(a.t, &op)
	return op
}

// Ended waits for the end of an operation, and returns it.
func (a *Allocator) Ended(id int64) Operation {
	a.t.Helper()
	var op Operation
	Eventually(a.t, fmt.Sprintf("the end of operation %d", id), func() bool {
		op = a.Operation(id)
		return op.Over()
	})
	return op
}

// Over reports whether the operation is over.
func (o Operation) Over() bool { return o.State != "pending" && o.State != "running" }
