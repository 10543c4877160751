package store

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/jackc/pgx/v5"

	"lablink/internal/fleet"
)

const operationColumns = `o.id, o.kind, o.state, o.phase, o.provider, o.instance_type, o.stopping, o.attempt, o.error,
	o.created_at, o.started_at, o.applied_at, o.ended_at`

func scanOperation(row pgx.CollectableRow) (fleet.Operation, error) {
	var o fleet.Operation
	var started, applied, ended *time.Time
	err := row.Scan(&o.ID, &o.Kind, &o.State, &o.Phase, &o.Provider, &o.InstanceType, &o.Stopping, &o.Attempt, &o.Error,
		&o.Created, &started, &applied, &ended)
	o.Started, o.Applied, o.Ended = orZero(started), orZero(applied), orZero(ended)
	return o, err
}

func orZero(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

// querier is a pool or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

func readOperation(ctx context.Context, q querier, id int64) (fleet.Operation, error) {
	rows, err := q.Query(ctx, `SELECT `+operationColumns+` FROM operations o WHERE o.id = $1`, id)
	if err != nil {
		return fleet.Operation{}, err
	}
	op, err := pgx.CollectExactlyOneRow(rows, scanOperation)
	if errors.Is(err, pgx.ErrNoRows) {
		return op, fleet.Errorf(fleet.NotFound, "there is no operation %d", id)
	}
	if err != nil {
		return op, err
	}
	ops := []fleet.Operation{op}
	err = readSteps(ctx, q, ops)
	return ops[0], err
}

// readSteps fills in the steps of operations.
func readSteps(ctx context.Context, q querier, ops []fleet.Operation) error {
	byID, ids := map[int64]*fleet.Operation{}, make([]int64, 0, len(ops))
	for i := range ops {
		byID[ops[i].ID], ids = &ops[i], append(ids, ops[i].ID)
	}
	rows, err := q.Query(ctx, `SELECT ov.operation, ov.vm, v.hostname, ov.state, ov.message, ov.started_at, ov.ended_at
		FROM operation_vms ov JOIN vms v ON v.id = ov.vm WHERE ov.operation = ANY($1) ORDER BY ov.operation, ov.vm`, ids)
	if err != nil {
		return err
	}
	var id int64
	var step fleet.Step
	var started, ended *time.Time
	_, err = pgx.ForEachRow(rows, []any{&id, &step.VM, &step.Hostname, &step.State, &step.Message, &started, &ended}, func() error {
		step.Started, step.Ended = orZero(started), orZero(ended)
		byID[id].Steps = append(byID[id].Steps, step)
		return nil
	})
	return err
}

// Operation returns an operation with its steps.
func (s *Store) Operation(ctx context.Context, id int64) (fleet.Operation, error) {
	return readOperation(ctx, s.pool, id)
}

// Operations lists the newest operations, the newest first.
func (s *Store) Operations(ctx context.Context, limit int) ([]fleet.Operation, error) {
	return s.operations(ctx, `ORDER BY o.id DESC LIMIT $1`, limit)
}

// UnfinishedOperations lists those that wait or run, the newest first.
func (s *Store) UnfinishedOperations(ctx context.Context) ([]fleet.Operation, error) {
	return s.operations(ctx, `WHERE o.state IN ('pending', 'running') ORDER BY o.id DESC`)
}

func (s *Store) operations(ctx context.Context, which string, args ...any) ([]fleet.Operation, error) {
	rows, err := s.pool.Query(ctx, `SELECT `+operationColumns+` FROM operations o `+which, args...)
	if err != nil {
		return nil, err
	}
	ops, err := pgx.CollectRows(rows, scanOperation)
	if err != nil {
		return nil, err
	}
	return ops, readSteps(ctx, s.pool, ops)
}

// OperationVMs returns the VMs of an operation as they are now, destroyed ones
// too, by hostname.
func (s *Store) OperationVMs(ctx context.Context, id int64) (map[string]fleet.VM, error) {
	rows, err := s.pool.Query(ctx, `SELECT `+vmColumns+` FROM vms v JOIN operation_vms ov ON ov.vm = v.id WHERE ov.operation = $1`, id)
	if err != nil {
		return nil, err
	}
	vms, err := pgx.CollectRows(rows, scanVM)
	byName := make(map[string]fleet.VM, len(vms))
	for _, v := range vms {
		byName[v.Hostname] = v
	}
	return byName, err
}

// Output writes what Terraform wrote in an operation: all of it, or with tail
// above 0 about the last tail bytes.
func (s *Store) Output(ctx context.Context, id int64, tail int, w io.Writer) error {
	rows, err := s.pool.Query(ctx, `SELECT lines FROM (
		SELECT id, lines, sum(length(lines)) OVER (ORDER BY id DESC) - length(lines) AS after FROM operation_output WHERE operation = $1) AS o
		WHERE $2 = 0 OR after < $2 ORDER BY id`, id, tail)
	if err != nil {
		return err
	}
	var lines string
	_, err = pgx.ForEachRow(rows, []any{&lines}, func() error {
		_, err := io.WriteString(w, lines)
		return err
	})
	return err
}

// Strays lists machines of a provider that exist and that no live row knows.
func (s *Store) Strays(ctx context.Context, provider string) ([]string, error) {
	rows, err := s.pool.Query(ctx, `SELECT hostname FROM strays WHERE provider = $1 ORDER BY hostname`, provider)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}
