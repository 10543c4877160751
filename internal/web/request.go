package web

import (
	"errors"
	"mime"
	"net/http"
	"strings"
	"time"

	"lablink/internal/fleet"
	"lablink/internal/httpx"
	"lablink/internal/store"
)

// request is what a participant sends to get a VM, as a form or as JSON.
type request struct {
	Email   string `json:"email"`
	Command string `json:"crd_command"`
	asJSON  bool   // how the answer must look
}

// fullRetry is when a caller that is not a page should ask again for a VM.
const fullRetry = 10 * time.Second

func readRequest(r *http.Request) (request, error) {
	media, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")) // an odd one is no JSON
	req := request{asJSON: httpx.WantsJSON(r)}
	if media == "application/json" {
		// Whoever sends JSON is a program, unless it asks for a page.
		req.asJSON = req.asJSON || !strings.Contains(r.Header.Get("Accept"), "text/html")
		err := httpx.ReadJSON(r, &req)
		return req, err
	}
	if err := httpx.ReadForm(r); err != nil {
		return req, err
	}
	req.Email, req.Command = r.PostFormValue("email"), r.PostFormValue("crd_command")
	return req, nil
}

// postRequestVM gives a participant a VM, or the one it has a fresh code.
func (w *Web) postRequestVM(rw http.ResponseWriter, r *http.Request) error {
	req, err := readRequest(r)
	if err != nil {
		if req.asJSON {
			httpx.WriteError(rw, r, err, httpx.JSONError)
			return nil
		}
		return err
	}
	browser := w.knowBrowser(rw, r) // so that a second press works where the cookie was only too old
	seat, err := w.seatFor(r, req, browser)
	if err != nil {
		return w.refuse(rw, r, req, browser, err)
	}
	if !req.asJSON {
		http.Redirect(rw, r, "/seat", http.StatusSeeOther)
		return nil
	}
	rw.Header().Set("Cache-Control", "no-store")
	return httpx.WriteJSON(rw, http.StatusOK, struct {
		Hostname string          `json:"hostname"`
		PIN      string          `json:"pin"`
		State    fleet.SeatState `json:"state"`
		URL      string          `json:"url"`
	}{seat.Hostname, seat.PIN, seat.State, w.origin(r) + "/seat"})
}

// fieldsError is all errors of a form at once.
type fieldsError struct {
	email, command *fleet.Error
}

func (e *fieldsError) Error() string {
	if e.email != nil {
		return e.email.Error()
	}
	return e.command.Error()
}

// first is the error that a caller learns who can be told only one.
func (e *fieldsError) first() *fleet.Error {
	if e.email != nil {
		return e.email
	}
	return e.command
}

// otherSeatError says that the browser holds a seat for another e-mail address.
type otherSeatError struct{ seat fleet.Seat }

func (*otherSeatError) Error() string { return "this browser holds another seat" }

func (w *Web) seatFor(r *http.Request, req request, browser []byte) (fleet.Seat, error) {
	if retry, ok := w.requests.Allow(httpx.ClientAddr(r)); !ok {
		return fleet.Seat{}, &fleet.Error{Kind: fleet.Limited, RetryAfter: retry,
			Message: "Too many people asked at the same moment. Nothing is lost: wait a few seconds and press the button again."}
	}
	if !req.asJSON {
		if err := w.wantCookie(r, "/"); err != nil {
			return fleet.Seat{}, err
		}
	}
	email, emailErr := fleet.NormalizeEmail(req.Email)
	command, commandErr := fleet.ParseCommand(req.Command)
	if emailErr != nil || commandErr != nil {
		return fleet.Seat{}, &fieldsError{asFleetError(emailErr), asFleetError(commandErr)}
	}
	ctx, actor := r.Context(), httpx.ActorOf(r, "participant")
	seat, err := w.renewHeld(r, email, command, browser)
	if !seatless(err) {
		return seat, err
	}
	pin := w.cfg.CRD.PIN.Reveal()
	if pin == "" {
		pin = fleet.NewPIN()
	}
	seat, refusal := w.store.Assign(ctx, store.Request{Email: email, Command: command, PIN: pin, Browser: browser, Actor: actor})
	switch {
	case refusal == nil:
		return seat, nil
	case errors.Is(refusal, store.ErrEmailSeated), errors.Is(refusal, store.ErrBrowserSeated), errors.Is(refusal, store.ErrCodeUsed):
		// A button that was pressed twice: the first press may have got the seat by now.
		if seat, err := w.renewHeld(r, email, command, browser); !seatless(err) {
			return seat, err
		}
	case errors.Is(refusal, store.ErrFull):
		// Who has a VM already, and asks on another device, must not be told that all are taken.
		seated, err := w.store.EmailSeated(ctx, email)
		if err != nil {
			return fleet.Seat{}, err
		}
		if seated {
			return fleet.Seat{}, store.ErrEmailSeated
		}
	}
	return fleet.Seat{}, refusal
}

// renewHeld gives the seat that the browser holds the command. The error is
// seatless if it holds none.
func (w *Web) renewHeld(r *http.Request, email string, command fleet.Command, browser []byte) (fleet.Seat, error) {
	seat, err := w.store.SeatOf(r.Context(), browser)
	if err != nil {
		return fleet.Seat{}, err
	}
	if !strings.EqualFold(strings.TrimSpace(seat.Email), email) {
		return fleet.Seat{}, &otherSeatError{seat}
	}
	if err := w.store.Renew(r.Context(), httpx.ActorOf(r, "participant"), seat.ID, command); err != nil {
		return fleet.Seat{}, err
	}
	return w.store.SeatOf(r.Context(), browser)
}

// Messages of refusals that are not fleet errors by themselves.
const (
	codeUsedText = "This code was used here before, and Google accepts each code only once. " +
		"Go through Google's page again to get a fresh command, and paste that one."
	emailSeatedText = "This e-mail address already has a VM, on another device or browser. Enter its PIN to open it here."
)

// refuse answers a request that got no VM.
func (w *Web) refuse(rw http.ResponseWriter, r *http.Request, req request, browser []byte, err error) error {
	var fields *fieldsError
	var other *otherSeatError
	var cookie *noCookieError
	var vacant *vacancyView
	form := requestForm{Email: req.Email, Command: req.Command}
	shown := asFleetError(err)
	switch {
	case errors.As(err, &fields):
		shown = fields.first()
		form.EmailError, form.CommandError = messageOf(fields.email), messageOf(fields.command)
	case errors.Is(err, store.ErrCodeUsed):
		shown = fleet.FieldErrorf("crd_command", codeUsedText)
		form.CommandError = codeUsedText
	case errors.Is(err, store.ErrFull):
		now, err := w.vacant.now(r.Context())
		if err != nil {
			return err
		}
		vacant = &now
		if vacant.Free > 0 {
			vacant.Reason = "No VM was free a moment ago, but one is now. Try again."
		}
		shown = &fleet.Error{Kind: fleet.Unavailable, Message: vacant.Reason, RetryAfter: fullRetry}
		form.Error = "You have no VM yet: none was free when you asked. What you typed is still here. " +
			"Keep this page open, it tells you when a VM is free."
	case errors.As(err, &cookie):
		shown = fleet.Errorf(fleet.Invalid, "%s", cookie.text())
		form.Error, form.Secure = shown.Message, cookie.secure
	case errors.As(err, &other):
		if !req.asJSON {
			return w.page(rw, http.StatusConflict, "other_seat", otherSeatView{
				frame: frame{Title: "This browser already has a VM"}, Hostname: other.seat.Hostname, Email: maskedEmail(other.seat.Email),
			})
		}
		shown = fleet.Errorf(fleet.Conflict, "this browser already holds a VM for another e-mail address")
		shown.Field = "email"
	case errors.Is(err, store.ErrEmailSeated):
		if !req.asJSON {
			return w.findPage(rw, http.StatusConflict, findForm{Email: strings.TrimSpace(req.Email), Taken: true})
		}
		shown = fleet.Errorf(fleet.Conflict, emailSeatedText)
		shown.Field = "email"
	case shown != nil && shown.Kind == fleet.Limited:
		form.Error = shown.Message
	default:
		if req.asJSON {
			httpx.WriteError(rw, r, err, httpx.JSONError)
			return nil
		}
		return err
	}
	if req.asJSON {
		httpx.WriteError(rw, r, shown, httpx.JSONError)
		return nil
	}
	setRetryAfter(rw, shown.RetryAfter)
	if vacant == nil {
		recent, err := w.vacant.recent(r.Context())
		if err != nil {
			return err
		}
		vacant = &recent
	}
	return w.homePage(rw, r, httpx.Status(shown.Kind), browser, form, *vacant)
}

func messageOf(e *fleet.Error) string {
	if e == nil {
		return ""
	}
	return e.Message
}

// otherSeatView is shown where a browser that has a VM asks for another person.
type otherSeatView struct {
	frame
	Hostname string
	Email    string // masked: whoever sits here now may be somebody else
}
