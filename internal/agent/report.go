package agent

import (
	"context"
	"errors"
	"net/url"
	"sync"
	"time"

	"lablink/internal/agent/probe"
	"lablink/internal/fleet"
	"lablink/internal/wire"
)

// level is something about the VM that has a value at any time. Levels, unlike
// events, may be lost: they are sent again.
type level struct {
	path    string
	every   time.Duration                     // between two looks
	observe func(context.Context) (any, bool) // the body to post, comparable; false: nothing to say
}

// keep looks at a level for as long as ctx lives, posts what changed at once and
// repeats the rest.
func (a *Agent) keep(ctx context.Context, l level) {
	var sent any
	var sentAt time.Time
	retry := backoff{min: l.every, max: max(l.every, a.cfg.Timing.RetryMax)}
	for {
		pause := jitter(l.every)
		if body, ok := l.observe(ctx); ok && (body != sent || time.Since(sentAt) >= a.cfg.Timing.Repeat) {
			err := a.client.post(ctx, l.path, body)
			switch {
			case err == nil:
				sent, sentAt = body, time.Now()
				retry.reset()
				a.client.relieved(l.path)
			case ctx.Err() == nil:
				pause = max(pause, retry.after(err))
				a.client.complain(l.path, err)
			}
		}
		if wait(ctx, pause) != nil {
			return
		}
	}
}

// levels are what this VM reports all the time.
func (a *Agent) levels() []level {
	gpu := &probe.GPU{Command: a.cfg.NvidiaSMI, Limit: a.cfg.Timing.GPULimit}
	all := []level{
		{path: wire.PathStatus, every: a.cfg.Timing.StatusEvery, observe: a.status},
		{path: wire.PathGPU, every: a.cfg.Timing.ProbeEvery, observe: func(ctx context.Context) (any, bool) {
			h := gpu.Health(ctx)
			return wire.GPURequest{Hostname: a.cfg.Hostname, GPUStatus: string(h)}, ctx.Err() == nil
		}},
	}
	if a.cfg.Software != "" {
		all = append(all, level{path: wire.PathInUse, every: a.cfg.Timing.ProbeEvery, observe: a.inUse})
	}
	return all
}

// status is running once a set-up could begin, error before that.
func (a *Agent) status(context.Context) (any, bool) {
	err := a.host.Ready()
	a.readiness(err)
	if err != nil {
		return wire.StatusRequest{Hostname: a.cfg.Hostname, Status: string(fleet.StatusError), Reason: err.Error()}, true
	}
	return wire.StatusRequest{Hostname: a.cfg.Hostname, Status: string(fleet.StatusRunning)}, true
}

// readiness logs changes, and notes when the VM was ready for the first time.
func (a *Agent) readiness(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text == a.trouble && a.looked {
		return
	}
	a.trouble, a.looked = text, true
	if err != nil {
		a.cfg.Log.Error("this VM is not ready; looking again until it is", "error", err)
		return
	}
	a.cfg.Log.Info("this VM is ready")
	a.readyOnce.Do(func() { a.ready <- time.Now() })
}

// The bodies of inUse are two pointers, so that equal bodies compare equal.
var inUseTrue, inUseFalse = true, false

func (a *Agent) inUse(ctx context.Context) (any, bool) {
	used, err := probe.InUse(ctx, a.cfg.Software)
	if err != nil {
		if ctx.Err() == nil {
			a.cfg.Log.Warn("the processes cannot be listed", "error", err)
		}
		return nil, false
	}
	body := wire.InUseRequest{Hostname: a.cfg.Hostname, Status: &inUseFalse}
	if used {
		body.Status = &inUseTrue
	}
	return body, true
}

// startup reports once how long the VM's software took to be ready.
func (a *Agent) startup(ctx context.Context) {
	var end time.Time
	select {
	case end = <-a.ready:
	case <-ctx.Done():
		return
	}
	from, to := unix(a.cfg.StartedAt), unix(end)
	took := end.Sub(a.cfg.StartedAt).Seconds()
	body := wire.MetricsRequest{ContainerStart: &from, ContainerEnd: &to, ContainerDuration: &took}
	err := a.client.persist(ctx, wire.PathMetrics+url.PathEscape(a.cfg.Hostname), body)
	if err != nil && !errors.Is(err, context.Canceled) {
		a.cfg.Log.Warn("the allocator does not take the start-up times", "error", err)
	}
}

func unix(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

// reports runs everything but the polling.
func (a *Agent) reports(ctx context.Context, group *sync.WaitGroup) {
	for _, l := range a.levels() {
		group.Go(func() { a.keep(ctx, l) })
	}
	group.Go(func() { a.startup(ctx) })
}
