package store

import "context"

// Tamper tries to rewrite history.
func Tamper(ctx context.Context, s *Store) error {
	_, err := s.pool.Exec(ctx, `UPDATE vm_events SET detail = 'nothing happened'`)
	return err
}

// Exec runs statements that no method is for.
func Exec(ctx context.Context, s *Store, sql string) error {
	_, err := s.pool.Exec(ctx, sql)
	return err
}

// CountRows returns how many rows a table has.
func CountRows(ctx context.Context, s *Store, table string) (n int, err error) {
	err = s.pool.QueryRow(ctx, `SELECT count(*) FROM `+table).Scan(&n)
	return n, err
}
