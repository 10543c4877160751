package provision

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

// message is a line of Terraform's machine-readable output, as far as we read
// it. See https://developer.hashicorp.com/terraform/internals/machine-readable-ui.
type message struct {
	Text string `json:"@message"`
	Time string `json:"@timestamp"`
	Type string `json:"type"`
	Hook struct {
		Resource struct {
			Address string `json:"addr"`
		} `json:"resource"`
		Action string `json:"action"`
		ID     string `json:"id_value"`
	} `json:"hook"`
	Diagnostic *diagnostic       `json:"diagnostic"`
	Outputs    map[string]output `json:"outputs"`
}

type diagnostic struct {
	Severity string `json:"severity"`
	Summary  string `json:"summary"`
	Detail   string `json:"detail"`
	Address  string `json:"address"`
	Range    *struct {
		File  string `json:"filename"`
		Start struct {
			Line int `json:"line"`
		} `json:"start"`
	} `json:"range"`
}

type output struct {
	Value json.RawMessage `json:"value"`
}

// parseMessage reports whether a line is a message.
func parseMessage(line []byte) (m message, ok bool) {
	if len(line) == 0 || line[0] != '{' {
		return m, false
	}
	return m, json.Unmarshal(line, &m) == nil && m.Text != ""
}

// at is when the message was written, or else now.
func (m message) at() time.Time {
	if at, err := time.Parse(time.RFC3339Nano, m.Time); err == nil {
		return at
	}
	return time.Now()
}

// text is the message as people read it.
func (m message) text() string {
	d := m.Diagnostic
	switch {
	case d == nil:
		return m.Text
	case d.Address != "":
		return d.Address + ": " + d.Severity + ": " + d.text()
	default:
		return d.Severity + ": " + d.text()
	}
}

// localExec is how Terraform tells that a shell command failed. What the command
// was is of no use to who reads it, and may be long.
var localExec = regexp.MustCompile(`(?s)^Error running command '.*': ([^']*)\. Output: (.*)$`)

func (d *diagnostic) text() string {
	detail := strings.TrimSpace(localExec.ReplaceAllString(d.Detail, "$1: $2"))
	if detail == "" {
		return d.Summary
	}
	return d.Summary + ": " + detail
}

// EventKind is what has become of a VM.
type EventKind int

// The kinds of event.
const (
	VMBegun     EventKind = iota // Terraform works on it
	VMCreated                    // all of it is there
	VMDestroyed                  // nothing of it is left
	VMFailed                     // some of it could not be made or destroyed
)

// Event is one step of an apply.
type Event struct {
	Kind     EventKind
	Hostname string
	At       time.Time
}

// Machine is what the module's output says of a VM.
type Machine struct {
	ID      string `json:"id"`
	Address string `json:"address"`
}

// maxErrors is how many of Terraform's errors are kept of each VM, and of all the
// rest.
const maxErrors = 20

// tracker follows an apply: a VM is made when every resource of it is.
type tracker struct {
	plan     *Plan
	begun    map[string]bool
	toMake   map[string]int // resources that are not there yet, by VM
	toDelete map[string]int
	on       func(Event)
	tidy     func(string) string // makes what Terraform says fit to be shown

	reasons map[string][]string // what Terraform said of a VM that failed
	general []string            // and of everything else
	outputs map[string]Machine  // nil if it did not come to that
}

func (w *Workspace) track(p *Plan, on func(Event)) *tracker {
	t := &tracker{
		plan: p, begun: map[string]bool{}, toMake: map[string]int{}, toDelete: map[string]int{}, on: on, tidy: w.tidy,
		reasons: map[string][]string{},
	}
	for name, vm := range p.vms {
		t.toMake[name], t.toDelete[name] = vm.makes, vm.deletes
	}
	return t
}

// read takes a message.
func (t *tracker) read(m message) {
	hostname := t.plan.hostnameIn(m.Hook.Resource.Address)
	switch {
	case m.Type == "diagnostic":
		t.diagnose(m.Diagnostic)
	case m.Type == "outputs":
		t.describe(m.Outputs)
	case m.Type == "apply_complete" && m.Hook.Action == "create":
		t.plan.known[m.Hook.Resource.Address] = m.Hook.ID
	case m.Type == "apply_complete" && m.Hook.Action == "delete":
		delete(t.plan.known, m.Hook.Resource.Address)
	}
	switch {
	case hostname == "":
	case m.Type == "apply_start" && !t.begun[hostname]:
		t.begun[hostname] = true
		t.on(Event{VMBegun, hostname, m.at()})
	case m.Type == "apply_complete":
		t.complete(hostname, m)
	case m.Type == "apply_errored":
		t.on(Event{VMFailed, hostname, m.at()})
	}
}

func (t *tracker) complete(hostname string, m message) {
	switch m.Hook.Action {
	case "create":
		t.toMake[hostname]--
	case "delete":
		t.toDelete[hostname]--
	default:
		return // read, or updated in place
	}
	vm := t.plan.vms[hostname]
	switch {
	case t.toMake[hostname] > 0 || t.toDelete[hostname] > 0:
	case vm.makes > 0:
		t.on(Event{VMCreated, hostname, m.at()})
	case vm.deletes > 0 && !vm.stays:
		t.on(Event{VMDestroyed, hostname, m.at()})
	}
}

func (t *tracker) diagnose(d *diagnostic) {
	if d == nil || d.Severity != "error" {
		return
	}
	text := d.text()
	hostname := t.plan.hostnameIn(d.Address)
	switch {
	case hostname != "":
		if len(t.reasons[hostname]) < maxErrors {
			t.reasons[hostname] = append(t.reasons[hostname], t.tidy(text))
		}
		return
	case d.Address != "":
		text = d.Address + ": " + text
	case d.Range != nil:
		text = fmt.Sprintf("%s:%d: %s", d.Range.File, d.Range.Start.Line, text)
	}
	if len(t.general) < maxErrors {
		t.general = append(t.general, t.tidy(text))
	}
}

func (t *tracker) describe(outputs map[string]output) {
	var machines map[string]json.RawMessage
	if json.Unmarshal(outputs[outputVMs].Value, &machines) != nil {
		return // none, or of another form
	}
	t.outputs = map[string]Machine{}
	for hostname, data := range machines {
		var m Machine
		// A module of somebody else's may give more, or less.
		if json.Unmarshal(data, &m) == nil {
			t.outputs[hostname] = Machine{ID: clean(m.ID), Address: clean(m.Address)}
		}
	}
}

// ApplyError says what went wrong in a plan or apply.
type ApplyError struct {
	Reasons map[string]string // by VM
	General string            // of everything else
	Err     error             // of the process
}

// Error returns all that Terraform said.
func (e *ApplyError) Error() string {
	parts := []string{}
	if e.General != "" {
		parts = append(parts, e.General)
	}
	for _, name := range slices.Sorted(maps.Keys(e.Reasons)) {
		parts = append(parts, name+": "+e.Reasons[name])
	}
	if len(parts) == 0 {
		return e.Err.Error()
	}
	return shorten(strings.Join(parts, "\n"), maxLine)
}

// Unwrap returns how the process ended.
func (e *ApplyError) Unwrap() error { return e.Err }

func (t *tracker) failure(err error) *ApplyError {
	general := t.general
	if broken, ok := errors.AsType[*runError](err); ok && broken.broke() {
		general = append(general, "Terraform did not end by itself: "+err.Error())
	}
	e := &ApplyError{Reasons: map[string]string{}, General: shorten(strings.Join(general, "\n"), maxReason), Err: err}
	for name, texts := range t.reasons {
		e.Reasons[name] = shorten(strings.Join(texts, "\n"), maxReason)
	}
	return e
}
