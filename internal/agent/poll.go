package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"time"

	"lablink/internal/wire"
)

var (
	errSilence = errors.New("nothing came from the allocator for too long: the connection is dead")
	errCut     = errors.New("the allocator ended the call without an answer")
)

// pollError is a poll without an answer.
type pollError struct {
	err   error
	alive bool // it had been held for a while: this is the end of a poll, not a failure to begin one
}

// Error returns the cause.
func (e *pollError) Error() string { return e.err.Error() }

// Unwrap returns the cause.
func (e *pollError) Unwrap() error { return e.err }

// poll asks the allocator for work and waits for it, days if need be. A 200
// begins with keep-alives; whoever promises them and then falls silent is gone.
func (c *client) poll(ctx context.Context) (wire.StartupReply, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := c.timing.HeaderSilence
	watch := time.AfterFunc(silence, func() { cancel(errSilence) })
	defer watch.Stop()

	var reply wire.StartupReply
	req, err := c.request(ctx, wire.PathStartup, wire.StartupRequest{Hostname: c.hostname, Agent: c.agent})
	if err != nil {
		return reply, &pollError{err: err}
	}
	resp, err := c.http.Do(req)
	if err != nil {
		silent := errors.Is(context.Cause(ctx), errSilence)
		if silent {
			err = errSilence
		}
		return reply, &pollError{err: err, alive: silent}
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return reply, &pollError{err: refusal(resp)}
	}
	if every, ok := keepalive(resp.Header); ok {
		silence = 3*every + c.timing.SilenceMargin
		// This poll may be held for days: say now that the trouble is over. Without
		// the header a 200 may be anybody's, such as a captive portal's.
		c.relieved(wire.PathStartup)
	}
	silence = min(silence, c.timing.MaxSilence)
	watch.Reset(silence)

	data, alive, err := readReply(resp.Body, func() { watch.Reset(silence) })
	switch {
	case errors.Is(context.Cause(ctx), errSilence):
		return reply, &pollError{err: errSilence, alive: true}
	case err != nil:
		return reply, &pollError{err: fmt.Errorf("%w: %w", errCut, err), alive: alive}
	case len(data) == 0:
		return reply, &pollError{err: errCut, alive: alive}
	}
	if err := json.Unmarshal(data, &reply); err != nil {
		// The error of json may quote the answer, which holds the code.
		return wire.StartupReply{}, &pollError{err: errors.New("the allocator's answer is not the JSON that this agent knows: is the address right?")}
	}
	return reply, nil
}

// keepalive is the interval that the allocator announces, in whole seconds: it
// may send a fraction, which is rounded up.
func keepalive(h http.Header) (every time.Duration, ok bool) {
	s, err := strconv.ParseFloat(h.Get(wire.KeepaliveHeader), 64)
	if err != nil || !(s > 0 && s < 86400) { // not a number is in no range
		return 0, false
	}
	return time.Duration(math.Ceil(s)) * time.Second, true
}

// readReply reads the JSON behind any number of newlines. Alive tells that
// something came at all.
func readReply(body io.Reader, heard func()) (data []byte, alive bool, err error) {
	buf := make([]byte, 4096)
	for {
		n, err := body.Read(buf)
		if n > 0 {
			alive = true
			heard()
		}
		chunk := buf[:n]
		if len(data) == 0 {
			chunk = bytes.TrimLeft(chunk, " \t\r\n")
		}
		if len(data)+len(chunk) > maxReply {
			return nil, false, errors.New("the answer is too long")
		}
		data = append(data, chunk...)
		if errors.Is(err, io.EOF) {
			return data, alive, nil
		}
		if err != nil {
			return nil, alive, err
		}
	}
}

// pace decides how long to wait between polls.
type pace struct {
	backoff
	atOnce    time.Duration
	restarted bool // the last answer was that of a restarting allocator
}

// reset forgets the failures, after a poll that was answered.
func (p *pace) reset() {
	p.backoff.reset()
	p.restarted = false
}

// after returns the wait after a poll that ended with err.
func (p *pace) after(err error) time.Duration {
	pe, _ := errors.AsType[*pollError](err)
	se, _ := errors.AsType[*statusError](err)
	restart := se != nil && se.restart
	// A second one in a row: whatever says so does not restart.
	hurry := pe != nil && pe.alive || restart && !p.restarted
	p.restarted = restart
	if hurry {
		p.backoff.reset()
		return upTo(p.atOnce)
	}
	return p.backoff.after(err)
}
