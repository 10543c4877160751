package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"lablink/internal/fleet"
)

// purgeBatch is how many lines go at once: few enough that nobody who writes the
// same log waits noticeably.
const purgeBatch = 2000

// noticeSource is that of the lines that LabLink itself adds to a log.
const noticeSource = "lablink"

// PurgeLogs removes the logs of VMs that were destroyed longer than keep ago, in
// small steps, and returns how many lines went.
func (s *Store) PurgeLogs(ctx context.Context, keep time.Duration) (removed int64, err error) {
	for {
		var vm int64
		err := s.pool.QueryRow(ctx, `SELECT t.vm FROM vm_log_totals t LEFT JOIN vms v ON v.id = t.vm
			WHERE v.id IS NULL OR v.destroyed_at < now() - make_interval(secs => $1) ORDER BY t.vm LIMIT 1`, keep.Seconds()).Scan(&vm)
		if errors.Is(err, pgx.ErrNoRows) {
			return removed, nil
		}
		if err != nil {
			return removed, err
		}
		n, err := s.removeLog(ctx, vm)
		removed += n
		if err != nil {
			return removed, err
		}
	}
}

// removeLog removes a log, and what is noted of it once it is empty.
func (s *Store) removeLog(ctx context.Context, vm int64) (removed int64, err error) {
	for {
		var n int64
		err := s.transact(ctx, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, logLock, vm); err != nil {
				return err
			}
			tag, err := tx.Exec(ctx, `DELETE FROM vm_logs WHERE vm = $1 AND id IN (SELECT id FROM vm_logs WHERE vm = $1 ORDER BY id LIMIT $2)`, vm, purgeBatch)
			if n = tag.RowsAffected(); err != nil || n == purgeBatch {
				return err
			}
			_, err = tx.Exec(ctx, `WITH total AS (DELETE FROM vm_log_totals WHERE vm = $1) DELETE FROM vm_log_batches WHERE vm = $1`, vm)
			return err
		})
		removed += n
		if err != nil || n < purgeBatch {
			return removed, err
		}
	}
}

// CapLogs drops the oldest lines of logs that have more than most, in small
// steps. The first line that is left is replaced by one that says so.
func (s *Store) CapLogs(ctx context.Context, most int) (dropped int64, err error) {
	rows, err := s.pool.Query(ctx, `SELECT vm FROM vm_log_totals WHERE lines > $1 ORDER BY vm`, most)
	if err != nil {
		return 0, err
	}
	vms, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	for _, vm := range vms {
		for err == nil {
			var n int64
			n, err = s.capLog(ctx, vm, most)
			dropped += n
			if n == 0 {
				break
			}
		}
	}
	return dropped, err
}

// capLog drops one step's lines under the lock of whoever writes the log, and
// returns how many of the VM's own went.
func (s *Store) capLog(ctx context.Context, vm int64, most int) (dropped int64, err error) {
	err = s.transact(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, logLock, vm); err != nil {
			return err
		}
		var over int64
		err := tx.QueryRow(ctx, `SELECT lines - $2 FROM vm_log_totals WHERE vm = $1`, vm, most).Scan(&over)
		if errors.Is(err, pgx.ErrNoRows) || err == nil && over <= 0 {
			dropped = 0
			return nil
		}
		if err != nil {
			return err
		}
		// One more than there are too many of, which makes room for the notice: it takes
		// the place of the newest that goes.
		var last int64
		var at time.Time
		if err := tx.QueryRow(ctx, `
			WITH gone AS (DELETE FROM vm_logs WHERE vm = $1 AND id IN (SELECT id FROM vm_logs WHERE vm = $1 ORDER BY id LIMIT $2)
				RETURNING id, at, source)
			SELECT count(*) FILTER (WHERE source <> $3), max(id), (SELECT at FROM gone ORDER BY id DESC LIMIT 1) FROM gone`,
			vm, min(over+1, purgeBatch), noticeSource).Scan(&dropped, &last, &at); err != nil {
			return err
		}
		var all int64
		if err := tx.QueryRow(ctx, `
			UPDATE vm_log_totals SET lines = lines - $2 + 1, dropped = dropped + $3 WHERE vm = $1 RETURNING dropped`,
			vm, min(over+1, purgeBatch), dropped).Scan(&all); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `INSERT INTO vm_logs (vm, id, at, level, source, text) OVERRIDING SYSTEM VALUE VALUES ($1, $2, $3, $4, $5, $6)`,
			vm, last, at, fleet.LevelWarn, noticeSource,
			fmt.Sprintf("%s older lines were dropped: a log keeps its newest %s (logs.max_lines)", thousands(all), thousands(int64(most))))
		return err
	})
	return dropped, err
}

// thousands writes a number as people read it: 12,345.
func thousands(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// ExpireLogs forgets batches that were kept aside for longer than keep, and what
// is only remembered to know repetitions. It returns how many batches nobody came
// for.
func (s *Store) ExpireLogs(ctx context.Context, keep time.Duration) (expired int64, err error) {
	tag, err := s.pool.Exec(ctx, `DELETE FROM log_waiting WHERE arrived < now() - make_interval(secs => $1)`, keep.Seconds())
	if err != nil {
		return 0, err
	}
	_, err = s.pool.Exec(ctx, `DELETE FROM vm_log_batches WHERE (vm, hash) IN (SELECT vm, hash FROM vm_log_batches
		WHERE at < now() - make_interval(secs => $1) LIMIT 10000 FOR UPDATE SKIP LOCKED)`, repeatedWithin.Seconds())
	return tag.RowsAffected(), err
}
