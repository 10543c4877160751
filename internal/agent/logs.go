package agent

import (
	"context"
	"log/slog"
	"path/filepath"
	"time"

	"lablink/internal/agent/ship"
	"lablink/internal/wire"
)

// Sources that every agent may have.
const (
	SourceAgent   = "agent"   // its own log
	SourceConsole = "console" // what else its container prints
	SourceBoot    = "boot"    // cloud-init's output
)

// longestLogPause is for an allocator that is back to get the logs soon.
const longestLogPause = 15 * time.Second

// logFolder is where the logs of one hostname wait, and what was sent of them is
// remembered.
func logFolder(stateDir, hostname string) string {
	return filepath.Join(stateDir, hostname+".logs")
}

// Console is where what a container prints waits for its agent.
func Console(stateDir, hostname string) *ship.Spool {
	return ship.NewSpool(filepath.Join(logFolder(stateDir, hostname), SourceConsole))
}

// ownLog makes the agent's log one of its sources, if it is to be.
func (cfg *Config) ownLog() *ship.Spool {
	if !cfg.ShipLogs {
		return nil
	}
	spool := ship.NewSpool(filepath.Join(logFolder(cfg.StateDir, cfg.Hostname), SourceAgent))
	cfg.Log = slog.New(slog.NewMultiHandler(cfg.Log.Handler(), slog.NewJSONHandler(spool, nil)))
	return spool
}

// shipping ships logs beside the rest, and longer: end lets it send what is left.
func (a *Agent) shipping(ctx context.Context) (end func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		a.shipLogs(ctx)
	}()
	return func() {
		cancel()
		<-ended
		if a.ownLog != nil {
			a.ownLog.Close()
		}
	}
}

// shipLogs ships until ctx ends.
func (a *Agent) shipLogs(ctx context.Context) {
	folder := logFolder(a.cfg.StateDir, a.cfg.Hostname)
	sources := a.cfg.LogFiles
	if a.cfg.ShipLogs {
		for _, name := range []string{SourceAgent, SourceConsole} {
			sources = append(sources, ship.Source{Name: name, Path: filepath.Join(folder, name), Spool: true})
		}
	}
	var secrets []string
	if a.cfg.Token != "" {
		secrets = append(secrets, a.cfg.Token)
	}
	ship.Run(ctx, ship.Config{
		Dir: folder, Hostname: a.cfg.Hostname, Sources: sources, Secrets: secrets, Log: a.plainLog, Timing: a.cfg.Timing.Logs,
		Send: func(ctx context.Context, batch wire.LogBatch) error {
			return a.client.postZipped(ctx, wire.PathLogs, batch)
		},
		Pause: func(fails int, err error) time.Duration {
			b := backoff{min: a.cfg.Timing.RetryMin, max: min(a.cfg.Timing.RetryMax, longestLogPause), fails: fails}
			return b.after(err)
		},
	})
}
