package api

import (
	"net/http"
	"strings"
	"unicode"

	"lablink/internal/fleet"
	"lablink/internal/httpx"
	"lablink/internal/store"
	"lablink/internal/wire"
)

// maxReason bounds the reason that an agent gives for a failure, in characters.
const maxReason = 500

func updated(w http.ResponseWriter) error {
	return httpx.WriteJSON(w, http.StatusOK, wire.Message{Message: "updated"})
}

// crdResult takes what became of a delivery: it is delivered again until then.
func (a *API) crdResult(w http.ResponseWriter, r *http.Request) error {
	var req wire.ResultRequest
	if err := httpx.ReadJSON(r, &req); err != nil {
		return err
	}
	event, ok := map[string]fleet.SeatEvent{
		wire.ResultConnected: fleet.EventConnect,
		wire.ResultFailed:    fleet.EventFail,
		wire.ResultReleased:  fleet.EventClean,
	}[req.Result]
	if !ok {
		return fleet.FieldErrorf("result", "result must be connected, failed or released")
	}
	if req.Delivery <= 0 {
		return fleet.FieldErrorf("delivery", "delivery must be the number that came with the command")
	}
	m, err := a.machine(r.Context(), r, req.Hostname)
	if err != nil {
		return err
	}
	reason := ""
	if event == fleet.EventFail {
		reason = printable(req.Reason, maxReason)
	}
	if err := a.Store.Acknowledge(r.Context(), httpx.ActorOf(r, "vm"), m.Hostname, req.Delivery, event, reason); err != nil {
		return err
	}
	return updated(w)
}

// printable makes one bounded line of a text that a VM sent.
func printable(s string, longest int) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
	if runes := []rune(s); len(runes) > longest {
		s = string(runes[:longest])
	}
	return strings.Join(strings.Fields(s), " ")
}

func (a *API) reportStatus(w http.ResponseWriter, r *http.Request) error {
	httpx.Quiet(r)
	var req wire.StatusRequest
	if err := httpx.ReadJSON(r, &req); err != nil {
		return err
	}
	status, err := fleet.ParseReported(req.Status)
	if err != nil {
		return err
	}
	// The existing machines are known by their first report. A token is proof of a row.
	if _, given := bearer(r); a.OpenMachines && !given && req.Hostname != "" {
		if err := fleet.ValidateHostname(req.Hostname); err != nil {
			return err
		}
		if err := a.Store.EnsureVM(r.Context(), httpx.ActorOf(r, "vm"), req.Hostname, a.MaxRegistered); err != nil {
			return err
		}
	}
	m, err := a.machine(r.Context(), r, req.Hostname)
	if err != nil {
		return err
	}
	actor := httpx.ActorOf(r, "vm")
	// A code at the end is to be known by the store, which cuts.
	if reason := printable(req.Reason, maxReason+fleet.MaxCodeBytes); status == fleet.StatusError && reason != "" {
		err = a.Store.SetError(r.Context(), actor, m.Hostname, reason)
	} else {
		err = a.Store.SetStatus(r.Context(), actor, m.Hostname, status)
	}
	if err != nil {
		return err
	}
	return updated(w)
}

func (a *API) reportGPU(w http.ResponseWriter, r *http.Request) error {
	httpx.Quiet(r)
	var req wire.GPURequest
	if err := httpx.ReadJSON(r, &req); err != nil {
		return err
	}
	health, err := fleet.ParseHealth(req.GPUStatus)
	if err != nil {
		return err
	}
	m, err := a.machine(r.Context(), r, req.Hostname)
	if err != nil {
		return err
	}
	if err := a.Store.SetHealth(r.Context(), httpx.ActorOf(r, "vm"), m.Hostname, health); err != nil {
		return err
	}
	return updated(w)
}

func (a *API) reportInUse(w http.ResponseWriter, r *http.Request) error {
	httpx.Quiet(r)
	var req wire.InUseRequest
	if err := httpx.ReadJSON(r, &req); err != nil {
		return err
	}
	if req.Status == nil {
		return fleet.FieldErrorf("status", "status is required: true or false")
	}
	m, err := a.machine(r.Context(), r, req.Hostname)
	if err != nil {
		return err
	}
	if err := a.Store.SetInUse(r.Context(), m.Hostname, *req.Status); err != nil {
		return err
	}
	return updated(w)
}

func (a *API) reportMetrics(w http.ResponseWriter, r *http.Request) error {
	httpx.Quiet(r)
	var req wire.MetricsRequest
	if err := httpx.ReadJSON(r, &req); err != nil {
		return err
	}
	cloudInit := store.Phase{Start: req.CloudInitStart, End: req.CloudInitEnd, Seconds: req.CloudInitDuration}
	container := store.Phase{Start: first(req.ContainerStart, req.ContainerStartTime),
		End: first(req.ContainerEnd, req.ContainerEndTime), Seconds: req.ContainerDuration}
	for name, p := range map[string]store.Phase{"cloud_init": cloudInit, "container": container} {
		if err := checkPhase(name, p); err != nil {
			return err
		}
	}
	m, err := a.machine(r.Context(), r, r.PathValue("hostname"))
	if err != nil {
		return err
	}
	if err := a.Store.SetStartup(r.Context(), m.Hostname, cloudInit, container); err != nil {
		return err
	}
	return updated(w)
}

func first(a, b *float64) *float64 {
	if a != nil {
		return a
	}
	return b
}

// checkPhase refuses what cannot be a time, before PostgreSQL does.
func checkPhase(name string, p store.Phase) error {
	const year3000 = 32503680000
	for _, t := range []*float64{p.Start, p.End} {
		if t != nil && (*t < 0 || *t > year3000) {
			return fleet.FieldErrorf(name, "%s: start and end are Unix seconds, %g is none", name, *t)
		}
	}
	if p.Seconds != nil && (*p.Seconds < 0 || *p.Seconds > year3000) {
		return fleet.FieldErrorf(name, "%s: a duration of %g seconds is impossible", name, *p.Seconds)
	}
	if p.Start != nil && p.End != nil && *p.End < *p.Start {
		return fleet.FieldErrorf(name, "%s ends before it starts", name)
	}
	return nil
}

// bearer returns the token of a VM, and whether there is an Authorization at all.
func bearer(r *http.Request) (token string, given bool) {
	header := r.Header.Get("Authorization")
	scheme, token, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return "", header != ""
	}
	return strings.TrimSpace(token), true
}
