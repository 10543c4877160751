package web

import (
	"net/http"
	"strings"
	"time"

	"lablink/internal/fleet"
	"lablink/internal/store"
)

// logsView is which VMs have written errors lately.
type logsView struct {
	frame
	Within  string // the period, as in the address
	Periods []period
	Table   logsTable
}

// logsTable is the part of it that is read again and again.
type logsTable struct {
	Words  string // the period, in words
	Errors int64
	Rows   []logsRow
}

// Version names what the table shows.
func (t logsTable) Version() string { return versionOf(t) }

// logsRow is one VM.
type logsRow struct {
	Hostname string
	Gone     bool // it is destroyed
	Errors   int64
	At       moment // of the last one
	Source   string
	Text     string // of the last one, its beginning
	Link     string // to that line
	All      string // to the errors
}

// period is how far back somebody looks.
type period struct{ Name, Words string }

var (
	periods = []period{{"10m", "10 minutes"}, {"1h", "hour"}, {"24h", "24 hours"}, {"7d", "7 days"}}
	spans   = map[string]time.Duration{"10m": 10 * time.Minute, "1h": time.Hour, "24h": 24 * time.Hour, "7d": 7 * 24 * time.Hour}
)

// longestError is how much of an error the table shows, in characters.
const longestError = 200

func (w *Web) getLogs(rw http.ResponseWriter, r *http.Request) error {
	within := periods[0]
	for _, p := range periods {
		if p.Name == r.URL.Query().Get("within") {
			within = p
		}
	}
	now := time.Now()
	found, err := w.store.LogErrors(r.Context(), now.Add(-spans[within.Name]))
	if err != nil {
		return err
	}
	table := logsTable{Words: within.Words}
	for _, e := range found {
		path, text := logAddress(e.Hostname), e.Last.Text
		if runes := []rune(text); len(runes) > longestError {
			text = strings.TrimSpace(string(runes[:longestError])) + " …"
		}
		link := logRows([]store.LogLine{e.Last}, "", 0, path)[0].Link
		table.Errors += e.Errors
		table.Rows = append(table.Rows, logsRow{
			Hostname: e.Hostname, Gone: e.Status == fleet.StatusDestroyed, Errors: e.Errors, At: momentOf(e.Last.Arrived, now),
			Source: e.Last.Source, Text: text, Link: link, All: logFilter{Level: fleet.LevelError}.address(path),
		})
	}
	return w.page(rw, http.StatusOK, "admin_logs", logsView{frame: w.adminFrame("Logs", "logs"), Within: within.Name, Periods: periods, Table: table})
}
