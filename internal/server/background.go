package server

import (
	"context"
	"fmt"
	"sync"
	"time"

	"lablink/internal/fleet"
	"lablink/internal/store"
	"lablink/internal/wait"
)

const (
	heartbeatEvery = 5 * time.Second  // a replica counts as dead after three
	recheckEvery   = 30 * time.Second // should a notification ever be missed
	sweepEvery     = time.Hour
	tendEvery      = 15 * time.Second // logs that are too long, or kept long enough
	queryTimeout   = 10 * time.Second
)

// startListener prepares the listener, which closes connected when it first
// listens.
func (s *Server) startListener(connected chan struct{}) {
	var once sync.Once
	s.listen = &store.Listener{
		Store: s.store, Logger: s.Logger.With("part", "listener"),
		Connected: func(ctx context.Context) error {
			if err := s.recover(ctx); err != nil {
				return err
			}
			once.Do(func() { close(connected) })
			return nil
		},
		Command: func(hostname string) {
			s.metrics.notifications.WithLabelValues("vm_updates").Inc()
			s.hub.Wake(hostname)
		},
		Changed: func(hostname string) {
			s.metrics.notifications.WithLabelValues("lablink_changes").Inc()
			s.hub.Wake(hostname) // a released or removed VM; a poll that has nothing to fetch sleeps on
			s.feed.Publish(hostname)
			s.lookForLogs()
		},
		Operation: func(id string) {
			s.metrics.notifications.WithLabelValues("lablink_changes").Inc()
			s.feed.Publish(wait.Operation(id))
		},
	}
}

// recover makes up for what may have happened while nobody listened: anything may
// have been missed, and a crash of PostgreSQL has emptied the table of polls.
func (s *Server) recover(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	if err := s.store.Heartbeat(ctx, s.replica); err != nil {
		return fmt.Errorf("heartbeat: %w", err)
	}
	if err := s.recheck(ctx); err != nil {
		return err
	}
	s.feed.PublishAll()
	s.lookForLogs()
	return nil
}

// recheck notes polls that the database does not know, and wakes those of VMs
// that have something to fetch.
func (s *Server) recheck(ctx context.Context) error {
	held := s.hub.Held()
	names, ids := make([]string, 0, len(held)), make([]int64, 0, len(held))
	for name, id := range held {
		names, ids = append(names, name), append(ids, id)
	}
	if err := s.store.RestorePolls(ctx, s.replica, names, ids); err != nil {
		return fmt.Errorf("note the polls again: %w", err)
	}
	hostnames, err := s.store.Pending(ctx)
	if err != nil {
		return fmt.Errorf("look for VMs with something to fetch: %w", err)
	}
	for _, name := range hostnames {
		s.hub.Wake(name)
	}
	return nil
}

// beat tells the other replicas that this one lives.
func (s *Server) beat(ctx context.Context) {
	s.every(ctx, heartbeatEvery, func(ctx context.Context) {
		if err := s.store.Heartbeat(ctx, s.replica); err != nil && ctx.Err() == nil {
			s.Logger.Error("heartbeat failed", "error", err)
		}
	})
}

func (s *Server) sweep(ctx context.Context) {
	var swept time.Time
	s.every(ctx, s.recheckEvery, func(ctx context.Context) {
		if err := s.recheck(ctx); err != nil && ctx.Err() == nil {
			s.Logger.Error("regular check failed", "error", err)
		}
		if time.Since(swept) < sweepEvery {
			return
		}
		swept = time.Now()
		if err := s.store.Sweep(ctx); err != nil && ctx.Err() == nil {
			s.Logger.Error("old entries could not be removed", "error", err)
		}
	})
}

// every calls f now and then every period until ctx ends, each call bounded.
func (s *Server) every(ctx context.Context, period time.Duration, f func(context.Context)) {
	ticker := time.NewTicker(period)
	defer ticker.Stop()
	for {
		call, cancel := context.WithTimeout(ctx, queryTimeout)
		f(call)
		cancel()
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func unready(message string, cause error) error {
	return &fleet.Error{Kind: fleet.Unavailable, Message: message, Err: cause}
}
