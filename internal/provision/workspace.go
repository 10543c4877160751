package provision

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/terraform-exec/tfexec"
	tfjson "github.com/hashicorp/terraform-json"
)

const (
	planFile = "lablink.tfplan"
	varsFile = "lablink.tfvars.json"
)

// Workspace is a working folder in which Terraform runs. Only one process at a
// time may use it; the caller sees to that.
type Workspace struct {
	Binary   string
	Dir      string // disposable: nothing but ours may be in it
	Provider Provider
	Backend  Backend
	// Operation names what is done, for the module's variable of that name.
	Operation string
	// Grace is how long Terraform may take to end after it was interrupted, before it is killed.
	Grace time.Duration
	// Secrets must not show in the output, nor in an error. Those that Terraform gets from here are added to them.
	Secrets []string
	Log     func(line string) // gets the output, line by line, from one goroutine at a time

	tf       *tfexec.Terraform
	opened   time.Time
	inputs   map[string]any // the provider's
	declared declared
	mask     masker
	logging  sync.Mutex
}

// VM is what a module is told of a VM that shall exist. Of one that exists
// already, only its type.
type VM struct {
	InstanceType string `json:"instance_type"`
	Subnet       string `json:"subnet_id,omitempty"`
	Image        string `json:"ami_id,omitempty"`
	GPU          bool   `json:"gpu,omitempty"`
	Zone         string `json:"-"` // where the subnet is, for people
}

// Open prepares the working folder: it ends what an earlier run has left,
// places the module, checks it, and initialises Terraform if need be. A state that an
// earlier run could not save is saved now.
func (w *Workspace) Open(ctx context.Context) error {
	dir, err := filepath.Abs(w.Dir)
	if err != nil {
		return err
	}
	w.Dir = dir
	if err := reap(dir); err != nil {
		return fmt.Errorf("end what is left of an earlier run: %w", err)
	}
	w.opened = time.Now()
	if err := placeModule(dir, w.Provider, w.Backend); err != nil {
		return err
	}
	env := environment(os.Environ(), dir, w.Provider, w.Backend)
	w.inputs = map[string]any{}
	maps.Copy(w.inputs, w.Provider.Inputs)
	if cloud := w.Provider.Cloud; cloud != nil {
		environ, inputs, err := cloud.Prepare(ctx)
		if err != nil {
			return err
		}
		maps.Copy(env, environ)
		maps.Copy(w.inputs, inputs)
	}
	if w.declared, err = checkModule(dir, w.inputs); err != nil {
		return err
	}
	if w.tf, err = tfexec.NewTerraform(dir, w.Binary); err != nil {
		return err
	}
	w.hide(secretsIn(env))
	if err := w.tf.SetEnv(env); err != nil {
		return err
	}
	if err := w.checkVersion(ctx); err != nil {
		return err
	}
	if err := w.initialise(ctx); err != nil {
		return err
	}
	return w.saveErroredState(ctx)
}

// lockTimeout is how long Terraform waits for the lock of the state: that of a
// runner whose work this one takes up may still be ending.
func (w *Workspace) lockTimeout() string { return (w.Grace + 30*time.Second).String() }

// parallel is how many resources Terraform works on at once.
func (w *Workspace) parallel() int {
	if w.Provider.Parallel > 0 {
		return w.Provider.Parallel
	}
	return 10 // as Terraform does by itself
}

// hide adds secrets to those that are masked.
func (w *Workspace) hide(secrets []string) {
	for _, s := range secrets {
		if !slices.Contains(w.Secrets, s) {
			w.Secrets = append(w.Secrets, s)
		}
	}
	w.mask = newMasker(w.Secrets)
}

// Plan compares the VMs that shall exist with those that are there. tokens are
// for those that may have to be made. isVM tells the hostnames of other VMs from
// keys that mean something else.
func (w *Workspace) Plan(ctx context.Context, vms map[string]VM, tokens map[string]string, isVM func(key string) bool) (*Plan, error) {
	remove, err := w.writeVariables(vms, tokens)
	if err != nil {
		return nil, err
	}
	defer remove()
	w.hide(slices.Collect(maps.Values(tokens)))
	// terraform-exec takes a crash for success, because Go's exit code is 2, too: then no earlier plan may be found.
	if err := os.RemoveAll(filepath.Join(w.Dir, planFile)); err != nil {
		return nil, err
	}

	t := w.track(&Plan{isVM: func(string) bool { return false }, known: map[string]string{}}, func(Event) {})
	out := w.lines(t)
	makePlan := func(lockTimeout string) error {
		return w.run(ctx, out, func(ctx context.Context) error {
			_, err := w.tf.PlanJSON(ctx, out, tfexec.VarFile(varsFile), tfexec.Out(planFile), tfexec.LockTimeout(lockTimeout), tfexec.Parallelism(w.parallel()))
			return err
		})
	}
	err = makePlan("0s")
	if held, ok := lockIn(t.general); err != nil && ok && ctx.Err() == nil {
		w.breakLock(ctx, held)
		t.general = nil
		err = makePlan(w.lockTimeout())
	}
	if err != nil {
		// Perhaps it is not initialised as it seems.
		return nil, t.failure(errors.Join(err, w.uninitialise()))
	}
	var shown *tfjson.Plan
	err = w.run(ctx, nil, func(ctx context.Context) (err error) { // unseen: the plan holds the tokens
		shown, err = w.tf.ShowPlanFile(ctx, planFile)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the plan: %w", err)
	}
	return newPlan(shown, vms, isVM)
}

// writeVariables writes the values of the module's variables. They are secret,
// and go by a file.
func (w *Workspace) writeVariables(vms map[string]VM, tokens map[string]string) (remove func(), err error) {
	vars := map[string]any{}
	for name := range w.declared.variables {
		if value, given := w.inputs[name]; given {
			vars[name] = value
		}
	}
	if w.declared.variables[varOperation] {
		vars[varOperation] = w.Operation
	}
	// Not null, which neither for_each nor lookup takes.
	vars[varVMs], vars[varTokens] = map[string]VM{}, map[string]string{}
	if vms != nil {
		vars[varVMs] = vms
	}
	if tokens != nil {
		vars[varTokens] = tokens
	}
	data, err := json.Marshal(vars)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(w.Dir, varsFile)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		return nil, err
	}
	// Should it stay: the folder is private, and emptied by the next Open.
	return func() { _ = os.Remove(path) }, nil
}

// Apply carries a plan out. It tells on of each VM as it happens, and returns
// what the module's output says of the VMs, nil if it did not come to that. An
// error is an *ApplyError; VMs of which on was told are made, or destroyed,
// nevertheless.
//
// When ctx ends, Terraform is interrupted, so that it saves its state; when it
// has not ended after Grace, it is killed, with all it has started.
func (w *Workspace) Apply(ctx context.Context, p *Plan, on func(Event)) (map[string]Machine, error) {
	t := w.track(p, on)
	out := w.lines(t)
	err := w.run(ctx, out, func(ctx context.Context) error {
		return w.tf.ApplyJSON(ctx, out, tfexec.DirOrPlan(planFile), tfexec.LockTimeout(w.lockTimeout()), tfexec.Parallelism(w.parallel()))
	})
	_ = os.Remove(filepath.Join(w.Dir, planFile)) // used up, and holds the tokens; the next Open would remove it as well
	if err != nil {
		return t.outputs, t.failure(err)
	}
	return t.outputs, nil
}
