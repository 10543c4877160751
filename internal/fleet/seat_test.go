package fleet

import (
	"slices"
	"testing"
)

// The life of a seat has no dead end, and nothing leads out of the table.
func TestSeatStates(t *testing.T) {
	t.Parallel()
	for e, moves := range transitions {
		if !slices.Contains(SeatEvents, e) {
			t.Errorf("event %q is not listed", e)
		}
		for from, to := range moves {
			if !slices.Contains(SeatStates, from) || !slices.Contains(SeatStates, to) {
				t.Errorf("%s: %s -> %s leads out of the states", e, from, to)
			}
		}
	}
	if len(transitions) != len(SeatEvents) {
		t.Errorf("%d events have transitions, %d are listed", len(transitions), len(SeatEvents))
	}
	for _, s := range SeatStates {
		if !reaches(s, SeatNone) {
			t.Errorf("from %q a VM is never free again", s)
		}
		if !reaches(SeatNone, s) {
			t.Errorf("%q is never reached", s)
		}
	}
}

func reaches(from, to SeatState) bool {
	seen := map[SeatState]bool{from: true}
	for queue := []SeatState{from}; len(queue) > 0; queue = queue[1:] {
		if queue[0] == to {
			return true
		}
		for _, e := range SeatEvents {
			if next, ok := queue[0].Next(e); ok && !seen[next] {
				seen[next] = true
				queue = append(queue, next)
			}
		}
	}
	return false
}

// A desktop that hangs on somebody's Google account is never given away.
func TestSeat_OnlyCleanLeadsToNone(t *testing.T) {
	t.Parallel()
	for e, moves := range transitions {
		for from, to := range moves {
			if to == SeatNone && e != EventClean {
				t.Errorf("%s frees a VM from %s without a clean-up", e, from)
			}
			if from.Held() && to == SeatNone {
				t.Errorf("%s frees a held VM at once", e)
			}
		}
	}
}

func TestHostnamesAndEmails(t *testing.T) {
	t.Parallel()
	for name, ok := range map[string]bool{
		"a": true, "lablink-client-12": true, "0": true, "": false, "-a": false, "a-": false, "a.b": false, "A": false,
		"a_b": false, "ä": false, "a b": false, "<script>": false,
		"a23456789012345678901234567890123456789012345678901234567890123":  true,
		"a234567890123456789012345678901234567890123456789012345678901234": false,
	} {
		if err := ValidateHostname(name); (err == nil) != ok {
			t.Errorf("ValidateHostname(%q) = %v", name, err)
		}
	}
	if err := ValidateHostnames([]string{"a", "b", "a"}); err == nil {
		t.Error("a list with a name twice was accepted")
	}
	if err := ValidateHostnames(nil); err == nil {
		t.Error("an empty list was accepted")
	}
	for in, want := range map[string]string{
		" ada@example.org ": "ada@example.org", "a.b+c@x": "a.b+c@x", "": "", "ada": "", "@x": "", "a@": "", "a@b@c": "",
		"a b@c": "", "a@b\nc": "", "<a@b>": "",
	} {
		got, err := NormalizeEmail(in)
		if got != want && err == nil || (err == nil) != (want != "") {
			t.Errorf("NormalizeEmail(%q) = %q, %v", in, got, err)
		}
	}
}

func TestNewPIN(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 1000 {
		pin := NewPIN()
		if len(pin) != 6 {
			t.Fatalf("PIN %q has not six digits", pin)
		}
		seen[pin] = true
	}
	if len(seen) < 900 {
		t.Errorf("1,000 PINs, only %d different", len(seen))
	}
}
