package crd

import (
	"errors"
	"io/fs"
	"os/exec"
	"strings"
)

// Error is a set-up or clean-up that did not succeed. Reason speaks to the
// participant (or, after a clean-up, to the admin); Err is for the VM's log.
// Neither holds a secret.
type Error struct {
	Reason string
	Err    error
}

// Error returns the reason and the cause.
func (e *Error) Error() string { return e.Reason + " (" + e.Err.Error() + ")" }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Reasons why a set-up fails, in words for the participant.
const (
	ReasonCode       = "Google did not accept the code. A code works only once and only for a few minutes: get a fresh one and paste it."
	ReasonNetwork    = "The VM could not reach Google. Wait a minute, then get a fresh code and paste it. If it happens again, tell your organiser."
	ReasonDenied     = "Google does not let this account set up a remote desktop, as some school and work accounts. Get a fresh code with another Google account and paste it."
	ReasonRegister   = "Google could not register this VM. Get a fresh code and paste it. If it happens again, tell your organiser."
	ReasonPIN        = "Chrome Remote Desktop did not take the PIN. Get a fresh code and paste it. If it happens again, tell your organiser."
	ReasonService    = "The VM could not start its remote desktop. Tell your organiser; the VM's log says why."
	ReasonSlow       = "The VM took too long to set itself up. Get a fresh code and paste it. If it happens again, tell your organiser."
	ReasonMissing    = "Chrome Remote Desktop is not ready on this VM. Tell your organiser; you need another VM or a repair of this one."
	ReasonIncomplete = "This VM's Chrome Remote Desktop did not understand the command. Tell your organiser."
	ReasonOther      = "The VM could not set itself up. Get a fresh code and paste it. If it happens again, tell your organiser."
)

// verdicts map what Google's start-host prints to a reason, the first match
// counting. It exits 1 whatever went wrong, so its words decide. Its final line
// stands before hints from the log lines, which differ between versions.
var verdicts = []struct{ words, reason string }{
	{"couldn't start host: oauth error", ReasonCode},
	{"couldn't start host: network error", ReasonNetwork},
	{"couldn't start host: permission denied", ReasonDenied},
	{"couldn't start host: registration error", ReasonRegister},
	{"couldn't start host", ReasonService},
	{"due to an oauth error", ReasonCode},
	{"invalid_grant", ReasonCode},
	{"due to a network error", ReasonNetwork},
	{"failed to start host", ReasonService},
	{"failed to enable host service", ReasonService},
	{"refusing to run script as root", ReasonService},
	{"at least one of the following args must be provided", ReasonService}, // run as root: --user is missing
	{"you entered different pins", ReasonPIN},
	{"consisting of at least six digits", ReasonPIN},
	{"https://remotedesktop.google.com/headless", ReasonIncomplete},
}

func reasonFor(r result) string {
	output := strings.ToLower(r.output)
	switch {
	case errors.Is(r.err, exec.ErrNotFound), errors.Is(r.err, fs.ErrNotExist), errors.Is(r.err, fs.ErrPermission):
		return ReasonMissing
	case errors.Is(r.err, errRunaway):
		return ReasonPIN // its PIN dialogue is the one loop that start-host has
	case r.late:
		return ReasonSlow
	}
	for _, v := range verdicts {
		if strings.Contains(output, v.words) {
			return v.reason
		}
	}
	return ReasonOther
}
