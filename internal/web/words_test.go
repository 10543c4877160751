package web

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lablink/internal/fleet"
)

func TestAgo(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		-time.Second:     "a moment ago", // clocks differ
		59 * time.Second: "a moment ago",
		time.Minute:      "1 minute ago",
		59 * time.Minute: "59 minutes ago",
		90 * time.Minute: "1 hour ago",
		47 * time.Hour:   "47 hours ago",
		72 * time.Hour:   "3 days ago",
	} {
		if got := ago(d); got != want {
			t.Errorf("ago(%v) = %q, want %q", d, got, want)
		}
	}
	if m := momentOf(time.Time{}, time.Now()); m != (moment{}) {
		t.Errorf("an unknown time is %+v", m)
	}
}

func TestTook(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0: "", -time.Second: "", 12 * time.Millisecond: "under 0.1 s", 1500 * time.Millisecond: "1.5 s", 95 * time.Second: "95 s", 185 * time.Second: "3 min 05 s",
	} {
		if got := took(d); got != want {
			t.Errorf("took(%v) = %q, want %q", d, got, want)
		}
	}
}

func TestMaskedEmail(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"ada@example.org": "a…@example.org", "ö@example.org": "ö…@example.org", "@x": "…", "": "…",
	} {
		if got := maskedEmail(in); got != want {
			t.Errorf("maskedEmail(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestSpacedPIN(t *testing.T) {
	t.Parallel()
	for in, want := range map[string][]string{"123456": {"123", "456"}, "1234567": {"1234567"}, "": {""}} {
		if diff := cmp.Diff(want, spacedPIN(in)); diff != "" {
			t.Error(diff)
		}
	}
}

func TestConditionOverdue(t *testing.T) {
	t.Parallel()
	now := time.Now()
	late := map[fleet.SeatState]bool{fleet.SeatRequested: true, fleet.SeatDelivered: true, fleet.SeatReleasing: true}
	for _, seat := range fleet.SeatStates {
		for _, waiting := range []bool{true, false} {
			v := fleet.VM{Status: fleet.StatusRunning, Seat: seat, Waiting: waiting, SeatChanged: now.Add(-179 * time.Second)}
			if c := conditionOf(v, now); strings.Contains(c.Note, "Not finished") || seat == fleet.SeatDelivered && c.Tone != toneBusy {
				t.Errorf("%s, in time: %+v", seat, c)
			}
			v.SeatChanged = now.Add(-5 * time.Minute)
			if c := conditionOf(v, now); strings.Contains(c.Note, "Not finished after 5 minutes.") != late[seat] || late[seat] && c.Tone != toneBad {
				t.Errorf("%s, late: %+v", seat, c)
			}
		}
	}
}

func TestConditionOfEveryState(t *testing.T) {
	t.Parallel()
	statuses := append([]fleet.Status{fleet.StatusProvisioning}, fleet.Reportable...)
	for _, status := range statuses {
		for _, seat := range fleet.SeatStates {
			for _, health := range []fleet.Health{"", fleet.Healthy, fleet.Unhealthy, fleet.NotApplicable} {
				for _, waiting := range []bool{true, false} {
					v := fleet.VM{Status: status, Seat: seat, Health: health, Waiting: waiting}
					c := conditionOf(v, time.Now())
					if c.Words == "" || c.Tone == "" {
						t.Errorf("%s, %s, %s: %+v", status, seat, health, c)
					}
					if (status == fleet.StatusError || health == fleet.Unhealthy && status == fleet.StatusRunning) &&
						c.Tone != toneBad && !strings.Contains(c.Note, "error") && !strings.Contains(c.Note, "unhealthy") {
						t.Errorf("%s, %s, %s hides the trouble: %+v", status, seat, health, c)
					}
					if v.Free() && c.Tone == toneBad {
						t.Errorf("a free VM looks bad: %+v", c)
					}
				}
			}
		}
	}
}

func TestConditionOfCreation(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status   fleet.Status
		creation fleet.Creation
		want     string
	}{
		{fleet.StatusProvisioning, fleet.CreationPending, "being created"},
		{fleet.StatusProvisioning, fleet.CreationDone, "booting"},
		{fleet.StatusError, fleet.CreationFailed, "could not be created"},
		{fleet.StatusDestroyed, fleet.CreationFailed, "destroyed"},
		{fleet.StatusError, fleet.CreationDone, "reports an error"},
	} {
		if got := conditionOf(fleet.VM{Status: c.status, Creation: c.creation}, time.Now()); got.Words != c.want {
			t.Errorf("%s, creation %s: %+v, want %q", c.status, c.creation, got, c.want)
		}
	}
}

func TestShortage(t *testing.T) {
	t.Parallel()
	type seats = map[fleet.SeatState]int
	for _, c := range []struct {
		counts fleet.Counts
		want   string
	}{
		{fleet.Counts{}, "No VM has been created yet. The organiser has to start some first."},
		{fleet.Counts{Total: 1, Seats: seats{fleet.SeatConnected: 1}}, "The only VM is taken."},
		{fleet.Counts{Total: 1, Seats: seats{fleet.SeatNone: 1}}, "The only VM is still starting."},
		{fleet.Counts{Total: 20, Seats: seats{fleet.SeatNone: 20}}, "All 20 VMs are still starting."},
		{fleet.Counts{Total: 2, Broken: 2, Trouble: 2, Seats: seats{fleet.SeatNone: 2}}, "All 2 VMs have a problem that the organiser must look at."},
		{
			// Two that Terraform could not make, beside three that boot.
			fleet.Counts{Total: 5, Broken: 2, Trouble: 2, Seats: seats{fleet.SeatNone: 5}},
			"No VM is free right now: of 5, 3 are still starting and 2 have a problem that the organiser must look at.",
		},
		{
			fleet.Counts{Total: 3, Trouble: 1, Seats: seats{fleet.SeatConnected: 2, fleet.SeatFailed: 1}},
			"All 3 VMs are taken.",
		},
		{
			fleet.Counts{Total: 3, Seats: seats{fleet.SeatNone: 2, fleet.SeatConnected: 1}},
			"No VM is free right now: of 3, 1 is taken and 2 are still starting.",
		},
		{
			// Trouble with a seat is not a VM that starts.
			fleet.Counts{Total: 2, Trouble: 1, Seats: seats{fleet.SeatNone: 1, fleet.SeatDelivered: 1}},
			"No VM is free right now: of 2, 1 is taken and 1 is still starting.",
		},
		{
			fleet.Counts{Total: 6, Trouble: 3, Broken: 1, Seats: seats{fleet.SeatNone: 3, fleet.SeatReleasing: 1, fleet.SeatUnclean: 1, fleet.SeatFailed: 1}},
			"No VM is free right now: of 6, 1 is taken, 2 are still starting, 1 is being cleaned for the next person and " +
				"2 have a problem that the organiser must look at.",
		},
	} {
		if got := shortage(c.counts); got != c.want {
			t.Errorf("%+v:\n got %q\nwant %q", c.counts, got, c.want)
		}
	}
}

func TestSplitHostnames(t *testing.T) {
	t.Parallel()
	got := splitHostnames("lab-1, lab-2\r\nlab-3;lab-4\n\n")
	if diff := cmp.Diff([]string{"lab-1", "lab-2", "lab-3", "lab-4"}, got); diff != "" {
		t.Error(diff)
	}
	if got := splitHostnames(" ,\n"); len(got) != 0 {
		t.Errorf("%q", got)
	}
}
