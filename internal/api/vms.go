package api

import (
	"net/http"

	"lablink/internal/fleet"
	"lablink/internal/httpx"
)

type registered struct {
	Hostname string `json:"hostname"`
	Token    string `json:"token"` // shown this once
}

// registerVMs adds machines that were set up by hand.
func (a *API) registerVMs(w http.ResponseWriter, r *http.Request) error {
	var req struct {
		Hostname  *string  `json:"hostname"`
		Hostnames []string `json:"hostnames"`
	}
	if err := httpx.ReadJSON(r, &req); err != nil {
		return err
	}
	names := req.Hostnames
	switch {
	case req.Hostname != nil && req.Hostnames != nil:
		return fleet.FieldErrorf("hostname", "send hostname or hostnames, not both")
	case req.Hostname != nil:
		names = []string{*req.Hostname}
	}
	if err := fleet.ValidateHostnames(names); err != nil {
		return err
	}
	made := make([]registered, len(names))
	hashes := make([][]byte, len(names))
	for i, name := range names {
		made[i] = registered{Hostname: name, Token: fleet.NewToken()}
		hashes[i] = fleet.HashToken(made[i].Token)
	}
	if err := a.Store.RegisterVMs(r.Context(), httpx.ActorOf(r, "admin"), names, hashes, a.MaxRegistered); err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "no-store")
	if req.Hostname != nil {
		return httpx.WriteJSON(w, http.StatusCreated, made[0])
	}
	return httpx.WriteJSON(w, http.StatusCreated, map[string]any{"vms": made})
}

func (a *API) removeVM(w http.ResponseWriter, r *http.Request) error {
	if err := a.Store.RemoveVM(r.Context(), httpx.ActorOf(r, "admin"), r.PathValue("hostname")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
