package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"time"

	"lablink/internal/agent/simhost"
	"lablink/internal/fleet"
)

// playParticipant goes the way of a participant through the phases that are
// left when the VMs wait.
func (d *demo) playParticipant(ctx context.Context) (seat, error) {
	whole := time.Now()
	began := whole
	s, err := d.requestVM(ctx, "ada@example.org", fleet.CommandFor(d.code))
	if err != nil {
		return s, fmt.Errorf("phase 3: %w", err)
	}
	d.took(fmt.Sprintf("Phase 3: pasted it, and got %s with PIN %s", s.Hostname, s.PIN), began)

	began = time.Now()
	err = d.watch(ctx, phaseTimeout, s.Hostname+" to be set up", func() (bool, error) {
		vm, err := d.store.VM(ctx, s.Hostname)
		if err == nil && vm.Seat == fleet.SeatFailed {
			err = fmt.Errorf("%s could not be set up: %s", vm.Hostname, vm.Reason)
		}
		return vm.Seat == fleet.SeatConnected, err
	})
	if err != nil {
		return s, fmt.Errorf("phase 4: %w", err)
	}
	d.took("Phase 4: "+s.Hostname+" woke up and configured itself", began)

	began = time.Now()
	if err := simhost.Access(d.home(s.Hostname), s.Hostname, s.PIN); err != nil {
		return s, fmt.Errorf("phase 5: %w", err)
	}
	d.took("Phase 5: opened "+s.Hostname+" with the PIN (simulated)", began)

	n, err := d.store.FreeCount(ctx)
	if err != nil {
		return s, err
	}
	if n != d.VMs-1 {
		return s, fmt.Errorf("%d VMs are still free, there should be %d", n, d.VMs-1)
	}
	d.took("Still waiting: "+counted(n)+". From paste to desktop:", whole)
	return s, nil
}

type seat struct {
	Hostname string `json:"hostname"`
	PIN      string `json:"pin"`
}

// requestVM opens the home page, as a browser does, and sends its form.
func (d *demo) requestVM(ctx context.Context, email, command string) (seat, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return seat{}, err
	}
	client := &http.Client{Jar: jar, Timeout: phaseTimeout}
	home, err := http.NewRequestWithContext(ctx, http.MethodGet, d.url+"/", nil)
	if err != nil {
		return seat{}, err
	}
	resp, err := client.Do(home)
	if err != nil {
		return seat{}, err
	}
	_ = resp.Body.Close() // only read from
	if resp.StatusCode != http.StatusOK {
		return seat{}, fmt.Errorf("the home page answers %s", resp.Status)
	}

	form := url.Values{"email": {email}, "crd_command": {command}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.url+"/api/request_vm", strings.NewReader(form.Encode()))
	if err != nil {
		return seat{}, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	resp, err = client.Do(req)
	if err != nil {
		return seat{}, err
	}
	defer func() { _ = resp.Body.Close() }() // only read from
	var answer struct {
		seat
		Error string `json:"error"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return seat{}, fmt.Errorf("the form answers %s and no JSON: %w", resp.Status, err)
	}
	if resp.StatusCode != http.StatusOK {
		return seat{}, fmt.Errorf("the form answers %s: %s", resp.Status, answer.Error)
	}
	return answer.seat, nil
}
