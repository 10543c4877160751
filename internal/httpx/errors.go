// Package httpx is what pages and JSON endpoints share: the one table from kinds
// of error to HTTP statuses, handlers that return errors, log-ins, limits, and
// the log of requests.
package httpx

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"lablink/internal/fleet"
)

// statuses is the only place where a kind of error becomes an HTTP status.
var statuses = map[fleet.Kind]int{
	fleet.Internal:         http.StatusInternalServerError,
	fleet.Invalid:          http.StatusBadRequest,
	fleet.Unauthenticated:  http.StatusUnauthorized,
	fleet.Forbidden:        http.StatusForbidden,
	fleet.NotFound:         http.StatusNotFound,
	fleet.Unprocessable:    http.StatusUnprocessableEntity,
	fleet.Conflict:         http.StatusConflict,
	fleet.TooLarge:         http.StatusRequestEntityTooLarge,
	fleet.UnsupportedMedia: http.StatusUnsupportedMediaType,
	fleet.Limited:          http.StatusTooManyRequests,
	fleet.Unavailable:      http.StatusServiceUnavailable,
}

// Status returns the HTTP status of a kind of error.
func Status(k fleet.Kind) int { return statuses[k] }

// Handler is an HTTP handler that returns what went wrong instead of writing it.
// It returns an error only while nothing of the answer is written.
type Handler func(w http.ResponseWriter, r *http.Request) error

// ErrorWriter writes an error that may be shown, as a page or as JSON.
type ErrorWriter func(w http.ResponseWriter, r *http.Request, status int, e *fleet.Error)

// Adapt makes an http.Handler of h. Internal errors go to the log, with the
// request's id, and the caller learns only that id.
func Adapt(h Handler, write ErrorWriter) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := h(w, r)
		if err == nil {
			return
		}
		WriteError(w, r, err, write)
	})
}

// handlerTimeout is how long an ordinary request may wait for the database. A
// silent one would otherwise hold requests, and what they hold, for as long as
// their callers wait.
const handlerTimeout = 15 * time.Second

// Bounded puts a time limit on a handler. Polls and event streams go without it
// and bound each of their reads.
func Bounded(h Handler) Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		ctx, cancel := context.WithTimeout(r.Context(), handlerTimeout)
		defer cancel()
		return h(w, r.WithContext(ctx))
	}
}

// WriteError logs what must be logged of err and writes the rest.
func WriteError(w http.ResponseWriter, r *http.Request, err error, write ErrorWriter) {
	var shown *fleet.Error
	switch {
	case errors.As(err, &shown):
		if shown.Err != nil {
			Logger(r.Context()).Warn("request refused", "error", err)
		}
	case r.Context().Err() != nil && errors.Is(err, context.Canceled):
		// The caller has gone, or the server stops: nobody reads this answer.
		shown = fleet.Errorf(fleet.Unavailable, "The request was cancelled.")
	case errors.Is(err, context.DeadlineExceeded):
		Logger(r.Context()).Error("request timed out", "error", err)
		shown = fleet.Errorf(fleet.Unavailable, "That took too long. Try again in a moment.")
	default:
		Logger(r.Context()).Error("request failed", "error", err)
		shown = fleet.Errorf(fleet.Internal, "Something went wrong here. Try again; if it happens again, tell the organiser this number: %s", RequestID(r.Context()))
	}
	if shown.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(shown.RetryAfter.Seconds())+1))
	}
	write(w, r, Status(shown.Kind), shown)
}

// Logger returns the logger of the request, which adds its id to every line.
func Logger(ctx context.Context) *slog.Logger {
	if info := infoOf(ctx); info != nil {
		return info.logger
	}
	return slog.Default()
}
