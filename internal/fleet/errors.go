package fleet

import (
	"errors"
	"fmt"
	"time"
)

// Kind sorts errors by what the caller can do about them. Package httpx holds
// the one table that turns a Kind into an HTTP status.
type Kind int

// The kinds of error. Anything that is not an *Error is Internal, and its text
// is for the log alone.
const (
	Internal         Kind = iota // our fault: logged, never shown
	Invalid                      // the request is wrong; the message says how to mend it
	Unauthenticated              // no valid credential
	Forbidden                    // a valid credential, but not for this
	NotFound                     // no such thing
	Unprocessable                // the request is understood, but what it gives is not good
	Conflict                     // the thing is in a state that forbids this
	TooLarge                     // a body or list over its limit
	UnsupportedMedia             // not the content type this route takes
	Limited                      // too many requests or attempts; RetryAfter says when
	Unavailable                  // cannot be done now, may work later
)

// Error is an error that may be shown to whoever caused it.
type Error struct {
	Kind       Kind
	Field      string        // the form or JSON field at fault, if one is
	Message    string        // what was wrong, with which value, and what to do
	RetryAfter time.Duration // for Limited and Unavailable: when to try again, 0 if unknown
	Err        error         // the cause, for the log
}

// Error returns the message, and the cause where there is one.
func (e *Error) Error() string {
	if e.Err != nil {
		return e.Message + ": " + e.Err.Error()
	}
	return e.Message
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an Error of a kind. The message is shown to users: it holds no
// secret and no internals.
func Errorf(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Message: fmt.Sprintf(format, args...)}
}

// FieldErrorf makes an Invalid error about one field of a form or JSON body.
func FieldErrorf(field, format string, args ...any) *Error {
	return &Error{Kind: Invalid, Field: field, Message: fmt.Sprintf(format, args...)}
}

// KindOf returns the Kind of err, Internal if it is not an Error.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Internal
}
