package web

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"lablink/internal/fleet"
	"lablink/internal/httpx"
	"lablink/internal/store"
)

// historyLines is how much of a VM's history its page shows.
const historyLines = 200

// instanceView is the admin's page of one machine.
type instanceView struct {
	frame
	Hostname string
	Flash    string
	Facts    factsView
	Actions  actionsView
	History  []eventView
	Tail     logTail
}

// factsView is what is known of the machine.
type factsView struct {
	Row                            rowView
	Reason                         reasonView // why it could not be created, or a long one of an error
	Registered                     bool
	Provider                       string
	InstanceType, Machine, Address string // "" if unknown
	Created                        moment
	Phases                         []phaseView
}

type phaseView struct {
	Words, Took string
}

// actionsView says what can be done with the machine now.
type actionsView struct {
	Hostname                          string
	Token                             bool // it exists, so that an agent may need one
	Held, Release, Retry, Clean, Free bool
	Remove                            bool
	Destroy                           string // address of the page that destroys it, "" if that is not possible
	Email                             string // who would lose it
	Seen                              string // who holds it, as this page shows it
	OtherProvider                     string // whose it is, if that is why
}

// Version names the choice of actions: while it stays the same, what the admin
// has opened stays open.
func (a actionsView) Version() string { return versionOf(a) }

// Live names what the rest of the page shows.
func (v instanceView) Live() string {
	return versionOf(struct {
		Facts   factsView
		History []eventView
	}{v.Facts, v.History})
}

type eventView struct {
	At           moment
	Who, Address string
	What, Detail string
	Operation    string // address of the one that Detail names, "" if none
}

// actors name who made a change, for the history.
var actors = map[string]string{"admin": "Admin", "participant": "Participant", "vm": "The VM", "system": "LabLink"}

func (w *Web) actionsOf(v fleet.VM) actionsView {
	_, release := v.Seat.Next(fleet.EventRelease)
	_, clean := v.Seat.Next(fleet.EventClean)
	registered := v.Provider == fleet.ProviderRegistered
	a := actionsView{
		Hostname: v.Hostname, Token: v.Creation == fleet.CreationDone, Held: v.Seat.Held(), Release: release && v.Seat.Held(), Retry: release && !v.Seat.Held(),
		Clean: clean, Free: v.Free(), Remove: registered && v.Seat == fleet.SeatNone,
	}
	switch {
	case registered:
	case w.destroys(v):
		a.Destroy, a.Email = deleteAddress([]string{v.Hostname}), v.Email
	default:
		a.OtherProvider = v.Provider
	}
	return a
}

func (w *Web) getInstance(rw http.ResponseWriter, r *http.Request) error {
	vm, err := w.store.VM(r.Context(), r.PathValue("hostname"))
	if fleet.KindOf(err) == fleet.NotFound && r.Header.Get("HX-Request") == "true" {
		// An open page that reads itself again, perhaps while it is being left.
		body, err := w.render("admin_instance", "gone", nil)
		if err != nil {
			return err
		}
		send(rw, http.StatusOK, body)
		return nil
	}
	if err != nil {
		return err
	}
	events, err := w.store.Events(r.Context(), vm.ID, historyLines)
	if err != nil {
		return err
	}
	now := time.Now()
	view := instanceView{
		frame: w.adminFrame(vm.Hostname, "instances"), Hostname: vm.Hostname,
		Flash: flashes[r.URL.Query().Get("done")], Facts: factsOf(vm, now), Actions: w.actionsOf(vm),
	}
	for _, e := range events {
		who := actors[e.Actor.Kind]
		if who == "" {
			who = e.Actor.Kind
		}
		view.History = append(view.History, eventView{momentOf(e.At, now), who, e.Actor.Address, upperFirst(e.What), e.Detail, namedOperation(e.Detail)})
	}
	if view.Actions.Destroy != "" {
		_, seen, err := w.store.HoldersOf(r.Context(), store.Destroy{Provider: vm.Provider, Hostnames: []string{vm.Hostname}})
		if err != nil {
			return err
		}
		view.Actions.Seen = seen.String()
	}
	if view.Tail, err = w.readLogTail(r.Context(), vm.Hostname); err != nil {
		return err
	}
	if vm.Creation == fleet.CreationFailed {
		view.Facts.Reason = whyNotCreated(events)
	}
	return w.page(rw, http.StatusOK, "admin_instance", view)
}

// namedOperation returns the address of the operation that a line of the history
// names, "" if it names none.
func namedOperation(detail string) string {
	number, found := strings.CutPrefix(detail, "operation ")
	id, err := strconv.ParseInt(number, 10, 64)
	if !found || err != nil {
		return ""
	}
	return operationAddress(id)
}

// whyNotCreated finds what Terraform said in a history, the newest first.
func whyNotCreated(events []fleet.Event) reasonView {
	for _, e := range events {
		if e.What == "launch failed" {
			return reasonOf("why", e.Detail)
		}
	}
	return reasonView{}
}

func factsOf(v fleet.VM, now time.Time) factsView {
	f := factsView{
		Row: rowOf(v, now), Registered: v.Provider == fleet.ProviderRegistered, Provider: v.Provider, Created: momentOf(v.CreatedAt, now),
		InstanceType: v.InstanceType, Machine: v.Machine, Address: v.Address,
	}
	if why := reasonOf("why", v.Problem); why.All != "" { // its beginning is part of the state
		f.Reason = reasonView{why.ID, "All that it says", why.All}
	}
	for _, p := range []struct {
		words string
		took  time.Duration
	}{{"Terraform", v.Startup.Terraform}, {"First boot (cloud-init)", v.Startup.CloudInit}, {"Container", v.Startup.Container}} {
		if p.took > 0 {
			f.Phases = append(f.Phases, phaseView{p.words, took(p.took)})
		}
	}
	return f
}

// act does something with a machine and goes on to a page that says so.
func (w *Web) act(rw http.ResponseWriter, r *http.Request, do func(fleet.Actor, string) error, next string) error {
	if err := do(httpx.ActorOf(r, "admin"), r.PathValue("hostname")); err != nil {
		return err
	}
	http.Redirect(rw, r, next, http.StatusSeeOther) //nolint:gosec // a path of ours, with a hostname that the store knows
	return nil
}

func (w *Web) postRelease(rw http.ResponseWriter, r *http.Request) error {
	return w.act(rw, r, func(a fleet.Actor, h string) error { return w.store.Release(r.Context(), a, h) }, instanceAddress(r, "released"))
}

func (w *Web) postClean(rw http.ResponseWriter, r *http.Request) error {
	return w.act(rw, r, func(a fleet.Actor, h string) error { return w.store.ConfirmClean(r.Context(), a, h) }, instanceAddress(r, "clean"))
}

func (w *Web) postRemove(rw http.ResponseWriter, r *http.Request) error {
	return w.act(rw, r, func(a fleet.Actor, h string) error { return w.store.RemoveVM(r.Context(), a, h) }, "/admin/instances?done=removed")
}

// postReplace destroys a VM, and has another one made in its place.
func (w *Web) postReplace(rw http.ResponseWriter, r *http.Request) error {
	if err := httpx.ReadForm(r); err != nil {
		return err
	}
	seen, err := store.ParseHolders(r.PostFormValue("seen"))
	if err != nil {
		return err
	}
	op, err := w.store.Replace(r.Context(), httpx.ActorOf(r, "admin"), r.PathValue("hostname"), seen, store.Launch{
		Provider: string(w.cfg.Provider), Prefix: w.cfg.Provision.Prefix, InstanceType: w.cfg.Machine.MachineType, Most: w.cfg.Limits.MaxVMs,
	})
	if err != nil {
		return err
	}
	http.Redirect(rw, r, operationAddress(op.ID), http.StatusSeeOther)
	return nil
}

// instanceAddress is used only after the store found the hostname: it is a
// valid one then.
func instanceAddress(r *http.Request, done string) string {
	return "/admin/instances/" + r.PathValue("hostname") + "?done=" + done
}

// pinView shows the PIN of a seat, once, to an admin who asked for it.
type pinView struct {
	frame
	Hostname string
	PIN      string
	Digits   []string
}

func (w *Web) postPIN(rw http.ResponseWriter, r *http.Request) error {
	hostname := r.PathValue("hostname")
	pin, err := w.store.PIN(r.Context(), httpx.ActorOf(r, "admin"), hostname)
	if err != nil {
		return err
	}
	return w.page(rw, http.StatusOK, "admin_pin", pinView{w.adminFrame("PIN of "+hostname, "instances"), hostname, pin, spacedPIN(pin)})
}
