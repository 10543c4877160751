//go:build linux

package bench_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"lablink/internal/store"
	"lablink/internal/wire"
)

func BenchmarkLogs(b *testing.B) {
	for range b.N {
		measureLogs(b, &table, full())
	}
}

const (
	postLines = 50  // of one post
	bulkLines = 500 // of one that is to bring many
	logSource = "console"
)

// measureLogs asks what it costs to take in what VMs print, as their logs grow:
// posts of 50 lines, by the store alone and over HTTP, each beside a bare COPY of
// the same rows into a table without an index. Then how many lines a second are
// taken in from four VMs, and how long it takes until somebody who watches a log,
// by asking every 500 ms, has a line that was written.
func measureLogs(tb testing.TB, r *report, sc scale) {
	const senders = 4
	d := newDatabase(tb, len(sc.stored)+senders)
	p := newServe(tb, sc, folder(tb), d.url(), "LABLINK_LIMITS_VM_LOG_POSTS_PER_MINUTE=1000000", "LABLINK_LOGS_MAX_LINES=100000000")
	p.start()
	l := newLogs(tb, d, p)
	for i, stored := range sc.stored {
		m := d.machines[i]
		l.fill(m, stored)
		var byStore, byHTTP, floor []time.Duration
		for range sc.posts {
			byStore = append(byStore, l.add(m, postLines))
			floor = append(floor, l.copyRows(l.floor, postLines))
			byHTTP = append(byHTTP, l.post(m, postLines))
		}
		name := func(how string) string {
			return fmt.Sprintf("post of %d lines with %d stored, %s", postLines, stored, how)
		}
		key := fmt.Sprintf("post-%d", stored)
		r.add(tb, figure{name("store"), key + "-store", "ms", ms(percentile(byStore, .5)), ms(percentile(floor, .5)), "3, and flat"})
		r.add(tb, figure{name("HTTP"), key + "-http", "ms", ms(percentile(byHTTP, .5)), ms(percentile(floor, .5)), "3, and flat"})
	}

	vms := d.machines[len(sc.stored):]
	var taken, floors []float64
	for range sc.rounds {
		taken = append(taken, rate(sc.level, senders, func(sender int) { l.post(vms[sender], bulkLines) }))
		conns := make([]*pgx.Conn, senders)
		for i := range conns {
			conns[i] = l.connect()
		}
		floors = append(floors, rate(sc.level, senders, func(sender int) { l.copyRows(conns[sender], bulkLines) }))
	}
	r.add(tb, figure{fmt.Sprintf("lines a second from %d VMs, HTTP", senders), "lines", "/s", median(taken) * bulkLines, median(floors) * bulkLines, "a third"})

	visible := l.visible(vms[0], sc.samples)
	r.add(tb, figure{"line written to line seen, p50", "visible-p50", "ms", ms(percentile(visible, .5)), 0, ""})
	r.add(tb, figure{"line written to line seen, p99", "visible-p99", "ms", ms(percentile(visible, .99)), 0, "1000"})
}

// rate is how many calls of f are made a second, by several at once.
func rate(period time.Duration, atOnce int, f func(sender int)) float64 {
	var calls atomic.Int64
	var wg sync.WaitGroup
	began := time.Now()
	for sender := range atOnce {
		wg.Go(func() {
			for time.Since(began) < period {
				f(sender)
				calls.Add(1)
			}
		})
	}
	wg.Wait()
	return float64(calls.Load()) / time.Since(began).Seconds()
}

// logs are what VMs print, and ways to have it stored.
type logs struct {
	tb     testing.TB
	d      *database
	url    string
	client *http.Client
	floor  *pgx.Conn
	last   atomic.Int64
}

func newLogs(tb testing.TB, d *database, p *process) *logs {
	tb.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: 8}
	tb.Cleanup(transport.CloseIdleConnections)
	l := &logs{tb: tb, d: d, url: "http://" + p.addr + wire.PathLogs, client: &http.Client{Transport: transport, Timeout: time.Minute}}
	d.exec(`CREATE TABLE floor_lines (vm bigint, at timestamptz, event bytea, level text, source text, text text)`)
	d.exec(`GRANT ALL ON floor_lines TO lablink`)
	l.floor = l.connect()
	return l
}

func (l *logs) connect() *pgx.Conn {
	l.tb.Helper()
	conn, err := pgx.Connect(context.Background(), l.d.url())
	if err != nil {
		l.tb.Fatal(err)
	}
	l.tb.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// line returns the number of a new line, and its text.
func (l *logs) line() (n int64, text string) {
	n = l.last.Add(1)
	return n, fmt.Sprintf("2025-11-24 10:00:00,000 - lablink_client.subscribe - INFO - line %d of what a machine prints while it works", n)
}

func (l *logs) fill(m machine, lines int) {
	const atOnce = 10_000
	for lines > 0 {
		l.add(m, min(lines, atOnce))
		lines -= atOnce
	}
	l.d.exec(`VACUUM ANALYZE vm_logs`)
}

// add stores lines without a web server.
func (l *logs) add(m machine, lines int) time.Duration {
	l.tb.Helper()
	ctx := context.Background()
	target, err := l.d.store.LogTarget(ctx, m.hostname, 0)
	if err != nil {
		l.tb.Fatal(err)
	}
	batch := store.NewLogLines{Lines: make([]store.NewLogLine, lines)}
	for i := range batch.Lines {
		n, text := l.line()
		batch.Lines[i] = store.NewLogLine{Event: fmt.Appendf(nil, "%020d", n), At: time.Now(), Level: "info", Source: logSource, Text: text}
	}
	began := time.Now()
	stored, err := l.d.store.AddLogs(ctx, target.ID, batch)
	if err != nil || stored != lines {
		l.tb.Fatalf("%d lines were stored, %v", stored, err)
	}
	return time.Since(began)
}

// post sends lines as an agent does.
func (l *logs) post(m machine, lines int) time.Duration {
	batch := wire.LogBatch{Hostname: m.hostname, Source: logSource, Events: make([]wire.LogEvent, lines)}
	for i := range batch.Events {
		n, text := l.line()
		batch.Events[i] = wire.LogEvent{ID: fmt.Sprintf("%020d", n), Time: wire.LogTime{Time: time.Now()}, Message: text}
	}
	body, err := json.Marshal(batch)
	if err != nil {
		l.tb.Error(err)
	}
	began := time.Now()
	l.call(http.MethodPost, l.url, m.token, body, nil)
	return time.Since(began)
}

func (l *logs) call(method, url, token string, body []byte, v any) {
	req, err := http.NewRequestWithContext(context.Background(), method, url, bytes.NewReader(body))
	if err != nil {
		l.tb.Error(err)
		return
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := l.client.Do(req)
	if err != nil {
		l.tb.Error(err)
		return
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		l.tb.Errorf("%s %s: %d %s %v", method, url, resp.StatusCode, answer, err)
		return
	}
	if v != nil {
		if err := json.Unmarshal(answer, v); err != nil {
			l.tb.Error(err)
		}
	}
}

// copyRows is the floor: the same rows by COPY, and a commit.
func (l *logs) copyRows(conn *pgx.Conn, lines int) time.Duration {
	rows := make([][]any, lines)
	for i := range rows {
		n, text := l.line()
		rows[i] = []any{int64(1), time.Now(), fmt.Appendf(nil, "%020d", n), "info", logSource, text}
	}
	began := time.Now()
	err := pgx.BeginFunc(context.Background(), conn, func(tx pgx.Tx) error {
		_, err := tx.CopyFrom(context.Background(), pgx.Identifier{"floor_lines"},
			[]string{"vm", "at", "event", "level", "source", "text"}, pgx.CopyFromRows(rows))
		return err
	})
	if err != nil {
		l.tb.Error(err)
	}
	return time.Since(began)
}

// visible follows a log as the page does, and returns how long it took until
// lines were seen that were written at any time between two looks.
func (l *logs) visible(m machine, samples int) []time.Duration {
	const look = 500 * time.Millisecond
	ctx := context.Background()
	target, err := l.d.store.LogTarget(ctx, m.hostname, 0)
	if err != nil {
		l.tb.Fatal(err)
	}
	newest, err := l.d.store.LogLines(ctx, target.ID, store.LogQuery{Newest: true, Limit: 1})
	if err != nil || len(newest) != 1 {
		l.tb.Fatalf("the newest line: %v, %v", newest, err)
	}
	after := newest[0].Cursor
	written := make([]time.Time, samples)
	var took []time.Duration
	var following sync.WaitGroup
	var sent atomic.Int64
	following.Go(func() {
		ticker := time.NewTicker(look)
		defer ticker.Stop()
		for len(took) < samples && !l.tb.Failed() {
			<-ticker.C
			var page struct {
				Lines []struct{ Message string }
				Next  int64
			}
			l.call(http.MethodGet, fmt.Sprintf("%s/%s?format=json&after=%d", l.url, m.hostname, after), m.token, nil, &page)
			after = page.Next
			for _, line := range page.Lines {
				if n := int(sent.Load()); len(took) < n && strings.HasPrefix(line.Message, "seen ") {
					took = append(took, time.Since(written[len(took)]))
				}
			}
		}
	})
	for n := range samples {
		written[n] = time.Now()
		sent.Add(1)
		body, err := json.Marshal(wire.LogBatch{Hostname: m.hostname, Source: logSource, Events: []wire.LogEvent{{ID: fmt.Sprintf("seen %d", n), Message: fmt.Sprintf("seen %d", n)}}})
		if err != nil {
			l.tb.Error(err)
		}
		l.call(http.MethodPost, l.url, m.token, body, nil)
		if err := pause(ctx, 7*time.Millisecond); err != nil {
			l.tb.Error(err)
		}
	}
	following.Wait()
	return took
}

func median(values []float64) float64 {
	var d []time.Duration
	for _, v := range values {
		d = append(d, time.Duration(v*1e6))
	}
	return float64(percentile(d, .5)) / 1e6
}
