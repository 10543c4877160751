package store

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"lablink/internal/fleet"
)

// Bounds of what is kept aside for VMs that are not known: of all, and of one
// hostname, in bytes; and in batches, whose rows have a size of their own.
const (
	maxWaitingBytes   = 64 << 20
	maxWaitingBytesOf = 16 << 20
	maxWaitingBatches = 20_000
)

// LogTarget is the VM whose log a sender writes to.
type LogTarget struct {
	ID       int64
	Hostname string
	Secrets  []string // of its seat: code and PIN, if it has one
	Waiting  bool     // there are batches that were kept aside for it
}

const logTarget = `SELECT v.id, v.hostname, coalesce(v.pin, ''), coalesce(v.crdcommand, ''),
	EXISTS (SELECT FROM log_waiting w WHERE w.hostname = v.hostname) FROM vms v `

func scanLogTarget(row pgx.Row) (t LogTarget, err error) {
	var pin, command string
	if err := row.Scan(&t.ID, &t.Hostname, &pin, &command, &t.Waiting); err != nil {
		return t, err
	}
	t.Secrets = []string{pin}
	if c, err := fleet.ParseCommand(command); err == nil {
		t.Secrets = append(t.Secrets, c.Code)
	}
	return t, nil
}

// LogTarget returns the live VM of a name, or one that was destroyed within a
// time: the last of what a machine prints arrives when it has gone.
func (s *Store) LogTarget(ctx context.Context, hostname string, within time.Duration) (LogTarget, error) {
	t, err := scanLogTarget(s.pool.QueryRow(ctx, logTarget+`
		WHERE v.hostname = $1 AND (v.status <> 'destroyed' OR v.destroyed_at > now() - make_interval(secs => $2))
		ORDER BY v.status <> 'destroyed' DESC, v.id DESC LIMIT 1`, hostname, within.Seconds()))
	if errors.Is(err, pgx.ErrNoRows) {
		return t, noVM(hostname)
	}
	return t, err
}

// LogTargetByToken returns the live VM to which a token belongs.
func (s *Store) LogTargetByToken(ctx context.Context, hash []byte) (LogTarget, error) {
	t, err := scanLogTarget(s.pool.QueryRow(ctx, logTarget+`
		JOIN vm_tokens t ON t.vm = v.id WHERE t.hash = $1 AND v.status <> 'destroyed'`, hash))
	if errors.Is(err, pgx.ErrNoRows) {
		return t, errBadToken()
	}
	return t, err
}

// KnownTokens returns which of some hashes are of tokens of VMs.
func (s *Store) KnownTokens(ctx context.Context, hashes [][]byte) ([][]byte, error) {
	rows, err := s.pool.Query(ctx, `SELECT hash FROM vm_tokens WHERE hash = ANY($1)`, hashes)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[[]byte])
}

// KeepLogs keeps a batch aside for a hostname that no VM has. It is kept once,
// as long as the same is not kept for more than ten minutes; kept is false if
// there is no room.
func (s *Store) KeepLogs(ctx context.Context, hostname string, hash, body []byte) (kept bool, err error) {
	err = s.transact(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtext('lablink.log.waiting'))`); err != nil {
			return err
		}
		return tx.QueryRow(ctx, `
			WITH same AS (SELECT FROM log_waiting WHERE hostname = $1 AND hash = $2 AND arrived > now() - make_interval(secs => $4)),
			used AS (SELECT count(*) AS batches, coalesce(sum(length(body)), 0) AS bytes,
				coalesce(sum(length(body)) FILTER (WHERE hostname = $1), 0) AS bytes_of FROM log_waiting),
			kept AS (INSERT INTO log_waiting (hostname, hash, body) SELECT $1, $2, $3::bytea FROM used
				WHERE NOT EXISTS (SELECT FROM same) AND batches < $5 AND bytes + length($3::bytea) <= $6 AND bytes_of + length($3::bytea) <= $7
				RETURNING id)
			SELECT EXISTS (SELECT FROM kept) OR EXISTS (SELECT FROM same)`,
			hostname, hash, body, repeatedWithin.Seconds(), maxWaitingBatches, maxWaitingBytes, maxWaitingBytesOf).Scan(&kept)
	})
	return kept, err
}

// LogsAwaited returns the live VMs for which batches were kept aside.
func (s *Store) LogsAwaited(ctx context.Context) ([]LogTarget, error) {
	rows, err := s.pool.Query(ctx, logTarget+`
		WHERE v.status <> 'destroyed' AND v.hostname IN (SELECT hostname FROM log_waiting)`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (LogTarget, error) { return scanLogTarget(row) })
}

// KeptLogs is a batch that was kept aside.
type KeptLogs struct {
	ID   int64
	Body []byte
}

// KeptLogs returns the oldest batches kept for a hostname, as many as are read at
// once.
func (s *Store) KeptLogs(ctx context.Context, hostname string) ([]KeptLogs, error) {
	rows, err := s.pool.Query(ctx, `
		SELECT id, body FROM (SELECT id, body, sum(length(body)) OVER (ORDER BY id) - length(body) AS before
			FROM log_waiting WHERE hostname = $1 ORDER BY id LIMIT 100) AS w
		WHERE before < $2 ORDER BY id`, hostname, maxWaitingBytesOf/2)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[KeptLogs])
}

// AdoptLogs stores the lines of a batch that was kept aside, unless another
// replica already did.
func (s *Store) AdoptLogs(ctx context.Context, vm, kept int64, lines NewLogLines) (stored int, err error) {
	err = s.transact(ctx, func(tx pgx.Tx) error {
		stored = 0
		if _, err := tx.Exec(ctx, logLock, vm); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `DELETE FROM log_waiting WHERE id = $1`, kept)
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		batch := &pgx.Batch{}
		lines.queue(batch, vm, &stored)
		return tx.SendBatch(ctx, batch).Close()
	})
	return stored, err
}
