package web

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"lablink/internal/fleet"
)

// operationTitle names an operation by what it does.
func operationTitle(o fleet.Operation) string {
	what := "Launch of "
	if o.Kind == fleet.KindDestroy {
		what = "Destruction of "
	}
	if len(o.Steps) == 1 {
		return what + o.Steps[0].Hostname
	}
	return what + count(len(o.Steps), "VM")
}

// operationCondition is the state of an operation in plain words.
func operationCondition(o fleet.Operation) condition {
	switch o.State {
	case fleet.OperationPending, fleet.OperationRunning:
		switch {
		case o.Stopping:
			return condition{"stopping", "", toneBusy}
		case o.State == fleet.OperationPending:
			return condition{"waiting for its turn", "", toneBusy}
		}
		return condition{phaseWords(o), "", toneBusy}
	case fleet.OperationSucceeded:
		if left := len(o.Steps) - o.Count(fleet.StepDone); left > 0 {
			return condition{"done, except for " + count(left, "VM"), "", toneBad}
		}
		return condition{"done", "", toneGood}
	case fleet.OperationCancelled:
		if o.Retryable() {
			return condition{"stopped", "", toneBad}
		}
		return condition{"stopped", "", toneIdle}
	default:
		return condition{"failed", "", toneBad}
	}
}

func phaseWords(o fleet.Operation) string {
	switch o.Phase {
	case fleet.PhasePlanning:
		return "planning"
	case fleet.PhaseCleaning:
		return "cleaning up"
	case fleet.PhaseApplying:
		if o.Kind == fleet.KindDestroy {
			return "destroying VMs"
		}
		return "creating VMs"
	default:
		return "preparing"
	}
}

// phaseMeaning says what a running operation does at the moment, and what that
// means for its VMs.
func phaseMeaning(o fleet.Operation) string {
	destroy := o.Kind == fleet.KindDestroy
	switch {
	case o.Stopping && o.State == fleet.OperationPending:
		return "It is not begun any more. Its VMs are put away when its turn comes."
	case o.Stopping:
		return "Terraform ends what it has begun and saves what it knows. That can take a minute."
	case o.Phase == fleet.PhasePlanning:
		return "Terraform compares what there is with what is asked for. Nothing is changed yet."
	case o.Phase == fleet.PhaseApplying && destroy:
		return "Terraform destroys the machines. No participant can get one of them any more."
	case o.Phase == fleet.PhaseApplying:
		return "Terraform creates the VMs. Each can be given to a participant as soon as it is ready, whatever the others do."
	case o.Phase == fleet.PhaseCleaning:
		return "What there is of VMs that could not be created is removed."
	default:
		return "Terraform gets its working folder, its module and its providers ready."
	}
}

// tally counts what has become of an operation's VMs. What is known of those
// that it has created goes between.
func tally(o fleet.Operation, between ...string) string {
	done := "created"
	if o.Kind == fleet.KindDestroy {
		done = "destroyed"
	}
	parts := append([]string{fmt.Sprintf("%d of %d %s", o.Count(fleet.StepDone), len(o.Steps), done)}, between...)
	if n := o.Count(fleet.StepFailed); n > 0 {
		parts = append(parts, fmt.Sprintf("%d failed", n))
	}
	if n := o.Count(fleet.StepCancelled); n > 0 {
		parts = append(parts, fmt.Sprintf("%d not %s", n, done))
	}
	return strings.Join(parts, ", ")
}

// lasted says how long an operation runs, or took, "" before it began.
func lasted(o fleet.Operation, now time.Time) string {
	switch {
	case o.Started.IsZero():
		return ""
	case o.Ended.IsZero():
		return took(now.Sub(o.Started))
	default:
		return took(o.Ended.Sub(o.Started))
	}
}

// slowerThan is how much longer than those before a VM may take until nobody can
// say any more when it will be done.
const slowerThan = 30 * time.Second

// remaining estimates how long Terraform still needs, from the VMs that are done
// and from how many of them it works on at once. It is not known before the
// first is done, nor when one takes far longer than the others did.
func remaining(o fleet.Operation, now time.Time) (d time.Duration, known bool) {
	var sum time.Duration
	var n, waiting int
	for _, s := range o.Steps {
		switch {
		case s.State == fleet.StepDone && !s.Started.IsZero() && !s.Ended.IsZero():
			sum += s.Ended.Sub(s.Started)
			n++
		case s.State == fleet.StepWaiting || s.State == fleet.StepPlanned:
			waiting++
		}
	}
	if n == 0 || o.Phase != fleet.PhaseApplying || o.Stopping {
		return 0, false
	}
	each := sum / time.Duration(n)
	for _, s := range o.Steps {
		if s.State != fleet.StepRunning {
			continue
		}
		since := now.Sub(s.Started)
		if since > 2*each+slowerThan {
			return 0, false
		}
		d = max(d, each-since)
	}
	if atOnce := mostAtOnce(o.Steps, now); waiting > 0 {
		d += each * time.Duration((waiting+atOnce-1)/atOnce)
	}
	return d, o.Count(fleet.StepRunning)+waiting > 0
}

// mostAtOnce returns how many VMs Terraform has worked on at the same time, at
// least 1.
func mostAtOnce(steps []fleet.Step, now time.Time) int {
	type edge struct {
		at time.Time
		by int
	}
	var edges []edge
	for _, s := range steps {
		end := s.Ended
		if s.State == fleet.StepRunning {
			end = now
		}
		if s.Started.IsZero() || end.IsZero() {
			continue
		}
		edges = append(edges, edge{s.Started, 1}, edge{end, -1})
	}
	slices.SortFunc(edges, func(a, b edge) int {
		if c := a.at.Compare(b.at); c != 0 {
			return c
		}
		return a.by - b.by
	})
	most, current := 1, 0
	for _, e := range edges {
		current += e.by
		most = max(most, current)
	}
	return most
}

// left says coarsely how long something will still take, so that a better guess
// does not make the words jump.
func left(d time.Duration) string {
	switch {
	case d < 20*time.Second:
		return "a few seconds left"
	case d < time.Minute:
		return "less than a minute left"
	case d < 2*time.Hour:
		return "about " + count(int((d+time.Minute-1)/time.Minute), "minute") + " left"
	default:
		return "about " + count(int((d+time.Hour-1)/time.Hour), "hour") + " left"
	}
}

// startupTotal is how long a VM's whole start-up took, 0 until all of it is
// known.
func startupTotal(v fleet.VM) time.Duration {
	if v.Provider != fleet.ProviderRegistered && (v.Startup.Terraform == 0 || v.Startup.Container == 0) {
		return 0
	}
	return v.Startup.Total()
}

// startupWords sums up how long the VMs of a launch took to start, "" while none
// of them has.
func startupWords(o fleet.Operation, vms map[string]fleet.VM) string {
	type start struct {
		hostname string
		total    time.Duration
	}
	var starts []start
	for _, s := range o.Steps {
		if total := startupTotal(vms[s.Hostname]); s.State == fleet.StepDone && total > 0 {
			starts = append(starts, start{s.Hostname, total})
		}
	}
	if len(starts) == 0 {
		return ""
	}
	slices.SortStableFunc(starts, func(a, b start) int { return int(a.total - b.total) })
	middle := len(starts) / 2
	median := (starts[middle].total + starts[(len(starts)-1)/2].total) / 2
	slowest := starts[len(starts)-1]
	words := fmt.Sprintf("median %s, slowest %s (%s)", took(median), took(slowest.total), slowest.hostname)
	if len(starts) < o.Count(fleet.StepDone) {
		words += fmt.Sprintf(", of the %d that have started", len(starts))
	}
	return words
}

// reasonView is a message of Terraform's. A long one is folded.
type reasonView struct {
	ID    string // of the part of the page
	Short string // all of it, or its beginning
	All   string // "" if Short is all
}

const (
	reasonLines  = 3
	reasonLength = 240 // characters
)

// noteOf is how something went well: what is beyond its first line is folded.
func noteOf(id, message string) reasonView {
	first, rest, _ := strings.Cut(strings.TrimSpace(message), "\n")
	if rest == "" {
		return reasonOf(id, first)
	}
	return reasonView{ID: id, Short: first, All: message}
}

func reasonOf(id, message string) reasonView {
	message = strings.TrimSpace(message)
	lines := strings.SplitN(message, "\n", reasonLines+1)
	beginning := []rune(strings.Join(lines[:min(len(lines), reasonLines)], "\n"))
	if len(lines) <= reasonLines && len(beginning) <= reasonLength {
		return reasonView{Short: message}
	}
	short := string(beginning[:min(len(beginning), reasonLength)])
	return reasonView{ID: id, Short: strings.TrimRight(short, " \n") + " …", All: message}
}
