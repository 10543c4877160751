package store_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"lablink/internal/fleet"
	"lablink/internal/store"
)

// A VM in error may say why, and what it said is forgotten when it is well again.
func TestStore_SetError(t *testing.T) {
	t.Parallel()
	s := open(t)
	actor, name := fleet.Actor{Kind: "vm"}, register(t, s, 1)[0]
	problem := func(want string) {
		t.Helper()
		v := vm(t, s, name)
		if v.Problem != want || (v.Status == fleet.StatusError) != (want != "") {
			t.Errorf("%s, %q, want %q", v.Status, v.Problem, want)
		}
		list, _, err := s.VMs(t.Context(), store.VMFilter{})
		if err != nil || len(list) != 1 || list[0].Problem != want {
			t.Errorf("listed: %+v, %v", list, err)
		}
	}
	must(t, s.SetError(t.Context(), actor, name, "no disk"))
	problem("no disk")
	must(t, s.SetError(t.Context(), actor, name, "no disk")) // repeated, as agents do
	must(t, s.SetError(t.Context(), actor, name, "no \x00display"))
	problem("no display")
	must(t, s.SetStatus(t.Context(), actor, name, fleet.StatusRunning))
	problem("")
	must(t, s.SetError(t.Context(), actor, name, strings.Repeat("ü", 600)))
	problem(strings.Repeat("ü", 500))
	history(t, s, vm(t, s, name).ID, "registered//admin", "status running/was unknown/vm", "status error/no disk/vm", "status error/no display/vm",
		"status running/was error/vm", "status error/"+strings.Repeat("ü", 500)+"/vm")
}

// The secrets of a seat do not get into a reason, which organisers read and copy.
func TestStore_SetErrorSecrets(t *testing.T) {
	t.Parallel()
	s := open(t)
	commands := []string{"%s", "start-host --code %s --name=$(hostname)", "start-host --code='%s'", "start-host \\\n--code \\\n\"%s\""}
	register(t, s, len(commands))
	for n, command := range commands {
		req := request(n)
		if text := fmt.Sprintf(command, req.Command.Code); n > 0 {
			req.Command.Text = text // as somebody typed it
		}
		seat, err := s.Assign(t.Context(), req)
		must(t, err)
		says := func(reason, want string) {
			t.Helper()
			must(t, s.SetError(t.Context(), fleet.Actor{Kind: "vm"}, seat.Hostname, reason))
			if v := vm(t, s, seat.Hostname); v.Problem != want {
				t.Errorf("%q: %q, want %q", req.Command.Text, v.Problem, want)
			}
		}
		says("code="+req.Command.Code+" pin="+req.PIN+".", "code=[code] pin=[pin].")
		dots := strings.Repeat(".", 496)
		says(dots+req.Command.Code, dots+"[cod")
	}
}

// While Terraform makes a VM, what the VM says waits for the end of that.
func TestStore_SetErrorInCreation(t *testing.T) {
	t.Parallel()
	s := open(t)
	op := launch(t, s, 2)
	c := claim(t, workspace(t, s))
	for _, name := range names(op) {
		must(t, s.SetError(t.Context(), fleet.Actor{Kind: "vm"}, name, "no image"))
		if v := vm(t, s, name); v.Status != fleet.StatusProvisioning || v.Problem != "" {
			t.Errorf("in creation: %+v", v)
		}
	}
	must(t, c.Created(t.Context(), ids(op)[:1], times(1, time.Now())))
	must(t, c.Failed(t.Context(), ids(op)[1:], []string{"no room"}))
	if v := vm(t, s, names(op)[0]); v.Status != fleet.StatusError || v.Problem != "no image" {
		t.Errorf("made: %+v", v)
	}
	if v := vm(t, s, names(op)[1]); v.Status != fleet.StatusError || v.Problem != "" {
		t.Errorf("not made: %+v", v)
	}
}
