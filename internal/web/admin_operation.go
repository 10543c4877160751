package web

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"lablink/internal/fleet"
)

// outputShown is how much of Terraform's output the page shows, in bytes. All of
// it can be downloaded.
const outputShown = 64 << 10

// operationView is the admin's page of one operation. Its parts change each by
// itself, so that what the admin reads or has opened in one stays while another
// changes.
type operationView struct {
	frame
	ID      int64
	Now     progressView
	Actions operationActions
	VMs     stepsView
	Output  outputView
}

// progressView is how the whole operation goes.
type progressView struct {
	ID           int64
	Title        string
	Condition    condition
	Meaning      string // what that is, while it is not over
	Ahead        []operationRow
	Tally        string
	Done, All    int
	Created      moment
	Started      moment
	Took, Left   string
	Over         bool
	Attempt      int
	InstanceType string // of a launch
	Provider     string
	Startup      string // of a launch: median and slowest
	Error        string // of the whole operation
}

// Version names what is shown.
func (p progressView) Version() string { return versionOf(p) }

// Heading is the page's title in the browser's tab.
func (p progressView) Heading() string { return upperFirst(p.Condition.Words) + ": " + p.Title }

// operationActions says what can be done about the operation now.
type operationActions struct {
	ID             int64
	Launch         bool
	Stop, Stopping bool
	Retry          bool
	Failed         int    // VMs of a launch that are neither made nor removed
	Remove         string // address of the page that removes them, "" if there are none
	OtherProvider  string // whose VMs these are, "" if this server's own
}

// Version names the choice of actions.
func (a operationActions) Version() string { return versionOf(a) }

// stepsView is what the operation does with each VM.
type stepsView struct {
	Launch bool
	Rows   []stepRow
}

// Version names what the table shows.
func (s stepsView) Version() string { return versionOf(s) }

// stepRow is one VM of the operation.
type stepRow struct {
	Hostname                             string
	Live                                 bool // it has a page
	Condition                            condition
	Took                                 string // Terraform's work on it, in words
	Reason                               reasonView
	Terraform, CloudInit, Agent, Startup string
}

// outputView is the end of what Terraform wrote.
type outputView struct {
	ID    int64
	Begun bool
	Cut   bool
	Text  string
}

// Version names what is shown.
func (o outputView) Version() string { return versionOf(o) }

func (w *Web) getOperation(rw http.ResponseWriter, r *http.Request) error {
	id, err := operationID(r)
	if err != nil {
		return err
	}
	op, err := w.store.Operation(r.Context(), id)
	if err != nil {
		return err
	}
	vms, err := w.store.OperationVMs(r.Context(), id)
	if err != nil {
		return err
	}
	now := time.Now()
	view := operationView{
		ID: id, Now: progressOf(op, vms, now), Actions: w.operationActionsOf(op, vms), VMs: stepsOf(op, vms, now),
		Output: outputView{ID: id, Begun: !op.Started.IsZero()},
	}
	view.frame = w.adminFrame(view.Now.Heading(), "operations")
	view.Watch = !op.State.Final()
	if op.State == fleet.OperationPending {
		if view.Now.Ahead, err = w.ahead(r.Context(), op, now); err != nil {
			return err
		}
		if len(view.Now.Ahead) == 0 && !op.Stopping {
			view.Now.Meaning = "It begins within seconds, as soon as a server with the provider " + op.Provider + " takes it up."
		}
	}
	// The other parts are read every second, and have no use for it.
	if r.Header.Get("HX-Request") != "true" || r.Header.Get("HX-Target") == "output" {
		if view.Output.Text, view.Output.Cut, err = w.outputEnd(r.Context(), id); err != nil {
			return err
		}
	}
	return w.page(rw, http.StatusOK, "admin_operation", view)
}

// ahead returns the operations that come before one that waits, the next first.
func (w *Web) ahead(ctx context.Context, op fleet.Operation, now time.Time) ([]operationRow, error) {
	open, err := w.store.UnfinishedOperations(ctx)
	var rows []operationRow
	for _, o := range slices.Backward(open) {
		if o.ID < op.ID && o.Provider == op.Provider {
			rows = append(rows, operationRowOf(o, now))
		}
	}
	return rows, err
}

func progressOf(o fleet.Operation, vms map[string]fleet.VM, now time.Time) progressView {
	p := progressView{
		ID: o.ID, Title: operationTitle(o), Condition: operationCondition(o), Done: o.Count(fleet.StepDone), All: len(o.Steps),
		Created: momentOf(o.Created, now), Started: momentOf(o.Started, now), Took: lasted(o, now), Over: o.State.Final(), Attempt: o.Attempt,
		InstanceType: o.InstanceType, Provider: o.Provider, Error: o.Error,
	}
	if !p.Over && (o.State == fleet.OperationRunning || o.Stopping) {
		p.Meaning = phaseMeaning(o)
	}
	if d, known := remaining(o, now); known && !p.Over {
		p.Left = left(d)
	}
	if o.Kind == fleet.KindDestroy {
		p.Tally = tally(o)
		return p
	}
	p.Tally, p.Startup = tally(o, useOf(o, vms)...), startupWords(o, vms)
	return p
}

// useOf counts what has become of the VMs that a launch has made.
func useOf(o fleet.Operation, vms map[string]fleet.VM) []string {
	var waiting, taken, gone int
	for _, s := range o.Steps {
		v, ok := vms[s.Hostname]
		switch {
		case !ok || s.State != fleet.StepDone:
		case v.Status == fleet.StatusDestroyed:
			gone++
		case v.Seat.Held():
			taken++
		case v.Free() && v.Waiting:
			waiting++
		}
	}
	var words []string
	for _, group := range []struct {
		n    int
		many string
	}{{waiting, "waiting for participants"}, {taken, "taken"}, {gone, "destroyed since"}} {
		if group.n > 0 {
			words = append(words, fmt.Sprintf("%d %s", group.n, group.many))
		}
	}
	return words
}

func (w *Web) operationActionsOf(o fleet.Operation, vms map[string]fleet.VM) operationActions {
	a := operationActions{ID: o.ID, Launch: o.Kind == fleet.KindLaunch, Stop: !o.State.Final(), Stopping: o.Stopping}
	if o.Provider != string(w.cfg.Provider) {
		a.OtherProvider = o.Provider
		return a // nothing here would run what follows
	}
	if !a.Launch {
		a.Retry = o.Retryable()
		return a
	}
	var failed []string
	for _, s := range o.Steps {
		v := vms[s.Hostname]
		if s.State == fleet.StepFailed && v.Creation == fleet.CreationFailed && v.Status != fleet.StatusDestroyed {
			failed = append(failed, s.Hostname)
		}
	}
	if o.State.Final() && len(failed) > 0 {
		a.Retry, a.Failed, a.Remove = true, len(failed), deleteAddress(failed)
	}
	return a
}

func deleteAddress(hostnames []string) string {
	return "/admin/instances/delete?" + url.Values{"hostname": hostnames}.Encode()
}

func stepsOf(o fleet.Operation, vms map[string]fleet.VM, now time.Time) stepsView {
	view := stepsView{Launch: o.Kind == fleet.KindLaunch}
	for _, s := range o.Steps {
		v, known := vms[s.Hostname]
		row := stepRow{Hostname: s.Hostname, Live: known && v.Status != fleet.StatusDestroyed}
		if view.Launch {
			row.launched(s, v, now)
		} else {
			row.destroyed(s, now)
		}
		if view.Launch && s.State == fleet.StepFailed && o.State.Final() {
			row.Condition.Note = sinceFailure(v, now)
		}
		switch {
		case s.State == fleet.StepDone:
			row.Reason = noteOf("how-"+s.Hostname, s.Message)
		case s.State != fleet.StepFailed:
		case s.Message == o.Error:
			row.Reason = reasonView{Short: "For the reason above."}
		default:
			row.Reason = reasonOf("why-"+s.Hostname, s.Message)
		}
		view.Rows = append(view.Rows, row)
	}
	return view
}

// launched fills in what has become of a VM that is to be created.
func (row *stepRow) launched(s fleet.Step, v fleet.VM, now time.Time) {
	switch s.State {
	case fleet.StepRunning:
		row.Condition, row.Took = condition{"being created", "", toneBusy}, workedOn(s, now)
	case fleet.StepDone:
		row.Condition, row.Took = conditionOf(v, now), "created"+workedOn(s, now)
		row.Terraform, row.CloudInit, row.Agent = took(v.Startup.Terraform), took(v.Startup.CloudInit), took(v.Startup.Container)
		row.Startup = took(startupTotal(v))
	case fleet.StepFailed:
		row.Condition = condition{"could not be created", "", toneBad}
	case fleet.StepCancelled:
		row.Condition = condition{"not created", "", toneIdle}
	default:
		row.Condition = condition{string(s.State), "", toneIdle}
	}
}

// sinceFailure says what has become of a VM after this operation could not
// create it.
func sinceFailure(v fleet.VM, now time.Time) string {
	switch {
	case v.Status == fleet.StatusDestroyed:
		return "Removed since."
	case v.Creation == fleet.CreationPending:
		return "It is being tried again."
	case v.Creation == fleet.CreationDone:
		return "Tried again since: " + conditionOf(v, now).Words + "."
	default:
		return ""
	}
}

// destroyed fills in what has become of a VM that is to be destroyed.
func (row *stepRow) destroyed(s fleet.Step, now time.Time) {
	switch s.State {
	case fleet.StepRunning:
		row.Condition, row.Took = condition{"being destroyed", "", toneBusy}, workedOn(s, now)
	case fleet.StepDone:
		row.Condition, row.Took = condition{"destroyed", "", toneGood}, strings.TrimSpace(workedOn(s, now))
	case fleet.StepFailed:
		row.Condition = condition{"could not be destroyed", "", toneBad}
	case fleet.StepCancelled:
		row.Condition = condition{"not destroyed", "The machine may still be there.", toneBad}
	default:
		row.Condition = condition{string(s.State), "", toneIdle}
	}
}

// workedOn says how long Terraform works on a VM, or worked, "" if that is
// unknown.
func workedOn(s fleet.Step, now time.Time) string {
	switch {
	case s.Started.IsZero():
		return ""
	case s.State == fleet.StepRunning:
		return "for " + took(max(now.Sub(s.Started), time.Millisecond))
	case s.Ended.IsZero():
		return ""
	default:
		return " in " + took(max(s.Ended.Sub(s.Started), time.Millisecond))
	}
}

// outputEnd returns the last lines of Terraform's output, and whether there are
// more.
func (w *Web) outputEnd(ctx context.Context, id int64) (text string, cut bool, err error) {
	var b strings.Builder
	if err := w.store.Output(ctx, id, outputShown, &b); err != nil {
		return "", false, err
	}
	text = b.String()
	if len(text) <= outputShown {
		return text, false, nil
	}
	text = text[len(text)-outputShown:]
	if _, lines, _ := strings.Cut(text, "\n"); lines != "" {
		text = lines // from the first whole one
	}
	return text, true, nil
}
