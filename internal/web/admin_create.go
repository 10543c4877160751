package web

import (
	"context"
	"net/http"
	"strings"

	"lablink/internal/config"
	"lablink/internal/fleet"
	"lablink/internal/httpx"
	"lablink/internal/store"
)

// createView is the page that asks for new VMs.
type createView struct {
	frame
	Makes bool // VMs can be created here
	Local bool // on this very machine
	Have  int  // live VMs of the provider
	Left  int  // that may still be created
	Most  int
	Names string // what hostnames begin with
	Form  launchForm
}

// HaveWords says how many VMs there are.
func (v createView) HaveWords() string { return thereAre(v.Have, "VM") }

// launchForm is its form, with what was typed and what is wrong with it.
type launchForm struct {
	Count, InstanceType   string
	CountError, TypeError string
	Error                 string // of the whole form
}

// TypeFirst says where the cursor belongs: at the first error.
func (f launchForm) TypeFirst() bool { return f.TypeError != "" && f.CountError == "" }

func (w *Web) getCreate(rw http.ResponseWriter, r *http.Request) error {
	return w.createPage(r.Context(), rw, http.StatusOK, launchForm{InstanceType: w.cfg.Machine.MachineType})
}

func (w *Web) createPage(ctx context.Context, rw http.ResponseWriter, status int, form launchForm) error {
	view := createView{
		frame: w.adminFrame("Create VMs", "create"), Makes: w.makesVMs(), Local: w.cfg.Provider == config.ProviderLocal,
		Most: w.cfg.Limits.MaxVMs, Names: w.cfg.Provision.Prefix, Form: form,
	}
	if view.Makes {
		vms, _, err := w.store.HoldersOf(ctx, store.Destroy{Provider: string(w.cfg.Provider), All: true})
		if err != nil {
			return err
		}
		view.Have = len(vms)
		view.Left = max(0, view.Most-view.Have)
	}
	return w.page(rw, status, "admin_create", view)
}

// LaunchRefused shows the form that creates VMs again, with what was wrong. The
// form of r must have been read.
func (w *Web) LaunchRefused(rw http.ResponseWriter, r *http.Request, status int, e *fleet.Error) {
	w.refused(rw, r, status, e, func(ctx context.Context) error {
		form := launchForm{Count: strings.TrimSpace(r.PostFormValue("num_vms")), InstanceType: r.PostFormValue("instance_type")}
		text := sentenceOf(e.Message) + " Nothing was created."
		switch {
		case e.Field == "num_vms" && form.Count == "":
			form.CountError = "Type how many VMs to create."
		case e.Field == "num_vms":
			form.CountError = text
		case e.Field == "instance_type":
			form.TypeError = text
		default:
			form.Error = text
		}
		return w.createPage(ctx, rw, status, form)
	})
}

// refused renders a form again if what was wrong can be mended in it, and an
// error page otherwise.
func (w *Web) refused(rw http.ResponseWriter, r *http.Request, status int, e *fleet.Error, form func(context.Context) error) {
	switch e.Kind {
	case fleet.Invalid, fleet.Unprocessable, fleet.Conflict, fleet.NotFound:
		w.again(rw, r, form)
	default:
		w.Error(rw, r, status, e)
	}
}

// again renders a form again.
func (w *Web) again(rw http.ResponseWriter, r *http.Request, form func(context.Context) error) {
	httpx.Adapt(httpx.Bounded(func(_ http.ResponseWriter, r *http.Request) error { return form(r.Context()) }), w.Error).ServeHTTP(rw, r)
}

// sentenceOf makes a message that begins small and ends without a full stop a
// sentence.
func sentenceOf(message string) string {
	message = capitalized(message)
	if strings.HasSuffix(message, ".") || strings.HasSuffix(message, "?") {
		return message
	}
	return message + "."
}
