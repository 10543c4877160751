package agent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"lablink/internal/agent/crd"
	"lablink/internal/fleet"
	"lablink/internal/wire"
)

// Reasons that the agent itself gives.
const (
	reasonRestarted = "The VM restarted while it was being set up. Get a fresh code and paste it."
	reasonCommand   = "The command that reached the VM was not valid. Copy it again from Google's page and paste it."
)

// desktop is Chrome Remote Desktop, or the model that the property test checks
// the deliveries against.
type desktop interface {
	Setup(ctx context.Context, req crd.Request, started func(pid int)) error
	Finish(ctx context.Context) error
	Release(ctx context.Context) error
	Snapshot() string
	WrittenSince(snapshot string) bool
}

// deliveries carries out what the allocator sends, each delivery once, and
// remembers it:
//
//	(none) --success--> begun --start-host ended--> done --answered--> reported
//	                      |
//	                      +--agent died--> done: connected if the host
//	                                       configuration was written, else failed
//
// The same delivery again is only reported again. A release may be repeated
// freely, so it is carried out each time.
type deliveries struct {
	state  *stateFile
	host   desktop
	name   string // the hostname as LabLink knows it
	scope  string // allocator and hostname: numbers of another database mean nothing
	log    *slog.Logger
	report func(ctx context.Context, r wire.ResultRequest) error // returns nil once the answer is final, else it may be called again
}

// key identifies a delivery even if the allocator's database was made anew and
// counts from 1 again. The code in it is hashed: the file holds no secret.
func (d *deliveries) key(reply wire.StartupReply, code string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%s\n%d\n%s", d.scope, reply.Status, reply.Delivery, code))
	return hex.EncodeToString(sum[:16])
}

// resume settles what an agent before this one has left: a set-up that it did
// not live to see the end of, and a result that it did not get through.
func (d *deliveries) resume(ctx context.Context) {
	r := d.state.last
	if r.Phase == phaseBegun && r.Kind == wire.StatusSuccess {
		d.stopLeftover(r)
		r.Result, r.Reason = wire.ResultFailed, reasonRestarted
		if d.host.WrittenSince(r.Configs) {
			r.Result, r.Reason = wire.ResultConnected, ""
			if err := d.host.Finish(ctx); err != nil {
				d.log.Info("the host configuration of an interrupted set-up is complete; whether its service runs is not known", "error", err)
			}
		}
		d.log.Warn("a set-up was interrupted by a restart", "delivery", r.Delivery, "result", r.Result)
		d.done(&r)
	}
	if r.Phase == phaseDone && !r.Reported {
		d.send(ctx, r)
	}
}

// stopLeftover ends a start-host that outlived its agent, if the process with
// that number is still the same one.
func (d *deliveries) stopLeftover(r record) {
	if r.PID <= 1 || r.PIDSince == 0 || startOf(r.PID) != r.PIDSince {
		return
	}
	d.log.Warn("ending a start-host that outlived its agent", "pid", r.PID)
	if err := syscall.Kill(-r.PID, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		d.log.Error("it could not be ended", "pid", r.PID, "error", err)
	}
}

// startOf returns when a process started, in clock ticks since the boot, which
// no change of the clock moves; 0 if there is none.
func startOf(pid int) int64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The name, in parentheses, may hold anything: fields are counted behind it.
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	const startTime = 22 - 3 // proc(5) counts from 1; the state, field 3, comes first here
	if len(fields) <= startTime {
		return 0
	}
	at, _ := strconv.ParseInt(fields[startTime], 10, 64)
	return at
}

// handle carries one reply out and reports it. Repeated tells that it had been
// reported before: the allocator seems not to remember, so do not hurry back.
func (d *deliveries) handle(ctx context.Context, reply wire.StartupReply) (repeated bool, err error) {
	switch reply.Status {
	case wire.StatusSuccess:
		return d.setUp(ctx, reply)
	case wire.StatusRelease:
		return d.release(ctx, reply)
	default:
		return false, fmt.Errorf("the allocator answered with status %q, which this agent does not know: is one of them outdated?", clip(reply.Status))
	}
}

func (d *deliveries) setUp(ctx context.Context, reply wire.StartupReply) (repeated bool, err error) {
	cmd, parseErr := fleet.ParseCommand(reply.Command)
	key := d.key(reply, cmd.Code)
	if parseErr != nil {
		key = d.key(reply, reply.Command)
	}
	if last := d.state.last; last.Key == key && last.Phase == phaseDone {
		d.log.Info("this delivery is done already; reporting it again", "delivery", reply.Delivery, "result", last.Result)
		d.send(ctx, last)
		return last.Reported, ctx.Err()
	}
	r := record{
		Delivery: reply.Delivery, Key: key, Kind: reply.Status,
		Phase: phaseBegun, Begun: time.Now().UTC(), Configs: d.host.Snapshot(),
	}
	d.save(r)
	d.log.Info("setting Chrome Remote Desktop up", "delivery", r.Delivery)
	if parseErr == nil {
		err = d.host.Setup(ctx, crd.Request{Code: cmd.Code, PIN: reply.PIN, Name: d.name}, func(pid int) {
			r.PID, r.PIDSince = pid, startOf(pid)
			d.save(r)
		})
	} else {
		// Its text may quote the command, which may hold a code.
		err = &crd.Error{Reason: reasonCommand, Err: errors.New("the command does not pass the grammar")}
	}
	if err != nil && ctx.Err() != nil {
		return false, ctx.Err() // stays "begun": the next agent settles it
	}
	r.Result, r.Reason = wire.ResultConnected, ""
	if err != nil {
		r.Result, r.Reason = wire.ResultFailed, reasonOf(err)
	}
	d.log.Info("the set-up has ended", "delivery", r.Delivery, "result", r.Result,
		"took", time.Since(r.Begun).Round(time.Millisecond), "error", err)
	d.done(&r)
	d.send(ctx, r)
	return false, ctx.Err()
}

func (d *deliveries) release(ctx context.Context, reply wire.StartupReply) (repeated bool, err error) {
	key := d.key(reply, "")
	repeated = d.state.last.Key == key && d.state.last.Reported
	r := record{Delivery: reply.Delivery, Key: key, Kind: reply.Status, Phase: phaseBegun, Begun: time.Now().UTC()}
	d.save(r)
	d.log.Info("taking the desktop off the last Google account", "delivery", r.Delivery)
	err = d.host.Release(ctx)
	if err != nil && ctx.Err() != nil {
		return false, ctx.Err()
	}
	r.Result = wire.ResultReleased
	if err != nil {
		r.Result, r.Reason = wire.ResultFailed, reasonOf(err)
	}
	d.log.Info("the clean-up has ended", "delivery", r.Delivery, "result", r.Result, "error", err)
	d.done(&r)
	d.send(ctx, r)
	return repeated, ctx.Err()
}

func reasonOf(err error) string {
	if f, ok := errors.AsType[*crd.Error](err); ok {
		return f.Reason
	}
	return crd.ReasonOther
}

// done records the outcome.
func (d *deliveries) done(r *record) {
	r.Phase, r.PID, r.PIDSince, r.Configs = phaseDone, 0, 0, ""
	d.save(*r)
}

// send reports a record. If the allocator gave no final answer, the record stays
// unreported, until the same delivery or the next agent reports it again.
func (d *deliveries) send(ctx context.Context, r record) {
	err := d.report(ctx, wire.ResultRequest{Hostname: d.name, Delivery: r.Delivery, Result: r.Result, Reason: r.Reason})
	if err == nil && !r.Reported {
		r.Reported = true
		d.save(r)
	}
}

// save writes the record. A full disk must not cost a participant the desktop,
// so it is only logged; the record is still in memory.
func (d *deliveries) save(r record) {
	if err := d.state.save(r); err != nil {
		d.log.Error("the agent will not remember this after a restart", "error", err)
	}
}

func clip(s string) string {
	if len(s) > 32 {
		return s[:32] + "..."
	}
	return s
}
