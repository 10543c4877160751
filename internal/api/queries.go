package api

import (
	"net/http"

	"lablink/internal/fleet"
	"lablink/internal/httpx"
)

// The queries are public: they tell names and statuses, never who holds a VM.

func (a *API) freeCount(w http.ResponseWriter, r *http.Request) error {
	httpx.Quiet(r)
	n, err := a.Store.FreeCount(r.Context())
	if err != nil {
		return err
	}
	return httpx.WriteJSON(w, http.StatusOK, map[string]int{"count": n})
}

func (a *API) statuses(w http.ResponseWriter, r *http.Request) error {
	statuses, err := a.Store.Statuses(r.Context())
	if err != nil {
		return err
	}
	if len(statuses) == 0 {
		return fleet.Errorf(fleet.NotFound, "there are no VMs")
	}
	return httpx.WriteJSON(w, http.StatusOK, statuses)
}

func (a *API) status(w http.ResponseWriter, r *http.Request) error {
	v, err := a.Store.VM(r.Context(), r.PathValue("hostname"))
	if err != nil {
		return err
	}
	return httpx.WriteJSON(w, http.StatusOK, map[string]string{"hostname": v.Hostname, "status": string(v.Status)})
}
