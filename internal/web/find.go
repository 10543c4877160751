package web

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"strings"

	"lablink/internal/fleet"
	"lablink/internal/httpx"
)

// findView is the page that brings a seat to another device.
type findView struct {
	frame
	Form findForm
}

// findForm is its form, with what was typed and what is wrong with it.
type findForm struct {
	Email                string
	Taken                bool // the participant asked for a VM, and has one elsewhere
	EmailError, PINError string
	Error                string
	Secure               string // where to go instead, "" if here is right
}

// EmailFirst says where the cursor belongs: at the first error, else at the
// first empty field.
func (f findForm) EmailFirst() bool { return f.EmailError != "" || f.Email == "" }

func (w *Web) getFind(rw http.ResponseWriter, r *http.Request) error {
	w.knowBrowser(rw, r)
	return w.findPage(rw, http.StatusOK, findForm{})
}

func (w *Web) findPage(rw http.ResponseWriter, status int, form findForm) error {
	view := findView{frame: frame{Title: "Open your VM on this device"}, Form: form}
	if form.Taken {
		view.Title = "You already have a VM"
	}
	return w.page(rw, status, "find", view)
}

func (w *Web) postFind(rw http.ResponseWriter, r *http.Request) error {
	if err := httpx.ReadForm(r); err != nil {
		return err
	}
	form := findForm{Email: strings.TrimSpace(r.PostFormValue("email"))}
	if retry, ok := w.requests.Allow(httpx.ClientAddr(r)); !ok {
		setRetryAfter(rw, retry)
		form.Error = "Too many tries at once. Wait a few seconds and try again."
		return w.findPage(rw, http.StatusTooManyRequests, form)
	}
	email, err := fleet.NormalizeEmail(form.Email)
	form.EmailError = messageOf(asFleetError(err))
	pin := strings.Map(dropSpace, r.PostFormValue("pin"))
	switch {
	case pin == "":
		form.PINError = "Type the PIN. It is on the page of your VM, on the device where you got it."
	case len(pin) > maxPIN:
		form.PINError = "That is too long for a PIN."
	}
	if form.EmailError != "" || form.PINError != "" {
		return w.findPage(rw, http.StatusBadRequest, form)
	}
	if err = w.wantCookie(r, "/seat/find"); err == nil {
		err = w.openSeat(r, email, pin)
	}
	var cookie *noCookieError
	e := asFleetError(err)
	switch {
	case err == nil:
		http.Redirect(rw, r, "/seat", http.StatusSeeOther)
		return nil
	case errors.As(err, &cookie):
		w.renewBrowser(rw, r)
		form.Error, form.Secure = cookie.text(), cookie.secure
		return w.findPage(rw, http.StatusBadRequest, form)
	case e != nil && e.Kind == fleet.Limited:
		setRetryAfter(rw, e.RetryAfter)
		form.Error = e.Message
	case e != nil && e.Kind == fleet.Invalid:
		form.PINError = e.Message
	default:
		return err
	}
	return w.findPage(rw, httpx.Status(e.Kind), form)
}

// maxPIN is more than crd.pin may have.
const maxPIN = 64

// openSeat counts the attempt before it is made, so that a thousand guesses at
// once are as few as one after the other.
func (w *Web) openSeat(r *http.Request, email, pin string) error {
	sum := sha256.Sum256([]byte(strings.ToLower(email)))
	subject := "pin:" + hex.EncodeToString(sum[:])
	if err := w.store.TakeAttempt(r.Context(), subject, w.cfg.Limits.PinFailures, w.cfg.Limits.PinWindow); err != nil {
		return err
	}
	if err := w.store.Recover(r.Context(), httpx.ActorOf(r, "participant"), email, pin, browserOf(r)); err != nil {
		return err
	}
	return w.store.ForgetAttempts(r.Context(), subject)
}

// dropSpace removes what people type between digits because the page shows it so.
func dropSpace(r rune) rune {
	if r == ' ' || r == '\u00a0' || r == '\t' || r == '-' {
		return -1
	}
	return r
}
