package fleet

import "time"

// SeatState says how far the tie between a VM and a participant has come. It is
// a column of the VM: a VM holds at most one seat by construction.
type SeatState string

// The states of a seat.
const (
	SeatNone      SeatState = "none"      // nobody has this VM
	SeatRequested SeatState = "requested" // a code waits for the agent to take it
	SeatDelivered SeatState = "delivered" // the agent took it and sets Chrome Remote Desktop up
	SeatConnected SeatState = "connected" // the agent said that start-host succeeded
	SeatAssumed   SeatState = "assumed"   // handed to a client that reports no result: should be ready
	SeatFailed    SeatState = "failed"    // start-host refused; a fresh code is needed
	SeatReleasing SeatState = "releasing" // given up; the agent must still take the desktop off the last Google account
	SeatUnclean   SeatState = "unclean"   // the agent could not do that; an admin must look
)

// SeatStates lists every state, in the order in which a seat lives through them.
var SeatStates = []SeatState{
	SeatNone, SeatRequested, SeatDelivered, SeatConnected, SeatAssumed, SeatFailed, SeatReleasing, SeatUnclean,
}

// SeatEvent is something that moves a seat from one state to another.
type SeatEvent string

// The events of a seat.
const (
	EventRequest     SeatEvent = "request"      // a participant gets a free VM
	EventRenew       SeatEvent = "renew"        // the participant brings a fresh code for the same VM
	EventDeliver     SeatEvent = "deliver"      // the code was written to the agent's poll
	EventAssume      SeatEvent = "assume"       // the same, to a client that reports no result
	EventConnect     SeatEvent = "connect"      // the agent reports success
	EventFail        SeatEvent = "fail"         // the agent reports failure
	EventRelease     SeatEvent = "release"      // an admin ends the seat, or asks again for a failed clean-up
	EventClean       SeatEvent = "clean"        // the agent (or an admin, by hand) confirms the clean-up
	EventCleanFailed SeatEvent = "clean-failed" // the agent could not clean up
)

// SeatEvents lists every event.
var SeatEvents = []SeatEvent{
	EventRequest, EventRenew, EventDeliver, EventAssume, EventConnect, EventFail, EventRelease, EventClean, EventCleanFailed,
}

// transitions is the whole life of a seat. What is absent is refused. Results
// are taken in "requested" too: the agent may have acted on an answer whose
// delivery the allocator did not live to record. Destruction of the VM ends a
// seat from any state and is no event of the seat.
var transitions = map[SeatEvent]map[SeatState]SeatState{
	EventRequest: {SeatNone: SeatRequested},
	EventRenew: {
		SeatRequested: SeatRequested, SeatDelivered: SeatRequested, SeatConnected: SeatRequested,
		SeatAssumed: SeatRequested, SeatFailed: SeatRequested,
	},
	EventDeliver: {SeatRequested: SeatDelivered, SeatDelivered: SeatDelivered},
	EventAssume:  {SeatRequested: SeatAssumed, SeatDelivered: SeatAssumed},
	EventConnect: {
		SeatRequested: SeatConnected, SeatDelivered: SeatConnected, SeatAssumed: SeatConnected, SeatConnected: SeatConnected,
	},
	EventFail: {
		SeatRequested: SeatFailed, SeatDelivered: SeatFailed, SeatAssumed: SeatFailed, SeatFailed: SeatFailed,
	},
	EventRelease: {
		SeatRequested: SeatReleasing, SeatDelivered: SeatReleasing, SeatConnected: SeatReleasing,
		SeatAssumed: SeatReleasing, SeatFailed: SeatReleasing, SeatUnclean: SeatReleasing,
	},
	EventClean:       {SeatReleasing: SeatNone, SeatUnclean: SeatNone},
	EventCleanFailed: {SeatReleasing: SeatUnclean, SeatUnclean: SeatUnclean},
}

// Next returns the state that follows, and false where the event is refused.
func (s SeatState) Next(e SeatEvent) (SeatState, bool) {
	next, ok := transitions[e][s]
	return next, ok
}

// From lists the states in which an event is allowed. The store names them in
// the WHERE of every change, so that the database refuses what a stale reader
// would do.
func From(e SeatEvent) []SeatState {
	var from []SeatState
	for _, s := range SeatStates {
		if _, ok := transitions[e][s]; ok {
			from = append(from, s)
		}
	}
	return from
}

// Held reports whether a participant holds the VM.
func (s SeatState) Held() bool {
	switch s {
	case SeatRequested, SeatDelivered, SeatConnected, SeatAssumed, SeatFailed:
		return true
	default:
		return false
	}
}

// Pending reports whether there is something for the agent to fetch: it is
// delivered until the agent acknowledges it.
func (s SeatState) Pending() bool {
	return s == SeatRequested || s == SeatDelivered || s == SeatReleasing
}

// OverdueAfter is how long a VM may take to fetch what waits for it, or to say
// what became of it, until somebody should look.
const OverdueAfter = 3 * time.Minute

// Seat is what a participant holds.
type Seat struct {
	ID       int64
	Hostname string
	Email    string
	PIN      string
	State    SeatState
	Reason   string    // why it failed, in words for the participant
	Since    time.Time // when the seat was assigned
	Changed  time.Time // when the state last changed
	Waiting  bool      // the VM's agent is in a held poll now
}
