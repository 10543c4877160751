package web

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"lablink/internal/fleet"
	"lablink/internal/httpx"
	"lablink/internal/store"
)

// seatView is the page of a participant who holds a VM.
type seatView struct {
	frame
	Hostname string
	Email    string
	PIN      string
	Digits   []string // the PIN as people read it out
	Panel    panelView
	Form     codeForm // below the panel; after a failure it is in the panel
}

// panelView is the part of it that follows the seat's state.
type panelView struct {
	State    fleet.SeatState
	Hostname string
	Reason   string
	Absent   bool // the VM does not answer now
	Overdue  bool // the VM took the command, and should have said long ago what came of it
	Steps    []step
	Form     codeForm
}

// step is one step of a seat's life.
type step struct {
	Words string
	State stepState
}

type stepState string

const (
	stepDone   stepState = "done"
	stepNow    stepState = "now"
	stepAhead  stepState = "ahead"
	stepFailed stepState = "failed"
)

// codeForm is the form for a fresh code for the same VM.
type codeForm struct {
	Command, Error string
}

// Failed reports whether a fresh code is needed.
func (p panelView) Failed() bool { return p.State == fleet.SeatFailed }

// Asks reports whether the panel holds the form for a fresh code.
func (p panelView) Asks() bool { return p.Failed() || p.Overdue }

// Ready reports whether the participant can go to Google's page.
func (p panelView) Ready() bool {
	return p.State == fleet.SeatConnected || p.State == fleet.SeatAssumed
}

// Assumed reports whether readiness is a guess.
func (p panelView) Assumed() bool { return p.State == fleet.SeatAssumed }

// Delivered reports whether the VM works on it.
func (p panelView) Delivered() bool { return p.State == fleet.SeatDelivered }

// Version names what the panel shows.
func (p panelView) Version() string {
	p.Form = codeForm{}
	return versionOf(p)
}

// Title is the page's title, which people see in another tab.
func (p panelView) Title() string {
	switch {
	case p.Ready():
		return "Ready: " + p.Hostname
	case p.Failed():
		return "Needs you: " + p.Hostname
	case p.Overdue:
		return "Takes too long: " + p.Hostname
	default:
		return "Setting up " + p.Hostname
	}
}

// Said is what a screen reader says when the state changes.
func (p panelView) Said() string {
	switch {
	case p.State == fleet.SeatConnected:
		return "Your VM " + p.Hostname + " is ready."
	case p.Assumed():
		return "Your VM " + p.Hostname + " should be ready."
	case p.Failed():
		return "The set-up failed. A fresh code is needed."
	case p.Absent:
		return "Your VM is not answering right now. It gets your command as soon as it is back."
	case p.Overdue:
		return "This takes longer than it should. Tell the organiser the name of your VM, or send a fresh command."
	case p.Delivered():
		return "Your VM is being set up."
	default:
		return "Your command was sent to your VM."
	}
}

func panelOf(s fleet.Seat, now time.Time, grace time.Duration) panelView {
	p := panelView{
		State: s.State, Hostname: s.Hostname, Reason: s.Reason,
		Absent:  s.State == fleet.SeatRequested && !s.Waiting && now.Sub(s.Changed) >= grace,
		Overdue: s.State == fleet.SeatDelivered && overdue(s.State, s.Changed, now) > 0,
	}
	states := map[fleet.SeatState][3]stepState{
		fleet.SeatRequested: {stepNow, stepAhead, stepAhead},
		fleet.SeatDelivered: {stepDone, stepNow, stepAhead},
		fleet.SeatConnected: {stepDone, stepDone, stepDone},
		fleet.SeatAssumed:   {stepDone, stepDone, stepDone},
		fleet.SeatFailed:    {stepDone, stepFailed, stepAhead},
	}[s.State]
	for i, words := range []string{"Sent to your VM", "Being set up", "Ready"} {
		p.Steps = append(p.Steps, step{words, states[i]})
	}
	return p
}

// endedView is the page of a browser that has no seat, or no longer.
type endedView struct {
	frame
	Had bool // it had one
}

func (w *Web) getSeat(rw http.ResponseWriter, r *http.Request) error {
	return w.seatPage(rw, r, http.StatusOK, codeForm{})
}

func (w *Web) seatPage(rw http.ResponseWriter, r *http.Request, status int, form codeForm) error {
	seat, err := w.seatOf(r.Context(), browserOf(r))
	if seatless(err) {
		return w.noSeatPage(rw, err)
	}
	if err != nil {
		return err
	}
	panel := panelOf(seat, time.Now(), w.times.grace)
	view := seatView{
		frame:    frame{Title: panel.Title(), Watch: seat.State.Pending() && !panel.Asks() && form.Error == ""},
		Hostname: seat.Hostname, Email: seat.Email, PIN: seat.PIN, Digits: spacedPIN(seat.PIN), Form: form,
	}
	if panel.Asks() {
		panel.Form, view.Form = form, codeForm{}
	}
	view.Panel = panel
	return w.page(rw, status, "seat", view)
}

func (w *Web) noSeatPage(rw http.ResponseWriter, why error) error {
	view := endedView{frame: frame{Title: "No VM here yet"}}
	if errors.Is(why, store.ErrNoSeat) {
		view.Had, view.Title = true, "Your VM is no longer yours"
		return w.page(rw, http.StatusGone, "ended", view)
	}
	return w.page(rw, http.StatusNotFound, "ended", view)
}

// seatOf is store.SeatOf for a browser that may be unknown.
func (w *Web) seatOf(ctx context.Context, browser []byte) (fleet.Seat, error) {
	if browser == nil {
		return fleet.Seat{}, fleet.Errorf(fleet.NotFound, "This browser has no VM yet.")
	}
	return w.store.SeatOf(ctx, browser)
}

// livePanel is what an open seat page shows now.
type livePanel struct {
	hostname string
	events   []liveEvent
	pending  bool // something is under way
	ended    bool // there will be no more to show
}

func (w *Web) seatPanel(ctx context.Context, browser []byte) (livePanel, error) {
	seat, err := w.seatOf(ctx, browser)
	if seatless(err) {
		ended := endedView{Had: errors.Is(err, store.ErrNoSeat)}
		data, err := w.render("seat", "panel-ended", ended)
		return livePanel{ended: true, events: []liveEvent{{"seat", string(data)}, {"end", ""}}}, err
	}
	if err != nil {
		return livePanel{}, err
	}
	view := panelOf(seat, time.Now(), w.times.grace)
	panel := livePanel{hostname: seat.Hostname, pending: seat.State.Pending()}
	for _, e := range []struct{ name, block string }{{"seat", "panel-live"}, {"said", "said"}} {
		data, err := w.render("seat", e.block, view)
		if err != nil {
			return livePanel{}, err
		}
		panel.events = append(panel.events, liveEvent{e.name, string(data)})
	}
	return panel, nil
}

// postSeatCode takes a fresh code for the VM that the browser holds.
func (w *Web) postSeatCode(rw http.ResponseWriter, r *http.Request) error {
	if err := httpx.ReadForm(r); err != nil {
		return err
	}
	text := r.PostFormValue("crd_command")
	if retry, ok := w.requests.Allow(httpx.ClientAddr(r)); !ok {
		setRetryAfter(rw, retry)
		return w.seatPage(rw, r, http.StatusTooManyRequests, codeForm{Command: text, Error: "Too many tries at once. Wait a few seconds and send it again."})
	}
	seat, err := w.seatOf(r.Context(), browserOf(r))
	if seatless(err) {
		return w.noSeatPage(rw, err)
	}
	if err != nil {
		return err
	}
	command, err := fleet.ParseCommand(text)
	if err == nil {
		err = w.store.Renew(r.Context(), httpx.ActorOf(r, "participant"), seat.ID, command)
	}
	switch e := asFleetError(err); {
	case err == nil:
		http.Redirect(rw, r, "/seat", http.StatusSeeOther)
		return nil
	case errors.Is(err, store.ErrNoSeat):
		return w.noSeatPage(rw, err)
	case errors.Is(err, store.ErrCodeUsed):
		return w.seatPage(rw, r, http.StatusBadRequest, codeForm{Command: text, Error: codeUsedText})
	case e != nil && e.Kind == fleet.Invalid:
		return w.seatPage(rw, r, http.StatusBadRequest, codeForm{Command: text, Error: e.Message})
	default:
		return err
	}
}

// postForget makes this browser forget its seat: the next person at a shared
// computer must not find it. The seat itself stays.
func (w *Web) postForget(rw http.ResponseWriter, r *http.Request) error {
	if browser := browserOf(r); browser != nil {
		if err := w.store.ForgetBrowser(r.Context(), browser); err != nil {
			return err
		}
	}
	w.renewBrowser(rw, r)
	http.Redirect(rw, r, "/", http.StatusSeeOther)
	return nil
}

// origin is the address of this server as others see it.
func (w *Web) origin(r *http.Request) string {
	if w.cfg.Server.PublicURL != "" {
		return strings.TrimRight(w.cfg.Server.PublicURL, "/")
	}
	if r.TLS != nil {
		return "https://" + r.Host
	}
	return "http://" + r.Host
}
