package web

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"lablink/internal/fleet"
	"lablink/internal/store"
)

// deleteView is the page that asks once more before VMs are destroyed.
type deleteView struct {
	frame
	Makes    bool       // this server has a provider
	All      bool       // all VMs; else those that were chosen
	VMs      []string   // what will be destroyed
	Held     []holdView // those of them that participants hold
	Others   []string   // and those that nobody does
	Creating int        // of the VMs, those that do not exist yet
	Missing  []string   // chosen, but not there, or not Terraform's
	Beside   string     // other machines, which are not touched; "" if there are none
	Seen     string     // who holds what, as this page shows it
	Form     deleteForm
}

// Loss says what will be gone.
func (v deleteView) Loss() string {
	n := len(v.VMs)
	switch {
	case n == 1:
		return "The VM " + v.VMs[0] + " is destroyed, with everything that is stored on it."
	case v.All:
		return fmt.Sprintf("All %d VMs are destroyed, with everything that is stored on them.", n)
	default:
		return fmt.Sprintf("These %d VMs are destroyed, with everything that is stored on them.", n)
	}
}

// Losers says who will miss it.
func (v deleteView) Losers() string {
	switch n := len(v.Held); n {
	case 0:
		return "That cannot be undone. No participant loses anything by it."
	case 1:
		return "That cannot be undone. One participant loses a VM at once, with the work on it."
	default:
		return fmt.Sprintf("That cannot be undone. %d participants lose their VMs at once, with the work on them.", n)
	}
}

// Button is what the button says.
func (v deleteView) Button() string {
	switch {
	case v.All:
		return "Destroy All VMs"
	case len(v.VMs) == 1:
		return "Destroy " + v.VMs[0]
	default:
		return fmt.Sprintf("Destroy %d VMs", len(v.VMs))
	}
}

// holdView is a VM with the participant who holds it.
type holdView struct {
	Hostname, Email string
	Since           moment
	InUse           bool
}

// deleteForm is what was typed, and what is wrong with it.
type deleteForm struct {
	Confirm      string
	ConfirmError string
	Error        string // of the whole form
}

func (w *Web) getDelete(rw http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	// With "selected" the choice was made in the table: none chosen does not mean all.
	all := len(query["hostname"]) == 0 && !query.Has("selected")
	return w.deletePage(r.Context(), rw, http.StatusOK, all, query["hostname"], deleteForm{})
}

func (w *Web) deletePage(ctx context.Context, rw http.ResponseWriter, status int, all bool, hostnames []string, form deleteForm) error {
	view := deleteView{frame: w.adminFrame("Destroy VMs", "instances"), Makes: w.makesVMs(), All: all, Form: form}
	if view.Makes && (all || len(hostnames) > 0) {
		if err := w.fillDelete(ctx, &view, hostnames); err != nil {
			return err
		}
	}
	switch {
	case all:
		view.Title = "Destroy all VMs"
		counts, err := w.store.Counts(ctx)
		if err != nil {
			return err
		}
		if n := counts.Total - len(view.VMs); n > 0 {
			view.Beside = count(n, "machine") + " that this server's Terraform did not make"
		}
	case len(view.VMs) > 0:
		view.Title = view.Button()
	}
	return w.page(rw, status, "admin_delete", view)
}

// fillDelete looks up what would be destroyed.
func (w *Web) fillDelete(ctx context.Context, view *deleteView, hostnames []string) error {
	vms, seen, err := w.store.HoldersOf(ctx, store.Destroy{Provider: string(w.cfg.Provider), Hostnames: hostnames, All: view.All})
	if err != nil {
		return err
	}
	now := time.Now()
	for _, v := range vms {
		view.VMs = append(view.VMs, v.Hostname)
		if v.Email != "" {
			view.Held = append(view.Held, holdView{v.Hostname, v.Email, momentOf(v.SeatSince, now), v.InUse})
		} else {
			view.Others = append(view.Others, v.Hostname)
		}
		if v.Creation == fleet.CreationPending {
			view.Creating++
		}
	}
	for _, h := range slices.Compact(slices.Sorted(slices.Values(hostnames))) {
		if _, found := seen[h]; !found {
			view.Missing = append(view.Missing, h)
		}
	}
	view.Seen = seen.String()
	return nil
}

// DestroyRefused shows the confirmation of a destruction again, with what was
// wrong. The form of r must have been read.
func (w *Web) DestroyRefused(rw http.ResponseWriter, r *http.Request, status int, e *fleet.Error) {
	w.refused(rw, r, status, e, func(ctx context.Context) error {
		form := deleteForm{Confirm: strings.TrimSpace(r.PostFormValue("confirm"))}
		switch {
		case e.Field == "confirm" && form.Confirm == "":
			form.ConfirmError = "Type the number of VMs."
		case e.Field == "confirm":
			form.ConfirmError = sentenceOf(e.Message)
		default:
			form.Error = sentenceOf(e.Message)
		}
		return w.deletePage(ctx, rw, status, r.PostFormValue("all") != "", r.PostForm["hostname"], form)
	})
}
