package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"lablink/internal/fleet"
)

// repeatedWithin is how long a batch without event ids counts as a repetition of
// an identical one.
const repeatedWithin = 10 * time.Minute

// maxLogSources bounds the list of a log's sources: whoever may write a log may
// also make up their names.
const maxLogSources = 32

// NewLogLine is a line to be stored.
type NewLogLine struct {
	Event  []byte    // the sender's name of it, which no other line of the VM has; nil if it has none
	At     time.Time // zero is now
	Level  fleet.Level
	Source string
	Text   string
}

// NewLogLines are lines to be stored of one VM, in their order.
type NewLogLines struct {
	Lines []NewLogLine
	// Nameless, if set, is the hash of all lines without an Event: if the same was
	// stored within ten minutes, they are not stored again.
	Nameless []byte
}

// logLock is taken in transactions that write a VM's log, whose id is $1: ids are
// drawn under it, so that they become visible in their order.
const logLock = `SELECT pg_advisory_xact_lock(hashtext('lablink.log'), hashtext($1::bigint::text))`

// AddLogs stores lines of a VM's log, each only once, and returns how many were
// new. Both statements are one transaction and one message to the database.
func (s *Store) AddLogs(ctx context.Context, vm int64, lines NewLogLines) (stored int, err error) {
	batch := &pgx.Batch{}
	batch.Queue(logLock, vm)
	queueLogs(batch, vm, lines, &stored)
	err = s.pool.SendBatch(ctx, batch).Close()
	return stored, err
}

func queueLogs(batch *pgx.Batch, vm int64, lines NewLogLines, stored *int) {
	n := len(lines.Lines)
	events, at := make([][]byte, n), make([]*time.Time, n)
	levels, sources, texts := make([]string, n), make([]string, n), make([]string, n)
	for i := range lines.Lines {
		l := &lines.Lines[i]
		events[i], levels[i], sources[i], texts[i] = l.Event, string(l.Level), l.Source, l.Text
		if !l.At.IsZero() {
			at[i] = &l.At
		}
	}
	batch.Queue(`
		WITH fresh AS (INSERT INTO vm_log_batches AS b (vm, hash) SELECT $1, $2 WHERE $2::bytea IS NOT NULL
			ON CONFLICT (vm, hash) DO UPDATE SET at = now() WHERE b.at < now() - make_interval(secs => $8) RETURNING b.vm),
		stored AS (INSERT INTO vm_logs (vm, event, at, level, source, text)
			SELECT $1, event, coalesce(at, now()), level, source, text
			FROM unnest($3::bytea[], $4::timestamptz[], $5::text[], $6::text[], $7::text[]) AS given(event, at, level, source, text)
			WHERE event IS NOT NULL OR $2::bytea IS NULL OR EXISTS (SELECT FROM fresh)
			ON CONFLICT DO NOTHING RETURNING source),
		sums AS (SELECT count(*) AS lines, coalesce(array_agg(DISTINCT source), '{}') AS sources FROM stored),
		total AS (INSERT INTO vm_log_totals AS t (vm, lines, sources) SELECT $1, lines, sources FROM sums WHERE lines > 0
			ON CONFLICT (vm) DO UPDATE SET lines = t.lines + excluded.lines,
				sources = CASE WHEN t.sources @> excluded.sources OR cardinality(t.sources) >= $9 THEN t.sources
					ELSE (SELECT array_agg(DISTINCT x ORDER BY x) FROM unnest(t.sources || excluded.sources) AS x) END)
		SELECT lines FROM sums`,
		vm, lines.Nameless, events, at, levels, sources, texts, repeatedWithin.Seconds(), maxLogSources).
		QueryRow(func(row pgx.Row) error { return row.Scan(stored) })
}
