package web

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"lablink/internal/fleet"
)

// moment is a time as people read it and as machines do.
type moment struct {
	Words string // empty if the time is unknown
	ISO   string
	Exact string
}

func momentOf(t, now time.Time) moment {
	if t.IsZero() {
		return moment{}
	}
	return moment{ago(now.Sub(t)), t.UTC().Format(time.RFC3339), t.UTC().Format("2 Jan 2006 15:04:05 MST")}
}

func ago(d time.Duration) string { return span(d) + " ago" }

// span is about how long something lasts.
func span(d time.Duration) string {
	switch {
	case d < time.Minute:
		return "a moment"
	case d < time.Hour:
		return count(int(d/time.Minute), "minute")
	case d < 48*time.Hour:
		return count(int(d/time.Hour), "hour")
	default:
		return count(int(d/(24*time.Hour)), "day")
	}
}

// took says how long something lasted, "" if that is unknown.
func took(d time.Duration) string {
	switch {
	case d <= 0:
		return ""
	case d < 100*time.Millisecond:
		return "under 0.1 s"
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	default:
		return fmt.Sprintf("%d min %02d s", int(d.Minutes()), int(d.Seconds())%60)
	}
}

func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

func thereAre(n int, thing string) string {
	switch n {
	case 0:
		return "There are no " + thing + "s"
	case 1:
		return "There is 1 " + thing
	default:
		return "There are " + count(n, thing)
	}
}

// capitalized begins a message with a capital, unless it begins with a name.
func capitalized(s string) string {
	first, _, _ := strings.Cut(s, " ")
	if strings.ContainsFunc(first, func(r rune) bool { return !unicode.IsLetter(r) }) {
		return s
	}
	return upperFirst(s)
}

func upperFirst(s string) string {
	r, size := utf8.DecodeRuneInString(s)
	if size == 0 {
		return s
	}
	return string(unicode.ToUpper(r)) + s[size:]
}

// maskedEmail lets its owner recognise an address, and nobody else read it.
func maskedEmail(email string) string {
	local, domain, _ := strings.Cut(email, "@")
	r, size := utf8.DecodeRuneInString(local)
	if size == 0 {
		return "…"
	}
	return string(r) + "…@" + domain
}

// spacedPIN groups digits as people read them out.
func spacedPIN(pin string) []string {
	if len(pin) < 6 || len(pin)%3 != 0 {
		return []string{pin}
	}
	var groups []string
	for ; pin != ""; pin = pin[3:] {
		groups = append(groups, pin[:3])
	}
	return groups
}

// tone is how much attention something wants. The words always say it too.
type tone string

const (
	toneGood tone = "good" // ready, or free
	toneBusy tone = "busy" // something is under way
	toneIdle tone = "idle" // nothing to do
	toneBad  tone = "bad"  // somebody must look
)

// condition is the state of a VM in plain words.
type condition struct {
	Words string
	Note  string // a second line, such as the reason
	Tone  tone
}

// overdue is how long a seat has been in a state that only its VM can end, 0
// while that is no wonder.
func overdue(s fleet.SeatState, changed, now time.Time) time.Duration {
	since := now.Sub(changed)
	if !s.Pending() || changed.IsZero() || since < fleet.OverdueAfter {
		return 0
	}
	return since
}

func conditionOf(v fleet.VM, now time.Time) condition {
	c := seatCondition(v)
	if late := overdue(v.Seat, v.SeatChanged, now); late > 0 {
		c.Note, c.Tone = joinNotes(c.Note, "Not finished after "+span(late)+"."), toneBad
	}
	if v.Seat != fleet.SeatNone {
		switch {
		case v.Status == fleet.StatusError:
			c.Note = joinNotes(joinNotes(c.Note, "The machine reports an error."), reasonOf("", v.Problem).Short)
		case v.Health == fleet.Unhealthy:
			c.Note = joinNotes(c.Note, "The GPU is unhealthy.")
		}
	}
	return c
}

func joinNotes(a, b string) string { return strings.TrimSpace(a + " " + b) }

func seatCondition(v fleet.VM) condition {
	switch v.Seat {
	case fleet.SeatRequested:
		if v.Waiting {
			return condition{"sending the participant's command", "", toneBusy}
		}
		return condition{"not answering", "A participant's command waits for it.", toneBad}
	case fleet.SeatDelivered:
		return condition{"being set up", "", toneBusy}
	case fleet.SeatConnected:
		return condition{"ready for its participant", "", toneGood}
	case fleet.SeatAssumed:
		return condition{"should be ready", "Its client reports no result.", toneGood}
	case fleet.SeatFailed:
		return condition{"set-up failed", v.Reason, toneBad}
	case fleet.SeatReleasing:
		if v.Waiting {
			return condition{"being cleaned", "", toneBusy}
		}
		return condition{"to be cleaned", "Starts when its agent is back.", toneBusy}
	case fleet.SeatUnclean:
		return condition{"clean-up failed", v.Reason, toneBad}
	case fleet.SeatNone:
	}
	return statusCondition(v)
}

func statusCondition(v fleet.VM) condition {
	if v.Creation == fleet.CreationFailed && v.Status != fleet.StatusDestroyed {
		return condition{"could not be created", "Try again or remove it from its operation's page.", toneBad}
	}
	switch v.Status {
	case fleet.StatusRunning:
		switch {
		case v.Health == fleet.Unhealthy:
			return condition{"GPU unhealthy", "Not given to participants.", toneBad}
		case v.Waiting:
			return condition{"waiting for a participant", "", toneGood}
		default:
			return condition{"free, but not connected", "Given away only when no other is left.", toneIdle}
		}
	case fleet.StatusProvisioning:
		if v.Creation == fleet.CreationDone {
			return condition{"booting", "", toneBusy} // the machine is there, and its agent not yet
		}
		return condition{"being created", "", toneBusy}
	case fleet.StatusInitializing:
		return condition{"starting", "", toneBusy}
	case fleet.StatusRebooting:
		return condition{"rebooting", "", toneBusy}
	case fleet.StatusError:
		return condition{"reports an error", joinNotes("Not given to participants.", reasonOf("", v.Problem).Short), toneBad}
	case fleet.StatusDestroyed:
		return condition{"destroyed", "", toneIdle}
	case fleet.StatusUnknown:
	}
	if v.LastSeen.IsZero() {
		return condition{"not heard of yet", "Start its agent.", toneIdle}
	}
	return condition{"state unknown", "Its agent has not said that it is ready.", toneIdle}
}

// shortage says why no VM is free, and what will change that.
func shortage(c fleet.Counts) string {
	if c.Total == 0 {
		return "No VM has been created yet. The organiser has to start some first."
	}
	var taken int
	for state, n := range c.Seats {
		if state.Held() {
			taken += n
		}
	}
	cleaning, unclean := c.Seats[fleet.SeatReleasing], c.Seats[fleet.SeatUnclean]
	starting := max(0, c.Seats[fleet.SeatNone]-c.Broken) // the store counts the two one after the other
	var parts []string
	for _, group := range []struct {
		n         int
		one, many string
	}{
		{taken, "is taken", "are taken"},
		{starting, "is still starting", "are still starting"},
		{cleaning, "is being cleaned for the next person", "are being cleaned for the next person"},
		{c.Broken + unclean, "has a problem that the organiser must look at", "have a problem that the organiser must look at"},
	} {
		switch {
		case group.n == c.Total:
			if c.Total == 1 {
				return "The only VM " + group.one + "."
			}
			return fmt.Sprintf("All %d VMs %s.", group.n, group.many)
		case group.n == 1:
			parts = append(parts, "1 "+group.one)
		case group.n > 1:
			parts = append(parts, fmt.Sprintf("%d %s", group.n, group.many))
		}
	}
	if len(parts) == 0 {
		return "No VM is free right now."
	}
	return fmt.Sprintf("No VM is free right now: of %d, %s.", c.Total, sentence(parts))
}

func sentence(parts []string) string {
	if len(parts) == 1 {
		return parts[0]
	}
	return strings.Join(parts[:len(parts)-1], ", ") + " and " + parts[len(parts)-1]
}
