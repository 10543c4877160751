package store

import "context"

// EmailSeated reports whether an e-mail address holds a seat.
func (s *Store) EmailSeated(ctx context.Context, email string) (seated bool, err error) {
	err = s.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM vms WHERE lower(trim(useremail)) = lower(trim($1)))`, email).Scan(&seated)
	return seated, err
}
