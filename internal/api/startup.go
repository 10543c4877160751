package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"lablink/internal/fleet"
	"lablink/internal/httpx"
	"lablink/internal/store"
	"lablink/internal/wait"
	"lablink/internal/wire"
)

const (
	// queryTimeout bounds a read of the database within a poll.
	queryTimeout = 10 * time.Second
	// retryCheck is when a poll that could not read the database tries again, should
	// the reconnected listener not wake it before.
	retryCheck = 5 * time.Second
	// writeTimeout ends a poll whose VM does not take what is sent.
	writeTimeout = 30 * time.Second
	// oldHTTPWait is how long an HTTP/1.0 caller is held: it can be sent no
	// keep-alives, and the usual proxies cut at 60 s.
	oldHTTPWait = 50 * time.Second
)

// startup holds the request of a VM until there is something for it to do.
//
// A 200 is final for the caller, anything else means "call again". The 200
// begins with the first keep-alive; from then on "call again" can only be said
// by cutting the connection, and so the answer must be chunked: a body that
// ends with its connection would look complete.
func (a *API) startup(w http.ResponseWriter, r *http.Request) error {
	httpx.Quiet(r)
	var req wire.StartupRequest
	if err := httpx.ReadJSON(r, &req); err != nil {
		return err
	}
	p := &poll{api: a, w: w, r: r, rc: http.NewResponseController(w), reports: req.Agent != ""}
	return p.hold(req.Hostname)
}

// poll is one held request.
type poll struct {
	api     *API
	w       http.ResponseWriter
	r       *http.Request
	rc      *http.ResponseController
	machine store.Machine
	reports bool // the caller acknowledges deliveries and can clean up
	begun   bool // the 200 is on its way
	aside   bool // the end of the poll is noted by somebody else
	key     store.Poll
}

func (p *poll) hold(hostname string) error {
	// The deadlines of ordinary requests do not fit.
	if err := p.rc.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	waiter, d, err := p.open(hostname)
	if err != nil {
		return err
	}
	defer waiter.Leave()
	defer func() {
		if !p.aside {
			p.close()
		}
	}()
	if p.deliverable(d) {
		return p.deliver(d)
	}
	return p.sleep(waiter)
}

// open identifies the VM, enters its poll, and reads what there is for it. Polls
// take turns: after a restart all VMs come back in the same second, and with each
// of them in the queue for a connection to the database, participants and health
// checks would stand behind thousands.
func (p *poll) open(hostname string) (*wait.Waiter, *store.Delivery, error) {
	select {
	case p.api.opening <- struct{}{}:
		defer func() { <-p.api.opening }()
	case <-p.api.Hub.Closed():
		return nil, nil, p.callAgain("The allocator restarts: call again.")
	case <-p.r.Context().Done():
		return nil, nil, p.r.Context().Err()
	}
	ctx, cancel := context.WithTimeout(p.r.Context(), queryTimeout)
	defer cancel()
	var err error
	if p.machine, err = p.api.machine(ctx, p.r, hostname); err != nil {
		return nil, nil, err
	}
	// Enter, then read, then sleep: a code that comes in between is a wake-up.
	waiter := p.api.Hub.Enter(p.machine.Hostname)
	p.key = store.Poll{VM: p.machine.ID, Replica: p.api.Replica, ID: waiter.ID}
	d, err := p.read(p.api.Store.OpenPoll)
	if err != nil {
		waiter.Leave()
		return nil, nil, cmp.Or(p.refuse(err), err) // err if the VM has hung up
	}
	return waiter, d, nil
}

func (p *poll) sleep(waiter *wait.Waiter) error {
	keepalive := time.NewTicker(p.tickEvery())
	defer keepalive.Stop()
	started := time.Now()
	var retry <-chan time.Time
	for {
		select {
		case <-p.r.Context().Done():
			return nil // the VM has hung up; nobody reads an answer
		case <-p.api.Hub.Closed():
			return p.callAgain("The allocator restarts: call again.")
		case <-waiter.Ousted:
			return p.callAgain("This VM opened a newer poll.")
		case <-keepalive.C:
			if err := p.tick(time.Since(started)); err != nil {
				return err
			}
			continue
		case <-waiter.Wake:
		case <-retry:
		}
		var done bool
		var err error
		if done, retry, err = p.check(); done {
			return err
		}
	}
}

// check looks for something to deliver, and says whether that ends the poll, or
// when to look again if the database did not answer. It is not part of sleep,
// below which thousands of stacks rest: what it needs, they need not keep.
func (p *poll) check() (done bool, retry <-chan time.Time, err error) {
	d, err := p.read(p.api.Store.CheckPoll)
	switch {
	case errors.Is(err, store.ErrSuperseded), errors.Is(err, store.ErrGone):
		return true, nil, p.refuse(err)
	case err != nil && p.r.Context().Err() == nil:
		// The database is away. The VM loses nothing by waiting on.
		httpx.Logger(p.r.Context()).Warn("poll could not read the database, tries again", "error", err, "hostname", p.machine.Hostname)
		return false, time.After(retryCheck), nil
	case p.deliverable(d):
		return true, nil, p.deliver(d)
	default:
		return false, nil, nil
	}
}

// read bounds a read of the database, which the long life of the request does not.
func (p *poll) read(query func(context.Context, store.Poll) (*store.Delivery, error)) (*store.Delivery, error) {
	ctx, cancel := context.WithTimeout(p.r.Context(), queryTimeout)
	defer cancel()
	return query(ctx, p.key)
}

// deliverable leaves out a clean-up that the caller would not understand.
func (p *poll) deliverable(d *store.Delivery) bool {
	return d != nil && (p.reports || d.State != fleet.SeatReleasing)
}

// old reports whether the caller speaks HTTP/1.0.
func (p *poll) old() bool { return !p.r.ProtoAtLeast(1, 1) }

func (p *poll) tickEvery() time.Duration {
	if p.old() {
		return p.api.oldHTTPWait
	}
	return p.api.Keepalive
}

// tick keeps the connection alive, or ends a poll that has lasted long enough.
func (p *poll) tick(held time.Duration) error {
	if p.old() || held >= p.api.MaxWait {
		return p.callAgain("Nothing yet: call again.")
	}
	p.begin()
	return p.write([]byte("\n"))
}

func (p *poll) begin() {
	if p.begun {
		return
	}
	p.begun = true
	h := p.w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx would hold the keep-alives back
	h.Set(wire.KeepaliveHeader, strconv.FormatFloat(p.api.Keepalive.Seconds(), 'f', -1, 64))
	p.w.WriteHeader(http.StatusOK)
}

// write sends b now. If it cannot, the connection is cut: the answer was not
// delivered.
func (p *poll) write(b []byte) error {
	err := p.rc.SetWriteDeadline(time.Now().Add(writeTimeout))
	if err == nil && !p.old() {
		err = p.rc.Flush() // the header first, so that the answer is chunked
	}
	if err == nil {
		_, err = p.w.Write(b)
	}
	if err == nil {
		err = p.rc.Flush()
	}
	if err != nil {
		httpx.Logger(p.r.Context()).Info("the VM's connection is gone", "hostname", p.machine.Hostname, "error", err)
		panic(http.ErrAbortHandler)
	}
	return nil
}

func (p *poll) deliver(d *store.Delivery) error {
	reply := wire.StartupReply{Status: wire.StatusSuccess, PIN: d.PIN, Command: d.Command, Delivery: d.ID}
	if d.State == fleet.SeatReleasing {
		reply = wire.StartupReply{Status: wire.StatusRelease, Delivery: d.ID}
	}
	body, err := json.Marshal(reply)
	if err != nil {
		return err
	}
	body = append(body, '\n')
	if p.old() {
		p.w.Header().Set("Content-Length", strconv.Itoa(len(body))) // what is cut must not look complete
	}
	p.begin()
	if err := p.write(body); err != nil {
		return err
	}
	if d.State == fleet.SeatRequested {
		p.api.OnDelivery(d.Age)
	}
	// Aside, so that the end of the answer does not wait for the database. If it
	// is lost, the code is delivered once more.
	p.aside = true
	p.api.marks.Go(func() {
		if d.State != fleet.SeatReleasing {
			p.mark(d.ID)
		}
		p.close()
	})
	return nil
}

func (p *poll) mark(delivery int64) {
	mark := p.api.Store.Delivered
	if !p.reports && p.api.OpenMachines {
		mark = p.api.Store.Assumed
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(p.r.Context()), queryTimeout)
	defer cancel()
	if err := mark(ctx, p.machine.ID, delivery); err != nil {
		httpx.Logger(ctx).Error("a delivery could not be noted", "hostname", p.machine.Hostname, "delivery", delivery, "error", err)
	}
}

// refuse ends a poll for which the database has an answer, or none.
func (p *poll) refuse(err error) error {
	switch {
	case errors.Is(err, store.ErrSuperseded):
		return p.callAgain("This VM opened a newer poll.")
	case errors.Is(err, store.ErrGone) && !p.begun:
		return fleet.Errorf(fleet.NotFound, "this VM was removed")
	case p.begun:
		panic(http.ErrAbortHandler)
	case p.r.Context().Err() != nil:
		return nil //nolint:nilerr // the VM has hung up
	default:
		httpx.Logger(p.r.Context()).Error("poll could not read the database", "hostname", p.machine.Hostname, "error", err)
		return fleet.Errorf(fleet.Unavailable, "the database is away: call again")
	}
}

// callAgain ends a poll without a result. The caller may return at once.
func (p *poll) callAgain(why string) error {
	if p.begun {
		panic(http.ErrAbortHandler)
	}
	p.w.Header().Set(wire.RestartHeader, "1")
	return fleet.Errorf(fleet.Unavailable, "%s", why)
}

// close notes that the VM waits no more. When the process stops, all its polls
// are noted at once instead.
func (p *poll) close() {
	select {
	case <-p.api.Hub.Closed():
		return
	default:
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(p.r.Context()), queryTimeout)
	defer cancel()
	if err := p.api.Store.ClosePoll(ctx, p.key); err != nil {
		httpx.Logger(ctx).Warn("the end of a poll could not be noted", "hostname", p.machine.Hostname, "error", err)
	}
}
