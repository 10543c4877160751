package api

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"lablink/internal/fleet"
	"lablink/internal/httpx"
	"lablink/internal/store"
	"lablink/internal/wire"
)

// Bounds of one answer.
const (
	defaultLogLines = 1000
	maxLogLines     = 5000
	maxLogAnswer    = 8 << 20 // bytes of text
)

// logReaders lets a VM read its own log, and the admin every one; anybody, where
// logs are public.
func (a *API) logReaders(read http.Handler) http.Handler {
	vm := httpx.Adapt(func(w http.ResponseWriter, r *http.Request) error {
		if !a.Logs.Public {
			if _, err := a.identify(r.Context(), r, r.PathValue("hostname")); err != nil {
				return err
			}
		}
		read.ServeHTTP(w, r)
		return nil
	}, httpx.JSONError)
	admin := a.Admin(read, httpx.JSONError)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if token, _ := bearer(r); a.Logs.Public || token != "" {
			vm.ServeHTTP(w, r)
			return
		}
		admin.ServeHTTP(w, r)
	})
}

func (a *API) readLog(w http.ResponseWriter, r *http.Request) error {
	httpx.Quiet(r)
	w.Header().Set("Cache-Control", "no-store")
	query := r.URL.Query()
	switch format := query.Get("format"); format {
	case "json":
		return a.readLogLines(w, r, query)
	case "":
	default:
		return fleet.FieldErrorf("format", "format %q is not known: leave it out for one text, or ask for json", format)
	}
	vm, err := a.Store.LogVM(r.Context(), r.PathValue("hostname"))
	if err != nil {
		return err
	}
	if vm.Lines == 0 && (vm.Status == fleet.StatusInitializing || vm.Status == fleet.StatusProvisioning) {
		return fleet.Errorf(fleet.Unavailable, "%s is still starting and has written nothing yet: ask again in a moment", vm.Hostname)
	}
	lines, older, err := a.Store.LogTail(r.Context(), vm.ID, maxLogAnswer)
	if err != nil {
		return err
	}
	answer := struct {
		Hostname string  `json:"hostname"`
		Logs     *string `json:"logs"`
	}{Hostname: vm.Hostname}
	if len(lines) > 0 {
		texts := make([]string, 0, len(lines)+1)
		if older {
			texts = append(texts, fmt.Sprintf("[earlier lines are left out here; %s/%s?format=json has all, page by page]", wire.PathLogs, vm.Hostname))
		}
		for _, l := range lines {
			texts = append(texts, l.Text)
		}
		text := strings.Join(texts, "\n")
		answer.Logs = &text
	}
	return httpx.WriteJSON(w, http.StatusOK, answer)
}

// logLine is a line in JSON.
type logLine struct {
	Cursor  int64     `json:"cursor"`
	Time    time.Time `json:"time"`
	Level   string    `json:"level"`
	Source  string    `json:"source"`
	Message string    `json:"message"`
}

// readLogLines answers with a page of lines. Its next is to be given as after,
// its previous as before.
func (a *API) readLogLines(w http.ResponseWriter, r *http.Request, query url.Values) error {
	q, err := logQuery(query)
	if err != nil {
		return err
	}
	vm, err := a.Store.LogVM(r.Context(), r.PathValue("hostname"))
	if err != nil {
		return err
	}
	answer := struct {
		Hostname string    `json:"hostname"`
		Lines    []logLine `json:"lines"`
		Next     int64     `json:"next"`
		Previous int64     `json:"previous"`
	}{vm.Hostname, []logLine{}, q.After, q.Before}
	full := errors.New("the answer is full")
	bytes := 0
	err = a.Store.EachLogLine(r.Context(), vm.ID, q, func(l store.LogLine) error {
		bytes += len(l.Text)
		for bytes > maxLogAnswer && len(answer.Lines) > 0 {
			if !q.Newest {
				return full
			}
			bytes -= len(answer.Lines[0].Message)
			answer.Lines = answer.Lines[1:]
		}
		answer.Lines = append(answer.Lines, logLine{l.Cursor, l.At.UTC(), string(l.Level), l.Source, l.Text})
		return nil
	})
	if err != nil && !errors.Is(err, full) {
		return err
	}
	if n := len(answer.Lines); n > 0 {
		answer.Previous, answer.Next = answer.Lines[0].Cursor, answer.Lines[n-1].Cursor
	}
	return httpx.WriteJSON(w, http.StatusOK, answer)
}

var logParameters = []string{"format", "after", "before", "limit", "level", "since", "until", "q", "source"}

// logQuery reads what somebody asks for. With before and without after, it is
// the page that ends there.
func logQuery(query url.Values) (q store.LogQuery, err error) {
	for name, values := range query {
		if !slices.Contains(logParameters, name) {
			return q, fleet.FieldErrorf(name, "there is no parameter %q here, only %s", name, strings.Join(logParameters, ", "))
		}
		if len(values) > 1 {
			return q, fleet.FieldErrorf(name, "%s is given twice", name)
		}
	}
	q.Limit = defaultLogLines
	for name, n := range map[string]*int64{"after": &q.After, "before": &q.Before} {
		if s := query.Get(name); s != "" {
			if *n, err = strconv.ParseInt(s, 10, 64); err != nil || *n < 0 {
				return q, fleet.FieldErrorf(name, "%s must be a cursor that came with a line", name)
			}
		}
	}
	if s := query.Get("limit"); s != "" {
		if q.Limit, err = strconv.Atoi(s); err != nil || q.Limit < 1 || q.Limit > maxLogLines {
			return q, fleet.FieldErrorf("limit", "limit must be from 1 to %d", maxLogLines)
		}
	}
	for name, t := range map[string]*time.Time{"since": &q.Since, "until": &q.Until} {
		if s := query.Get(name); s != "" {
			if *t, err = time.Parse(time.RFC3339Nano, s); err != nil {
				return q, fleet.FieldErrorf(name, "%s must be a time in RFC 3339, such as 2025-01-02T03:04:05Z", name)
			}
		}
	}
	if q.Level, err = fleet.ParseLevel(query.Get("level")); err != nil {
		return q, err
	}
	if q.Source = query.Get("source"); q.Source != "" && q.Source != ownSource {
		if err := checkSource(q.Source); err != nil {
			return q, err
		}
	}
	const longest = 200
	if q.Text = query.Get("q"); len(q.Text) > longest {
		return q, fleet.FieldErrorf("q", "q must not be longer than %d bytes", longest)
	}
	q.Newest = q.Before > 0 && q.After == 0
	return q, nil
}
