package api

import (
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"lablink/internal/fleet"
	"lablink/internal/httpx"
	"lablink/internal/store"
)

// Provisioning is what launches and destructions need to know.
type Provisioning struct {
	Provider     string // "none": only machines that were registered by hand
	Prefix       string // of hostnames
	InstanceType string // where none is asked for
	MaxVMs       int
}

const (
	operationsPath = "/api/operations"
	listedMost     = 100 // operations
)

// operation is the JSON of an operation.
type operation struct {
	ID           int64      `json:"id"`
	Kind         string     `json:"kind"`
	State        string     `json:"state"`
	Phase        string     `json:"phase,omitempty"`
	Provider     string     `json:"provider"`
	InstanceType string     `json:"instance_type,omitempty"`
	Stopping     bool       `json:"stopping"`
	Error        string     `json:"error,omitempty"`
	CreatedAt    time.Time  `json:"created_at"`
	StartedAt    *time.Time `json:"started_at,omitempty"`
	EndedAt      *time.Time `json:"ended_at,omitempty"`
	URL          string     `json:"url"`
	VMs          []step     `json:"vms"`
}

// step is what the operation does with one VM.
type step struct {
	Hostname string  `json:"hostname"`
	State    string  `json:"state"`
	Message  string  `json:"message,omitempty"`
	Seconds  float64 `json:"seconds,omitempty"` // of Terraform's work, when it has ended
}

func operationOf(o fleet.Operation) operation {
	view := operation{
		ID: o.ID, Kind: string(o.Kind), State: string(o.State), Phase: string(o.Phase), Provider: o.Provider,
		InstanceType: o.InstanceType, Stopping: o.Stopping, Error: o.Error,
		CreatedAt: o.Created.UTC(), StartedAt: orNil(o.Started), EndedAt: orNil(o.Ended),
		URL: fmt.Sprintf("%s/%d", operationsPath, o.ID), VMs: make([]step, len(o.Steps)),
	}
	for i, s := range o.Steps {
		view.VMs[i] = step{Hostname: s.Hostname, State: string(s.State), Message: s.Message}
		if !s.Started.IsZero() && !s.Ended.IsZero() {
			view.VMs[i].Seconds = s.Ended.Sub(s.Started).Seconds()
		}
	}
	return view
}

func orNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// accepted answers whoever asked for an operation: a browser goes on to its
// page, everybody else gets the operation.
func accepted(w http.ResponseWriter, r *http.Request, o fleet.Operation) error {
	if !sentJSON(r) && !httpx.WantsJSON(r) {
		http.Redirect(w, r, fmt.Sprintf("/admin/operations/%d", o.ID), http.StatusSeeOther)
		return nil
	}
	view := operationOf(o)
	w.Header().Set("Location", view.URL)
	return httpx.WriteJSON(w, http.StatusAccepted, view)
}

// sentJSON tells a program from a browser's form.
func sentJSON(r *http.Request) bool { return strings.Contains(r.Header.Get("Content-Type"), "json") }

// pageOrJSON renders a refusal for whoever asked.
func pageOrJSON(page httpx.ErrorWriter) httpx.ErrorWriter {
	return func(w http.ResponseWriter, r *http.Request, status int, e *fleet.Error) {
		if sentJSON(r) || httpx.WantsJSON(r) {
			httpx.JSONError(w, r, status, e)
			return
		}
		page(w, r, status, e)
	}
}

func (a *API) needProvider() error {
	if a.Provisioning.Provider == "none" {
		return fleet.Errorf(fleet.Conflict, "This server makes no VMs: set provider in its configuration to local or aws. Machines that you have can be registered")
	}
	return nil
}

// number is a JSON number, or the same in a string, as forms send it.
type number string

// UnmarshalJSON implements json.Unmarshaler.
func (n *number) UnmarshalJSON(b []byte) error {
	*n = number(strings.Trim(string(b), `"`))
	return nil
}

func (n number) parse(field string) (int, error) {
	s := strings.TrimSpace(string(n))
	v, err := strconv.Atoi(s)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return 0, fleet.FieldErrorf(field, "%s is out of range", clip(s))
	case err != nil:
		return 0, fleet.FieldErrorf(field, "%q is not a whole number", clip(s))
	}
	return v, nil
}

// needForm refuses a body that is neither JSON nor a form: it would look like an
// empty form.
func needForm(r *http.Request) error {
	given := r.Header.Get("Content-Type")
	if given == "" {
		return nil
	}
	media, _, err := mime.ParseMediaType(given)
	if err != nil || media != "application/x-www-form-urlencoded" && media != "multipart/form-data" {
		return fleet.Errorf(fleet.UnsupportedMedia, "this route takes JSON, or a form: send Content-Type: application/json")
	}
	return nil
}

func clip(s string) string {
	if len(s) > 40 {
		return s[:40] + "..."
	}
	return s
}

// launch asks for new VMs.
func (a *API) launch(w http.ResponseWriter, r *http.Request) error {
	var req struct {
		NumVMs       *number `json:"num_vms"`
		NumInstances *number `json:"num_instances"` // as documented
		InstanceType string  `json:"instance_type"`
	}
	if sentJSON(r) {
		if err := httpx.ReadJSON(r, &req); err != nil {
			return err
		}
	} else {
		if err := needForm(r); err != nil {
			return err
		}
		for field, to := range map[string]**number{"num_vms": &req.NumVMs, "num_instances": &req.NumInstances} {
			if r.PostForm.Has(field) {
				n := number(r.PostFormValue(field))
				*to = &n
			}
		}
		req.InstanceType = r.PostFormValue("instance_type")
	}
	if err := a.needProvider(); err != nil {
		return err
	}
	field, given := "num_vms", req.NumVMs
	switch {
	case req.NumVMs != nil && req.NumInstances != nil && *req.NumVMs != *req.NumInstances:
		return fleet.FieldErrorf("num_vms", "num_vms is %s and num_instances %s: send one of them", clip(string(*req.NumVMs)), clip(string(*req.NumInstances)))
	case req.NumVMs == nil && req.NumInstances == nil:
		return fleet.FieldErrorf("num_vms", "Say how many VMs to create (num_vms)")
	case req.NumVMs == nil:
		field, given = "num_instances", req.NumInstances
	}
	count, err := given.parse(field)
	if err != nil {
		return err
	}
	if count < 1 || count > a.Provisioning.MaxVMs {
		return fleet.FieldErrorf(field, "%d VMs cannot be created: ask for 1 to %d (limits.max_vms)", count, a.Provisioning.MaxVMs)
	}
	instanceType := strings.TrimSpace(req.InstanceType)
	if instanceType == "" {
		instanceType = a.Provisioning.InstanceType
	}
	if err := fleet.ValidateInstanceType(instanceType); err != nil {
		return err
	}
	op, err := a.Store.Launch(r.Context(), httpx.ActorOf(r, "admin"), store.Launch{
		Provider: a.Provisioning.Provider, Prefix: a.Provisioning.Prefix, InstanceType: instanceType,
		Count: count, Most: a.Provisioning.MaxVMs,
	})
	if err != nil {
		return err
	}
	return accepted(w, r, op)
}

// destroy asks for VMs to be destroyed: a chosen set, or all.
func (a *API) destroy(w http.ResponseWriter, r *http.Request) error {
	d := store.Destroy{Provider: a.Provisioning.Provider}
	var confirm number
	if sentJSON(r) {
		var req struct {
			Hostnames []string `json:"hostnames"`
			All       bool     `json:"all"`
			Confirm   number   `json:"confirm"`
		}
		if err := httpx.ReadJSON(r, &req); err != nil {
			return err
		}
		d.Hostnames, d.All, confirm = req.Hostnames, req.All, req.Confirm
	} else {
		if err := needForm(r); err != nil {
			return err
		}
		d.Hostnames, d.All, confirm = r.PostForm["hostname"], r.PostFormValue("all") != "", number(r.PostFormValue("confirm"))
		if r.PostForm.Has("seen") {
			seen, err := store.ParseHolders(r.PostFormValue("seen"))
			if err != nil {
				return err
			}
			d.Seen = seen
		}
	}
	if err := a.needProvider(); err != nil {
		return err
	}
	switch {
	case d.All == (len(d.Hostnames) > 0):
		return fleet.FieldErrorf("hostnames", "Say which VMs to destroy: either hostnames, or all and how many that are (confirm)")
	case d.All:
		n, err := confirm.parse("confirm")
		if err != nil {
			return err
		}
		d.Confirm = n
	}
	for _, h := range d.Hostnames {
		if fleet.ValidateHostname(h) != nil {
			return fleet.FieldErrorf("hostnames", "%q is not a host name; nothing was destroyed", clip(h))
		}
	}
	op, err := a.Store.Destroy(r.Context(), httpx.ActorOf(r, "admin"), d)
	if err != nil {
		return err
	}
	return accepted(w, r, op)
}

func operationID(r *http.Request) (int64, error) {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		return 0, fleet.Errorf(fleet.NotFound, "there is no operation %q", clip(r.PathValue("id")))
	}
	return id, nil
}

func (a *API) operations(w http.ResponseWriter, r *http.Request) error {
	ops, err := a.Store.Operations(r.Context(), listedMost)
	if err != nil {
		return err
	}
	views := make([]operation, len(ops))
	for i, o := range ops {
		views[i] = operationOf(o)
	}
	return httpx.WriteJSON(w, http.StatusOK, map[string]any{"operations": views})
}

func (a *API) operation(w http.ResponseWriter, r *http.Request) error {
	id, err := operationID(r)
	if err != nil {
		return err
	}
	op, err := a.Store.Operation(r.Context(), id)
	if err != nil {
		return err
	}
	return httpx.WriteJSON(w, http.StatusOK, operationOf(op))
}

// retryOperation asks for a new operation on the VMs that one left failed.
func (a *API) retryOperation(w http.ResponseWriter, r *http.Request) error {
	id, err := operationID(r)
	if err != nil {
		return err
	}
	old, err := a.Store.Operation(r.Context(), id)
	if err != nil {
		return err
	}
	if old.Provider != a.Provisioning.Provider {
		return fleet.Errorf(fleet.Conflict, "this operation was one of the provider %s, this server's is %s: nobody would take it up", old.Provider, a.Provisioning.Provider)
	}
	op, err := a.Store.Retry(r.Context(), httpx.ActorOf(r, "admin"), id)
	if err != nil {
		return err
	}
	return accepted(w, r, op)
}

// stopOperation asks for an operation to stop. That takes as long as Terraform
// needs to save its state.
func (a *API) stopOperation(w http.ResponseWriter, r *http.Request) error {
	id, err := operationID(r)
	if err != nil {
		return err
	}
	if err := a.Store.StopOperation(r.Context(), id); err != nil {
		return err
	}
	op, err := a.Store.Operation(r.Context(), id)
	if err != nil {
		return err
	}
	return accepted(w, r, op)
}
