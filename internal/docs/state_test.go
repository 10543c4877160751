package docs_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"lablink/internal/fleet"
)

// TestStateMachine compares docs/state-machine.md with the tables of package
// fleet.
func TestStateMachine(t *testing.T) {
	t.Parallel()
	generated(t, "state-machine.md", map[string]string{
		"seat diagram": seatDiagram(), "seat states": seatTable(), "seat events": eventTable(),
		"vm statuses": statusTable(), "operation diagram": operationDiagram(),
	})
}

// seatDiagram draws every transition. Those from a state to itself are left to
// the table: they change nothing, or start the same thing anew.
func seatDiagram() string {
	var b strings.Builder
	b.WriteString("```mermaid\nstateDiagram-v2\n    [*] --> none\n")
	for _, from := range fleet.SeatStates {
		for _, to := range fleet.SeatStates {
			var events []string
			for _, e := range fleet.SeatEvents {
				if next, ok := from.Next(e); ok && next == to && from != to {
					events = append(events, string(e))
				}
			}
			if len(events) > 0 {
				fmt.Fprintf(&b, "    %s --> %s: %s\n", from, to, strings.Join(events, ", "))
			}
		}
	}
	b.WriteString("```\n")
	return b.String()
}

func seatTable() string {
	var b strings.Builder
	b.WriteString("| state | held by a participant | something for the agent to fetch | events that are taken |\n| --- | --- | --- | --- |\n")
	for _, s := range fleet.SeatStates {
		var events []string
		for _, e := range fleet.SeatEvents {
			if _, ok := s.Next(e); ok {
				events = append(events, "`"+string(e)+"`")
			}
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", s, yes(s.Held()), yes(s.Pending()), strings.Join(events, ", "))
	}
	return b.String()
}

func eventTable() string {
	var b strings.Builder
	b.WriteString("| event | taken in | leads to |\n| --- | --- | --- |\n")
	for _, e := range fleet.SeatEvents {
		from := fleet.From(e)
		names := make([]string, len(from))
		for i, s := range from {
			names[i] = "`" + string(s) + "`"
		}
		to, ok := from[0].Next(e)
		if !ok {
			panic("From names a state in which the event is refused")
		}
		fmt.Fprintf(&b, "| `%s` | %s | `%s` |\n", e, strings.Join(names, ", "), to)
	}
	return b.String()
}

func statusTable() string {
	var b strings.Builder
	b.WriteString("| status | a VM may report it | a VM without a seat may be given away |\n| --- | --- | --- |\n")
	for _, s := range []fleet.Status{
		fleet.StatusProvisioning, fleet.StatusInitializing, fleet.StatusRunning, fleet.StatusRebooting,
		fleet.StatusError, fleet.StatusUnknown, fleet.StatusDestroyed,
	} {
		free := "no"
		if (fleet.VM{Status: s, Seat: fleet.SeatNone}).Free() {
			free = "yes"
			if !(fleet.VM{Status: s, Seat: fleet.SeatNone, Health: fleet.Unhealthy}).Free() {
				free += ", unless its GPU is `" + string(fleet.Unhealthy) + "`"
			}
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", s, yes(slices.Contains(fleet.Reportable, s)), free)
	}
	return b.String()
}

func operationDiagram() string {
	var b strings.Builder
	fmt.Fprintf(&b, "```mermaid\nstateDiagram-v2\n    [*] --> %s\n", fleet.OperationPending)
	for _, from := range fleet.OperationStates {
		for _, to := range fleet.OperationStates {
			if from.CanMove(to) {
				fmt.Fprintf(&b, "    %s --> %s\n", from, to)
			}
		}
		if from.Final() {
			fmt.Fprintf(&b, "    %s --> [*]\n", from)
		}
	}
	b.WriteString("```\n")
	return b.String()
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return ""
}
