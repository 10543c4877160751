package fleet

import (
	"slices"
	"time"
)

// OperationKind is what an operation does.
type OperationKind string

// The kinds of operation.
const (
	KindLaunch  OperationKind = "launch"
	KindDestroy OperationKind = "destroy"
)

// OperationState says how far an operation has come.
type OperationState string

// The states of an operation. The last three are final.
const (
	OperationPending   OperationState = "pending"   // waits for its turn
	OperationRunning   OperationState = "running"   // a runner has it, or had it when it died
	OperationSucceeded OperationState = "succeeded" // for a launch: at least one VM came up
	OperationFailed    OperationState = "failed"
	OperationCancelled OperationState = "cancelled" // an admin stopped it
)

// OperationStates lists every state, in the order of an operation's life.
var OperationStates = []OperationState{
	OperationPending, OperationRunning, OperationSucceeded, OperationFailed, OperationCancelled,
}

// operationMoves is the whole life of an operation. A running one may be claimed
// again, by whoever finds that its runner is dead. One that is told to stop
// before it began is taken up too, to put its VMs away.
var operationMoves = map[OperationState][]OperationState{
	OperationPending:   {OperationRunning},
	OperationRunning:   {OperationRunning, OperationSucceeded, OperationFailed, OperationCancelled},
	OperationSucceeded: {},
	OperationFailed:    {},
	OperationCancelled: {},
}

// CanMove reports whether an operation in state s may go to state next.
func (s OperationState) CanMove(next OperationState) bool {
	return slices.Contains(operationMoves[s], next)
}

// Final reports whether nothing more will happen.
func (s OperationState) Final() bool { return len(operationMoves[s]) == 0 }

// Phase is what a running operation does at the moment.
type Phase string

// The phases of a running operation.
const (
	PhasePreparing Phase = "preparing" // the working folder, the module, its providers
	PhasePlanning  Phase = "planning"  // Terraform compares what is with what is asked for
	PhaseApplying  Phase = "applying"  // VMs are made, or destroyed
	PhaseCleaning  Phase = "cleaning"  // what is left of VMs that failed is removed
)

// StepState says how far an operation has come with one VM.
type StepState string

// The states of a step. The last four are final.
const (
	StepWaiting   StepState = "waiting"
	StepPlanned   StepState = "planned" // Terraform is about to do it
	StepRunning   StepState = "running" // Terraform makes or destroys the VM
	StepDone      StepState = "done"
	StepFailed    StepState = "failed"
	StepCancelled StepState = "cancelled"
)

// Operation is a launch or a destroy: a durable record that is worked on in the
// background.
type Operation struct {
	ID           int64
	Kind         OperationKind
	State        OperationState
	Phase        Phase  // of a running one
	Provider     string // whose VMs; operations of one provider run one after another
	InstanceType string // of a launch
	Stopping     bool   // an admin asked for it to stop
	Attempt      int    // counts the runners that had it
	Error        string // why it failed, for people
	Created      time.Time
	Started      time.Time // by its first runner; zero before
	Applied      time.Time // when Terraform began to change things; zero before
	Ended        time.Time // zero before
	Steps        []Step    // in the natural order of their hostnames
}

// Step is what an operation does with one VM.
type Step struct {
	VM       int64
	Hostname string
	State    StepState
	Message  string    // why it failed, for people
	Started  time.Time // of Terraform's work on it; zero before
	Ended    time.Time
}

// Final reports whether nothing more will happen to the VM in this operation.
func (s StepState) Final() bool {
	return s == StepDone || s == StepFailed || s == StepCancelled
}

// Count returns how many steps are in a state.
func (o Operation) Count(state StepState) int {
	n := 0
	for _, s := range o.Steps {
		if s.State == state {
			n++
		}
	}
	return n
}

// Retryable reports whether it left VMs that a new operation could try again.
func (o Operation) Retryable() bool {
	left := o.Count(StepFailed)
	if o.Kind == KindDestroy {
		left += o.Count(StepCancelled) // the machines may still be there
	}
	return o.State.Final() && left > 0
}

// Creation says whether a VM exists as far as Terraform knows.
type Creation string

// The values of Creation. A registered VM is always done.
const (
	CreationPending Creation = "pending" // asked for
	CreationDone    Creation = "done"    // Terraform has made it
	CreationFailed  Creation = "failed"  // Terraform could not make it; it may be tried again, or destroyed
)

// ValidateInstanceType checks an instance type as a provider names it. Whether
// there is such a type, only the provider knows.
func ValidateInstanceType(s string) error {
	ok := len(s) >= 1 && len(s) <= 64
	for _, r := range s {
		ok = ok && ('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '-' || r == '.' || r == '_')
	}
	if !ok {
		return FieldErrorf("instance_type", "%q is not an instance type: 1 to 64 letters, digits, dots, hyphens and underscores, such as g4dn.xlarge", clip(s))
	}
	return nil
}
