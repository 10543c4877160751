package provision

import (
	"context"

	tfjson "github.com/hashicorp/terraform-json"
)

// What the tests look at from outside: testkit, which they need, imports this
// package.
const (
	MaxLine   = maxLine
	MaxReason = maxReason
	Override  = overrideFile
	Marker    = workspaceVar
)

var (
	Reap      = reap
	Clean     = clean
	Shorten   = shorten
	SecretsIn = secretsIn
)

// CheckModule checks a module and returns its variables.
func CheckModule(dir string, inputs map[string]any) (map[string]bool, error) {
	d, err := checkModule(dir, inputs)
	return d.variables, err
}

// NewPlan reads a plan as Workspace.Plan does.
func NewPlan(p *tfjson.Plan, vms map[string]VM, isVM func(string) bool) (*Plan, error) {
	return newPlan(p, vms, isVM)
}

// HostnameIn returns the VM to which an address belongs.
func HostnameIn(address string, isVM func(string) bool) string {
	return (&Plan{isVM: isVM}).hostnameIn(address)
}

// PlaceModule fills the working folder.
func (w *Workspace) PlaceModule() error { return placeModule(w.Dir, w.Provider, w.Backend) }

// Hide masks secrets.
func Hide(secrets []string, text string) string { return newMasker(secrets).hide(text) }

// Follower takes the output of an apply.
type Follower struct {
	lines *lineWriter
	t     *tracker
}

// Follow returns what takes the output of an apply of p in w.
func (w *Workspace) Follow(p *Plan, on func(Event)) *Follower {
	w.hide(nil)
	t := w.track(p, on)
	return &Follower{w.lines(t), t}
}

// Write implements io.Writer.
func (f *Follower) Write(p []byte) (int, error) { return f.lines.Write(p) }

// End says that no more comes.
func (f *Follower) End() { f.lines.flush() }

// Outcome returns what Apply would.
func (f *Follower) Outcome(err error) (map[string]Machine, *ApplyError) {
	return f.t.outputs, f.t.failure(err)
}

// SetVM says what a plan takes for a VM.
func SetVM(p *Plan, isVM func(string) bool) { p.isVM = isVM }

// RunError is the error of a run whose command returned err.
func (w *Workspace) RunError(ctx context.Context, err error) error { return w.newRunError(ctx, err) }
