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

// Dump returns the rows of tables as text, to compare.
func Dump(ctx context.Context, s *Store, tables ...string) (map[string]string, error) {
	rows := map[string]string{}
	for _, table := range tables {
		var text string
		err := s.pool.QueryRow(ctx, `SELECT coalesce(string_agg(t::text, E'\n' ORDER BY t::text), '') FROM `+table+` t`).Scan(&text)
		if err != nil {
			return nil, err
		}
		rows[table] = text
	}
	return rows, nil
}
