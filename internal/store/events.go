package store

import (
	"context"

	"github.com/jackc/pgx/v5"

	"lablink/internal/fleet"
)

// record adds a line to a VM's history. Statements that change one VM do it in
// a CTE of their own.
func record(ctx context.Context, tx pgx.Tx, vm int64, actor fleet.Actor, what, detail string) error {
	_, err := tx.Exec(ctx, `INSERT INTO vm_events (vm, actor, address, what, detail) VALUES ($1, $2, $3, $4, $5)`,
		vm, actor.Kind, actor.Address, what, detail)
	return err
}

// Events returns the newest lines of a VM's history, newest first.
func (s *Store) Events(ctx context.Context, vm int64, limit int) ([]fleet.Event, error) {
	rows, err := s.pool.Query(ctx, `SELECT at, actor, address, what, detail FROM vm_events WHERE vm = $1 ORDER BY id DESC LIMIT $2`, vm, limit)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (e fleet.Event, err error) {
		err = row.Scan(&e.At, &e.Actor.Kind, &e.Actor.Address, &e.What, &e.Detail)
		return e, err
	})
}
