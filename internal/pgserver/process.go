package pgserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// process is the server's process: a child, or one adopted from a program that
// was killed.
type process struct {
	pid     int
	started bool // by us
	// ended is closed when the process is gone; status is set before that.
	ended  chan struct{}
	status error
	signal func(syscall.Signal) error
	// forget ends the watch over an adopted process.
	forget func()
}

// startProcess starts cmd and watches it.
func startProcess(cmd *exec.Cmd, dieWith bool) (*process, error) {
	if dieWith {
		dieWithParent(cmd.SysProcAttr)
	}
	p := &process{started: true, ended: make(chan struct{}), forget: func() {}}
	started := make(chan error)
	go func() {
		if dieWith {
			// The kernel means the thread, which Go would otherwise end or reuse
			// as it likes.
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
		}
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		p.status = cmd.Wait()
		close(p.ended)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	p.pid = cmd.Process.Pid
	p.signal = func(sig syscall.Signal) error { return cmd.Process.Signal(sig) }
	return p, nil
}

// adoptInterval is how soon the end of an adopted server is noticed: it is not
// our child, so nobody tells us.
const adoptInterval = 100 * time.Millisecond

// adoptProcess watches a server that somebody else started.
func adoptProcess(pm postmaster, data string) *process {
	ctx, cancel := context.WithCancel(context.Background())
	p := &process{pid: pm.pid, ended: make(chan struct{}), forget: cancel}
	alive := func() bool {
		state, err := pm.state(data)
		return err != nil || state == pmOurs
	}
	p.signal = func(sig syscall.Signal) error {
		if !alive() {
			return os.ErrProcessDone
		}
		return syscall.Kill(pm.pid, sig)
	}
	go func() {
		tick := time.NewTicker(adoptInterval)
		defer tick.Stop()
		for alive() {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
		cancel()
		close(p.ended)
	}()
	return p
}

func (p *process) hasEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// killAfter is how long an immediate shutdown may take before the kernel has to
// do it. PostgreSQL gives its own children 5 seconds.
const killAfter = 10 * time.Second

// shutdown asks for a fast shutdown, which ends the sessions and writes everything
// to its place; when ctx ends, for an immediate one, after which the next start
// has to recover from the write-ahead log.
func (p *process) shutdown(ctx context.Context) error {
	if p.hasEnded() {
		return nil
	}
	for _, step := range []struct {
		sig  syscall.Signal
		wait func() (context.Context, context.CancelFunc)
	}{
		{syscall.SIGINT, func() (context.Context, context.CancelFunc) { return context.WithCancel(ctx) }},
		{syscall.SIGQUIT, lastly},
		{syscall.SIGKILL, lastly},
	} {
		if err := p.signal(step.sig); err != nil && !errors.Is(err, os.ErrProcessDone) && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("stop PostgreSQL (pid %d): %w", p.pid, err)
		}
		wait, cancel := step.wait()
		select {
		case <-p.ended:
			cancel()
			if step.sig != syscall.SIGINT {
				return fmt.Errorf("PostgreSQL did not shut down in time and was ended by %v; the next start will recover: %w", step.sig, context.Cause(ctx))
			}
			if p.status != nil {
				return fmt.Errorf("PostgreSQL did not shut down cleanly: %w", p.status)
			}
			return nil
		case <-wait.Done():
			cancel()
		}
	}
	return fmt.Errorf("PostgreSQL (pid %d) cannot be stopped: %w", p.pid, context.Cause(ctx))
}

func lastly() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), killAfter)
}
