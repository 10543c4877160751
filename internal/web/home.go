package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"lablink/internal/fleet"
	"lablink/internal/store"
)

// homeView is the start page: how many VMs are free, and the form.
type homeView struct {
	frame
	Seat   string // hostname of the VM that this browser has, or empty
	Vacant vacancyView
	Form   requestForm
}

// requestForm is the participant's form with what was typed and what is wrong
// with it.
type requestForm struct {
	Email, Command           string
	EmailError, CommandError string
	Error                    string // of the whole form
	Secure                   string // where to go instead, "" if here is right
}

// Wrong reports whether there is anything to mend.
func (f requestForm) Wrong() bool { return f.EmailError != "" || f.CommandError != "" || f.Error != "" }

// EmailFirst and CommandFirst say where the cursor belongs: at the first error.
func (f requestForm) EmailFirst() bool { return f.EmailError != "" }

// CommandFirst is explained at EmailFirst.
func (f requestForm) CommandFirst() bool { return f.CommandError != "" && f.EmailError == "" }

// vacancyView is what the start page says about free VMs; all open start pages
// share it.
type vacancyView struct {
	Free   int
	Reason string // why none is free
}

// vacancies reads what start pages say about free VMs, and remembers it for a
// moment: a room that opens them together must not mean two queries for each.
type vacancies struct {
	read func(context.Context) (vacancyView, error)
	keep time.Duration
	last atomic.Pointer[knownVacancy]
}

type knownVacancy struct {
	vacancyView
	at time.Time
}

// now reads, for whoever was just told something else.
func (v *vacancies) now(ctx context.Context) (vacancyView, error) {
	at := time.Now()
	view, err := v.read(ctx)
	if err == nil {
		v.last.Store(&knownVacancy{view, at})
	}
	return view, err
}

// recent may be as old as what open start pages show.
func (v *vacancies) recent(ctx context.Context) (vacancyView, error) {
	if known := v.last.Load(); known != nil && time.Since(known.at) < v.keep {
		return known.vacancyView, nil
	}
	return v.now(ctx)
}

// Version names the state of the button and the notice beside it.
func (v vacancyView) Version() string {
	if v.Free > 0 {
		return "open"
	}
	return versionOf(v)
}

func (w *Web) readVacancy(ctx context.Context) (vacancyView, error) {
	free, err := w.store.FreeCount(ctx)
	if err != nil || free > 0 {
		return vacancyView{Free: free}, err
	}
	counts, err := w.store.Counts(ctx)
	return vacancyView{Free: counts.Free, Reason: shortage(counts)}, err
}

// homeEvents renders what changes on open start pages.
func (w *Web) homeEvents(ctx context.Context) ([]liveEvent, error) {
	v, err := w.vacant.now(ctx)
	if err != nil {
		return nil, err
	}
	var events []liveEvent
	for _, name := range []string{"count", "notice", "gate"} {
		data, err := w.render("home", name, v)
		if err != nil {
			return nil, err
		}
		events = append(events, liveEvent{name, string(data)})
	}
	return events, nil
}

func (w *Web) getHome(rw http.ResponseWriter, r *http.Request) error {
	browser := w.knowBrowser(rw, r)
	vacant, err := w.vacant.recent(r.Context())
	if err != nil {
		return err
	}
	return w.homePage(rw, r, http.StatusOK, browser, requestForm{}, vacant)
}

func (w *Web) homePage(rw http.ResponseWriter, r *http.Request, status int, browser []byte, form requestForm, vacant vacancyView) error {
	seat, err := w.store.SeatOf(r.Context(), browser)
	if err != nil && !seatless(err) {
		return err
	}
	view := homeView{frame: frame{Title: "Get your VM"}, Seat: seat.Hostname, Vacant: vacant, Form: form}
	if form.Wrong() {
		view.Title = fmt.Sprintf("Please check: %s", view.Title)
	}
	return w.page(rw, status, "home", view)
}

// seatless reports whether an error of store.SeatOf says that the browser has
// no seat, now or ever.
func seatless(err error) bool {
	return errors.Is(err, store.ErrNoSeat) || fleet.KindOf(err) == fleet.NotFound
}
