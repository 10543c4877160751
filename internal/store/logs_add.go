package store

import (
	"context"
	"slices"
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
	Event  []byte    // what it is known by, as no other line of any VM; nil if it has no name
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
// new. It is one message to the database.
func (s *Store) AddLogs(ctx context.Context, vm int64, lines NewLogLines) (stored int, err error) {
	batch := &pgx.Batch{}
	batch.Queue(logLock, vm)
	lines.queue(batch, vm, &stored)
	err = s.pool.SendBatch(ctx, batch).Close()
	return stored, err
}

// queue adds the statement that stores the lines to a batch that takes logLock
// before it.
func (l NewLogLines) queue(batch *pgx.Batch, vm int64, stored *int) {
	n := len(l.Lines)
	events, at := make([][]byte, n), make([]*time.Time, n)
	levels, sources, texts := make([]string, n), make([]string, n), make([]string, n)
	for i := range l.Lines {
		line := &l.Lines[i]
		events[i], levels[i], sources[i], texts[i] = line.Event, string(line.Level), line.Source, line.Text
		if !line.At.IsZero() {
			at[i] = &line.At
		}
	}
	args := []any{vm, events, at, levels, sources, texts, distinct(sources), maxLogSources}
	nameless, repeated := ``, `false`
	if l.Nameless != nil {
		nameless = `fresh AS (INSERT INTO vm_log_batches AS b (vm, hash) VALUES ($1, $9)
			ON CONFLICT (vm, hash) DO UPDATE SET at = now() WHERE b.at < now() - make_interval(secs => $10) RETURNING b.vm),`
		repeated = `event IS NULL AND NOT EXISTS (SELECT FROM fresh)`
		args = append(args, l.Nameless, repeatedWithin.Seconds())
	}
	batch.Queue(`
		WITH `+nameless+`
		stored AS (INSERT INTO vm_logs (vm, event, at, level, source, text)
			SELECT $1, event, coalesce(at, now()), level, source, text
			FROM unnest($2::bytea[], $3::timestamptz[], $4::text[], $5::text[], $6::text[]) AS given(event, at, level, source, text)
			WHERE NOT (`+repeated+`)
			ON CONFLICT (event) WHERE event IS NOT NULL DO NOTHING RETURNING 1),
		sums AS (SELECT count(*) AS lines FROM stored),
		total AS (INSERT INTO vm_log_totals AS t (vm, lines, sources) SELECT $1, lines, $7 FROM sums WHERE lines > 0
			ON CONFLICT (vm) DO UPDATE SET lines = t.lines + excluded.lines,
				sources = CASE WHEN t.sources @> excluded.sources OR cardinality(t.sources) >= $8 THEN t.sources
					ELSE (SELECT array_agg(DISTINCT x ORDER BY x) FROM unnest(t.sources || excluded.sources) AS x) END)
		SELECT lines FROM sums`, args...).
		QueryRow(func(row pgx.Row) error { return row.Scan(stored) })
}

func distinct(texts []string) []string {
	texts = slices.Clone(texts)
	slices.Sort(texts)
	return slices.Compact(texts)
}
