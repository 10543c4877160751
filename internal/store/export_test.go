package store

import "context"

// Tamper tries to rewrite history.
func Tamper(ctx context.Context, s *Store) error {
	_, err := s.pool.Exec(ctx, `UPDATE vm_events SET detail = 'nothing happened'`)
	return err
}
