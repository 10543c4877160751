// Package probe looks at the machine: its GPU and its processes.
package probe

import (
	"context"
	"errors"
	"io/fs"
	"os/exec"
	"syscall"
	"time"

	"lablink/internal/fleet"
)

// GPU asks nvidia-smi how the GPU is.
type GPU struct {
	Command string        // "nvidia-smi"
	Limit   time.Duration // longer than this is a hang

	running chan fleet.Health // a call that has not ended; broken drivers can make it unkillable
}

// Health returns Healthy if nvidia-smi exits 0, N/A where there is none, and
// Unhealthy if it fails or hangs. It is not for concurrent use.
func (g *GPU) Health(ctx context.Context) fleet.Health {
	if g.running == nil {
		g.running = make(chan fleet.Health, 1)
		go func(out chan<- fleet.Health) { out <- g.ask(ctx) }(g.running)
	}
	timer := time.NewTimer(g.Limit + time.Second)
	defer timer.Stop()
	select {
	case h := <-g.running:
		g.running = nil
		return h
	case <-timer.C:
		return fleet.Unhealthy
	}
}

func (g *GPU) ask(ctx context.Context) fleet.Health {
	ctx, cancel := context.WithTimeout(ctx, g.Limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, g.Command)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 500 * time.Millisecond
	err := cmd.Run()
	exit, _ := errors.AsType[*exec.ExitError](err)
	switch {
	case err == nil:
		return fleet.Healthy
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist), exit != nil && exit.ExitCode() == 127:
		return fleet.NotApplicable
	default:
		return fleet.Unhealthy
	}
}
