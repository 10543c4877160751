package web

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"lablink/internal/httpx"
	"lablink/internal/store"
)

// logBurst is how many new lines a live page gets at once. If there are more, it
// gets the newest.
const logBurst = 1000

// logNews is what a live page adds to its end.
type logNews struct {
	Skipped int64  // lines that were left out before these
	Gap     string // where they are
	Rows    []logRow
}

// logReader follows the end of a log.
type logReader struct {
	w      *Web
	vm     int64
	path   string
	filter logFilter
	cursor int64 // of the last line that was looked at
}

// getLogEvents sends the lines that are written from now on, as fragments. Each
// event carries the cursor of its last line, so that a browser that connects again
// goes on there.
func (w *Web) getLogEvents(rw http.ResponseWriter, r *http.Request) error {
	httpx.Quiet(r)
	ctx, cancel := context.WithTimeout(r.Context(), readTimeout)
	vm, err := w.store.LogVM(ctx, r.PathValue("hostname"))
	cancel()
	if err != nil {
		return err
	}
	f, p, _ := readLogFilter(r.URL.Query())
	reader := logReader{w: w, vm: vm.ID, path: logAddress(vm.Hostname), filter: f, cursor: p.after}
	if last, err := strconv.ParseInt(r.Header.Get("Last-Event-ID"), 10, 64); err == nil {
		reader.cursor = last
	}
	stream, err := httpx.Stream(rw)
	if err != nil {
		return err
	}
	tick := time.NewTicker(w.times.logTick)
	defer tick.Stop()
	keepAlive := time.NewTicker(w.times.keepAlive)
	defer keepAlive.Stop()
	for {
		fragment, err := reader.read(r.Context())
		switch {
		case r.Context().Err() != nil:
			return nil // the reader has gone
		case err != nil:
			httpx.Logger(r.Context()).Warn("log not read for a live page", "error", err)
		case fragment != "":
			if stream.SendID(strconv.FormatInt(reader.cursor, 10), "lines", fragment) != nil {
				return nil // the reader has gone
			}
		}
		select {
		case <-r.Context().Done():
			return nil
		case <-w.feed.Closed():
			return nil
		case <-keepAlive.C:
			if stream.Comment() != nil {
				return nil
			}
		case <-tick.C:
		}
	}
}

// read returns the lines after the cursor as a fragment, "" if there are none that
// fit, and moves the cursor.
func (l *logReader) read(ctx context.Context) (fragment string, err error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	// A filter that fits nothing must not look at the same lines again and again.
	head, err := l.w.store.LogHead(ctx, l.vm)
	if err != nil || head <= l.cursor {
		return "", err
	}
	q := l.filter.query()
	q.After, q.Before, q.Limit, q.Newest = l.cursor, head+1, logBurst+1, true
	lines, err := l.w.store.LogLines(ctx, l.vm, q)
	if err != nil {
		return "", err
	}
	news := logNews{}
	if len(lines) > logBurst {
		lines = lines[1:]
		count, err := l.w.store.CountLogLines(ctx, l.vm, q)
		if err != nil {
			return "", err
		}
		news.Skipped = count - logBurst
		news.Gap = l.filter.address(l.path, "after", strconv.FormatInt(l.cursor, 10))
	}
	l.cursor = head
	if len(lines) == 0 {
		return "", nil
	}
	news.Rows = logRows(lines, l.filter.Text, 0, l.path)
	body, err := l.w.render("admin_log", "news", news)
	return string(body), err
}

// getLogDownload sends the lines that fit a filter as a file.
func (w *Web) getLogDownload(rw http.ResponseWriter, r *http.Request) error {
	ctx, cancel := context.WithTimeout(r.Context(), readTimeout)
	vm, err := w.store.LogVM(ctx, r.PathValue("hostname"))
	cancel()
	if err != nil {
		return err
	}
	f, _, _ := readLogFilter(r.URL.Query())
	return w.download(rw, r, "lablink-"+vm.Hostname+".log", func(d *download) error {
		return w.store.EachLogLine(r.Context(), vm.ID, f.query(), func(l store.LogLine) error {
			level := string(l.Level)
			if level == "" {
				level = "-"
			}
			_, err := d.buffer.WriteString(l.At.UTC().Format("2006-01-02T15:04:05.000Z") + " " + level + " " + l.Source + " " + l.Text + "\n")
			return err
		})
	})
}
