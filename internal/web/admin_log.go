package web

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"lablink/internal/fleet"
	"lablink/internal/store"
)

// logLines is how many lines of a log a page has.
const logLines = 500

// logView is the log of one VM.
type logView struct {
	frame
	Hostname string
	Live     bool   // the VM is not destroyed
	Kept     string // of one that is: until when its log is there
	Dropped  int64  // lines that there were too many of
	Sources  []string
	Filter   logFilter
	Problem  string // with what was asked for
	Note     string
	Empty    string // why there are no lines
	Rows     []logRow

	Older, Newer, Newest string // addresses; "" if there is nothing
	Download             string
	Stream               string // of the lines that follow these, "" if there are newer ones already
}

// logFilter is which lines somebody wants to see, as it stands in the address.
type logFilter struct {
	Text, Source string
	Level        fleet.Level
	At           string // as it was typed; a place, but part of the form
}

// logPlace is where in the log somebody wants to be. Zero is its end.
type logPlace struct {
	after, before, line int64 // cursors
	at                  time.Time
}

// logRow is one line.
type logRow struct {
	Name        string // of its place in the page: an l and its cursor
	Clock, Date string // in UTC
	ISO         string
	Level       fleet.Level
	Source      string
	Parts       []logPart
	Link        string // to this line, between its neighbours
	Marked      bool   // is the one that the address names
	NewDay      bool   // the line before it is of another day
}

// logPart is a part of a line's text that fits what was searched for, or not.
type logPart struct {
	Text string
	Hit  bool
}

func logAddress(hostname string) string { return "/admin/logs/" + url.PathEscape(hostname) }

// readLogFilter reads the query of an address. Whatever is wrong with it is said,
// and left out.
func readLogFilter(query url.Values) (f logFilter, p logPlace, problem string) {
	f.Text, f.Source, f.At = strings.TrimSpace(query.Get("q")), query.Get("source"), strings.TrimSpace(query.Get("at"))
	var err error
	if f.Level, err = fleet.ParseLevel(query.Get("level")); err != nil {
		problem = sentenceOf(err.Error())
	}
	for name, cursor := range map[string]*int64{"after": &p.after, "before": &p.before, "line": &p.line} {
		// An address that somebody has cut short shows the newest lines.
		if n, err := strconv.ParseInt(query.Get(name), 10, 64); err == nil && n > 0 {
			*cursor = n
		}
	}
	if f.At != "" {
		if p.at, err = parseLogTime(f.At, query.Get("offset")); err != nil {
			problem = "That is not a time. Type it like 2026-01-31T15:04, or like 2026-01-31 15:04:05."
		}
	}
	return f, p, problem
}

// parseLogTime reads what browsers send for a time, or people type. offset is how
// many minutes their clock is behind UTC, "" for none.
func parseLogTime(text, offset string) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	minutes, err := strconv.Atoi(offset)
	if err != nil || minutes < -24*60 || minutes > 24*60 {
		minutes = 0
	}
	text = strings.Replace(text, " ", "T", 1)
	t, err := time.Parse("2006-01-02T15:04:05", text)
	if err != nil {
		t, err = time.Parse("2006-01-02T15:04", text)
	}
	return t.Add(time.Duration(minutes) * time.Minute), err
}

// query is what the store is asked for: the filter alone, without a place.
func (f logFilter) query() store.LogQuery {
	return store.LogQuery{Text: f.Text, Source: f.Source, Level: f.Level}
}

// address is that of a part of the log with this filter, at a place that pairs
// name.
func (f logFilter) address(path string, pairs ...string) string {
	v := url.Values{}
	for _, p := range []struct{ name, value string }{{"q", f.Text}, {"source", f.Source}, {"level", string(f.Level)}} {
		if p.value != "" {
			v.Set(p.name, p.value)
		}
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		v.Set(pairs[i], pairs[i+1])
	}
	if len(v) == 0 {
		return path
	}
	return path + "?" + v.Encode()
}

// Filtered reports whether lines are left out.
func (f logFilter) Filtered() bool { return f.query() != (store.LogQuery{}) }

// excerpt is a piece of a log.
type excerpt struct {
	lines        []store.LogLine
	older, newer bool // there is more
	note         string
}

// readLog reads the piece that an address names.
func (w *Web) readLog(ctx context.Context, vm int64, f logFilter, p logPlace) (e excerpt, err error) {
	q := f.query()
	q.Limit = logLines + 1
	switch {
	case p.line > 0:
		return w.readLogAround(ctx, vm, f, p.line)
	case p.after > 0:
		q.After = p.after
		e.lines, err = w.store.LogLines(ctx, vm, q)
		e.older = true
	case !p.at.IsZero():
		q.Since = p.at
		e.lines, err = w.store.LogLines(ctx, vm, q)
		e.older = true
		if err == nil && len(e.lines) == 0 {
			e, err = w.readLog(ctx, vm, f, logPlace{})
			e.note = "Nothing was written then or later. These are the last lines."
			return e, err
		}
	default:
		q.Before, q.Newest = p.before, true
		e.lines, err = w.store.LogLines(ctx, vm, q)
		if e.older = len(e.lines) > logLines; e.older {
			e.lines = e.lines[1:]
		}
		e.newer = p.before > 0
		return e, err
	}
	if e.newer = len(e.lines) > logLines; e.newer {
		e.lines = e.lines[:logLines]
	}
	return e, err
}

// readLogAround reads a line and its neighbours.
func (w *Web) readLogAround(ctx context.Context, vm int64, f logFilter, line int64) (e excerpt, err error) {
	q := f.query()
	q.Limit, q.Before, q.Newest = logLines/2+1, line, true
	if e.lines, err = w.store.LogLines(ctx, vm, q); err != nil {
		return e, err
	}
	if e.older = len(e.lines) > logLines/2; e.older {
		e.lines = e.lines[1:]
	}
	q.Before, q.Newest, q.After = 0, false, line-1
	more, err := w.store.LogLines(ctx, vm, q)
	if len(more) == 0 || more[0].Cursor != line {
		e.note = "The line of this address is not there any more, or does not fit the filter. These are its neighbours."
	}
	if e.newer = len(more) > logLines/2; e.newer {
		more = more[:logLines/2]
	}
	e.lines = append(e.lines, more...)
	return e, err
}

func (w *Web) getLog(rw http.ResponseWriter, r *http.Request) error {
	vm, err := w.store.LogVM(r.Context(), r.PathValue("hostname"))
	if err != nil {
		return err
	}
	f, p, problem := readLogFilter(r.URL.Query())
	e, err := w.readLog(r.Context(), vm.ID, f, p)
	if err != nil {
		return err
	}
	path := logAddress(vm.Hostname)
	v := logView{
		frame: w.adminFrame("Log of "+vm.Hostname, "logs"), Hostname: vm.Hostname, Live: vm.Live, Dropped: vm.Dropped, Sources: vm.Sources,
		Filter: f, Problem: problem, Note: e.note, Rows: logRows(e.lines, f.Text, p.line, path), Download: f.address(path + "/download"),
	}
	if !vm.Live {
		v.Kept = vm.Destroyed.Add(w.cfg.Logs.Retention).UTC().Format("2 Jan 2006 15:04 MST")
	}
	last := int64(0)
	if len(e.lines) > 0 {
		last = e.lines[len(e.lines)-1].Cursor
		if e.older {
			v.Older = f.address(path, "before", strconv.FormatInt(e.lines[0].Cursor, 10))
		}
		if e.newer {
			v.Newer = f.address(path, "after", strconv.FormatInt(last, 10))
		}
	} else {
		v.Empty = emptyLog(vm, f, p)
	}
	if e.newer {
		v.Newest = f.address(path)
	} else {
		v.Stream = f.address(path+"/events", "after", strconv.FormatInt(max(last, p.after), 10))
	}
	return w.page(rw, http.StatusOK, "admin_log", v)
}

// logTail is the end of a log.
type logTail struct {
	Rows  []logRow
	Empty string // why there is none
}

// Version names what it shows.
func (t logTail) Version() string { return versionOf(t) }

// tailLines is how many lines of a log the machine's page has.
const tailLines = 8

func (w *Web) readLogTail(ctx context.Context, hostname string) (logTail, error) {
	vm, err := w.store.LogVM(ctx, hostname)
	if err != nil {
		return logTail{}, err
	}
	lines, err := w.store.LogLines(ctx, vm.ID, store.LogQuery{Newest: true, Limit: tailLines})
	return logTail{logRows(lines, "", 0, logAddress(hostname)), emptyLog(vm, logFilter{}, logPlace{})}, err
}

// emptyLog says why there is nothing to read.
func emptyLog(vm store.LogVM, f logFilter, p logPlace) string {
	switch {
	case f.Filtered() && vm.Lines > 0:
		return "No line fits."
	case p.after > 0 || p.before > 0:
		return "There are no more lines in this direction."
	case !vm.Live:
		return "This machine has written nothing."
	case vm.Status == fleet.StatusProvisioning:
		return "Nothing yet: the machine is being created."
	case vm.Status == fleet.StatusInitializing:
		return "Nothing yet: the machine boots. Its first lines come with its first report."
	default:
		return "This machine has written nothing yet."
	}
}

// logRows are lines for a page, with what fits a search, and the line of a cursor,
// marked.
func logRows(lines []store.LogLine, search string, marked int64, path string) []logRow {
	rows := make([]logRow, 0, len(lines))
	day := ""
	for _, l := range lines {
		at, cursor := l.At.UTC(), strconv.FormatInt(l.Cursor, 10)
		row := logRow{
			Name: "l" + cursor, Clock: at.Format("15:04:05.000"), Date: at.Format("Mon 2 Jan 2006"), ISO: at.Format("2006-01-02T15:04:05.000Z"),
			Level: l.Level, Source: l.Source, Parts: logParts(l.Text, search), Marked: l.Cursor == marked,
			Link: path + "?line=" + cursor + "#l" + cursor,
		}
		row.NewDay = day != row.Date
		day = row.Date
		rows = append(rows, row)
	}
	return rows
}

// logParts splits a text where it fits what was searched for.
func logParts(text, query string) (parts []logPart) {
	if query == "" {
		return []logPart{{Text: text}}
	}
	// Letters whose other case is longer or shorter would shift the places.
	low, want := strings.ToLower(text), strings.ToLower(query)
	if len(low) != len(text) {
		low, want = text, query
	}
	for {
		i := strings.Index(low, want)
		if i < 0 {
			return append(parts, logPart{Text: text})
		}
		if i > 0 {
			parts = append(parts, logPart{Text: text[:i]})
		}
		parts = append(parts, logPart{Text: text[i : i+len(want)], Hit: true})
		low, text = low[i+len(want):], text[i+len(want):]
	}
}
