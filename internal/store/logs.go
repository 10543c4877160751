package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"lablink/internal/fleet"
)

// LogVM is a VM as its log knows it.
type LogVM struct {
	ID             int64
	Hostname       string
	Status         fleet.Status
	Live           bool
	Destroyed      time.Time // zero if it is not
	Lines, Dropped int64     // stored now; dropped because there were too many
	First, Last    time.Time // of the lines stored now; zero without any
	Sources        []string
}

// LogLine is one line of a log. Its cursor grows with each line of its VM.
type LogLine struct {
	Cursor      int64
	At, Arrived time.Time
	Level       fleet.Level
	Source      string
	Text        string
}

// LogQuery says which lines of a log somebody asks for.
type LogQuery struct {
	After, Before int64       // cursors, exclusive; 0 is no bound
	Since, Until  time.Time   // of At, from Since on and before Until; zero is no bound
	Level         fleet.Level // at least this severe; "" is all
	Source        string      // "" is all
	Text          string      // in the line, whatever its case; "" is all
	Limit         int         // at most so many
	Newest        bool        // the newest that fit instead of the oldest
}

// LogVM returns the live VM of a name, or else the one destroyed last whose log
// is still kept.
func (s *Store) LogVM(ctx context.Context, hostname string) (LogVM, error) {
	var v LogVM
	var destroyed, first, last *time.Time
	err := s.pool.QueryRow(ctx, `
		SELECT v.id, v.hostname, v.status, v.status <> 'destroyed', v.destroyed_at, coalesce(t.lines, 0), coalesce(t.dropped, 0), coalesce(t.sources, '{}'),
			(SELECT at FROM vm_logs WHERE vm = v.id ORDER BY id LIMIT 1),
			(SELECT at FROM vm_logs WHERE vm = v.id ORDER BY id DESC LIMIT 1)
		FROM vms v LEFT JOIN vm_log_totals t ON t.vm = v.id
		WHERE v.hostname = $1 AND (v.status <> 'destroyed' OR t.vm IS NOT NULL)
		ORDER BY v.status <> 'destroyed' DESC, v.id DESC LIMIT 1`, hostname).
		Scan(&v.ID, &v.Hostname, &v.Status, &v.Live, &destroyed, &v.Lines, &v.Dropped, &v.Sources, &first, &last)
	if errors.Is(err, pgx.ErrNoRows) {
		return v, noVM(hostname)
	}
	if destroyed != nil {
		v.Destroyed = *destroyed
	}
	if first != nil && last != nil {
		v.First, v.Last = *first, *last
	}
	return v, err
}

// LogHead returns the cursor of a log's newest line, 0 if there is none.
func (s *Store) LogHead(ctx context.Context, vm int64) (cursor int64, err error) {
	err = s.pool.QueryRow(ctx, `SELECT coalesce(max(id), 0) FROM vm_logs WHERE vm = $1`, vm).Scan(&cursor)
	return cursor, err
}

// CountLogLines returns how many lines fit a query, whatever its limit.
func (s *Store) CountLogLines(ctx context.Context, vm int64, q LogQuery) (n int64, err error) {
	where, args := q.where(vm)
	err = s.pool.QueryRow(ctx, `SELECT count(*) FROM vm_logs WHERE `+where, args...).Scan(&n)
	return n, err
}

const logColumns = `id, at, arrived, level, source, text`

func scanLogLine(row pgx.CollectableRow) (LogLine, error) {
	var l LogLine
	err := row.Scan(&l.Cursor, &l.At, &l.Arrived, &l.Level, &l.Source, &l.Text)
	return l, err
}

// LogLines returns lines of a VM's log, in the order of their cursors.
func (s *Store) LogLines(ctx context.Context, vm int64, q LogQuery) ([]LogLine, error) {
	rows, err := s.queryLog(ctx, vm, q)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scanLogLine)
}

// logPage is how many lines EachLogLine reads at once.
const logPage = 1000

// EachLogLine calls f with each line that LogLines would return, until f returns
// an error. It reads page by page, so that a slow receiver holds no connection to
// the database, and ends with the last line that was there when it began.
func (s *Store) EachLogLine(ctx context.Context, vm int64, q LogQuery, f func(LogLine) error) error {
	q, left, err := s.settleLog(ctx, vm, q)
	for err == nil && left > 0 {
		q.Limit = int(min(left, logPage))
		var lines []LogLine
		if lines, err = s.LogLines(ctx, vm, q); err != nil {
			return err
		}
		for _, l := range lines {
			if err := f(l); err != nil {
				return err
			}
			q.After = l.Cursor
		}
		left -= int64(len(lines))
		if len(lines) < q.Limit {
			return nil
		}
	}
	return err
}

// LogTail returns the newest lines of a log, oldest first, as many as have no
// more than so many bytes with a line end each, and whether there are older ones.
func (s *Store) LogTail(ctx context.Context, vm int64, bytes int) (lines []LogLine, older bool, err error) {
	q := LogQuery{Newest: true, Limit: logPage}
	var pages [][]LogLine
	for page := []LogLine{{}}; len(page) > 0 && !older; {
		if page, err = s.LogLines(ctx, vm, q); err != nil {
			return nil, false, err
		}
		for i, l := range slices.Backward(page) {
			q.Before = l.Cursor
			if bytes -= len(l.Text) + 1; bytes < 0 {
				page, older = page[i+1:], true
				break
			}
		}
		pages = append(pages, page)
	}
	slices.Reverse(pages)
	return slices.Concat(pages...), older, nil
}

// settleLog turns a query into one that is read forwards and has an end, of at
// most so many lines.
func (s *Store) settleLog(ctx context.Context, vm int64, q LogQuery) (_ LogQuery, most int64, err error) {
	most = math.MaxInt64
	if q.Limit > 0 {
		most = int64(q.Limit)
	}
	if q.Before == 0 {
		q.Before, err = s.LogHead(ctx, vm)
		q.Before++
	}
	if err != nil || !q.Newest || q.Limit <= 0 {
		q.Newest = false
		return q, most, err
	}
	where, args := q.where(vm)
	q.Newest = false
	err = s.pool.QueryRow(ctx, `SELECT coalesce(min(id), 1) - 1 FROM (SELECT id FROM vm_logs WHERE `+where+
		fmt.Sprintf(` ORDER BY id DESC LIMIT %d) AS newest`, q.Limit), args...).Scan(&q.After)
	return q, most, err
}

func (s *Store) queryLog(ctx context.Context, vm int64, q LogQuery) (pgx.Rows, error) {
	where, args := q.where(vm)
	sql := `SELECT ` + logColumns + ` FROM vm_logs WHERE ` + where + ` ORDER BY id`
	if q.Newest {
		sql += ` DESC`
	}
	if q.Limit > 0 {
		sql += fmt.Sprintf(` LIMIT %d`, q.Limit)
	}
	if q.Newest {
		sql = `SELECT * FROM (` + sql + `) AS newest ORDER BY id`
	}
	return s.pool.Query(ctx, sql, args...)
}

// where is the condition of a query in SQL, with its arguments.
func (q LogQuery) where(vm int64) (string, []any) {
	where, args := []string{"vm = $1"}, []any{vm}
	and := func(condition string, arg any) {
		args = append(args, arg)
		where = append(where, fmt.Sprintf(condition, len(args)))
	}
	if q.After > 0 {
		and("id > $%d", q.After)
	}
	if q.Before > 0 {
		and("id < $%d", q.Before)
	}
	if !q.Since.IsZero() {
		and("at >= $%d", q.Since)
	}
	if !q.Until.IsZero() {
		and("at < $%d", q.Until)
	}
	switch q.Level {
	case fleet.LevelNone:
	case fleet.LevelError:
		where = append(where, "level = 'error'") // word for word the predicate of the index
	default:
		and("level = ANY($%d)", q.Level.AtLeast())
	}
	if q.Source != "" {
		and("source = $%d", q.Source)
	}
	if q.Text != "" {
		and("text ILIKE $%d", "%"+likeEscaper.Replace(q.Text)+"%")
	}
	return strings.Join(where, " AND "), args
}

var likeEscaper = strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`)

// LogErrors are the errors of one VM's log.
type LogErrors struct {
	VM       int64
	Hostname string
	Status   fleet.Status
	Errors   int64
	Last     LogLine // the newest of them
}

// LogErrors returns the VMs with errors in their logs that arrived at a time or
// later, those with the most first.
func (s *Store) LogErrors(ctx context.Context, since time.Time) ([]LogErrors, error) {
	rows, err := s.pool.Query(ctx, `
		WITH errors AS (SELECT vm, count(*) AS n, max(id) AS last FROM vm_logs WHERE level = 'error' AND arrived >= $1 GROUP BY vm)
		SELECT v.id, v.hostname, v.status, e.n, l.id, l.at, l.arrived, l.level, l.source, l.text
		FROM errors e JOIN vms v ON v.id = e.vm JOIN vm_logs l ON l.vm = e.vm AND l.id = e.last
		ORDER BY e.n DESC, v.hostname, v.id`, since)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (LogErrors, error) {
		var e LogErrors
		l := &e.Last
		err := row.Scan(&e.VM, &e.Hostname, &e.Status, &e.Errors, &l.Cursor, &l.At, &l.Arrived, &l.Level, &l.Source, &l.Text)
		return e, err
	})
}
