package server

import (
	"context"
	"time"
)

// lookForLogs makes adoptLogs look. However many VMs change meanwhile, it looks
// once more.
func (s *Server) lookForLogs() {
	select {
	case s.awaited <- struct{}{}:
	default:
	}
}

// adoptLogs stores what was kept aside for VMs that have appeared.
func (s *Server) adoptLogs(ctx context.Context) {
	missed := time.NewTicker(s.recheckEvery)
	defer missed.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.awaited:
		case <-missed.C:
		}
		if err := s.api.AdoptLogs(ctx); err != nil && ctx.Err() == nil {
			s.Logger.Error("logs that were kept aside could not be stored", "error", err)
		}
	}
}

// tendLogs removes what is not to be kept any longer. Every step is small and
// bounded by the database's time limit of statements.
func (s *Server) tendLogs(ctx context.Context) {
	cfg := s.Config.Logs
	ticker := time.NewTicker(s.tendEvery)
	defer ticker.Stop()
	for {
		dropped, err := s.store.CapLogs(ctx, cfg.MaxLines)
		s.tended(ctx, "dropped", dropped, err)
		purged, err := s.store.PurgeLogs(ctx, cfg.Retention)
		s.tended(ctx, "purged", purged, err)
		expired, err := s.store.ExpireLogs(ctx, cfg.KeepUnknown)
		s.tended(ctx, "expired", expired, err)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (s *Server) tended(ctx context.Context, outcome string, lines int64, err error) {
	s.metrics.logged(outcome, int(lines))
	if err != nil && ctx.Err() == nil {
		s.Logger.Error("logs could not be tended", "step", outcome, "error", err)
	}
}
