package store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lablink/internal/fleet"
	"lablink/internal/store"
)

// named are lines with events first to last.
func named(first, last int) store.NewLogLines {
	var lines store.NewLogLines
	for n := first; n <= last; n++ {
		lines.Lines = append(lines.Lines, store.NewLogLine{Event: fmt.Appendf(nil, "%06d", n), Source: "console", Text: fmt.Sprintf("line %d", n)})
	}
	return lines
}

func addLogs(t *testing.T, s *store.Store, vm int64, lines store.NewLogLines, want int) {
	t.Helper()
	stored, err := s.AddLogs(t.Context(), vm, lines)
	must(t, err)
	if stored != want {
		t.Fatalf("%d lines were stored, want %d", stored, want)
	}
}

func texts(lines []store.LogLine) []string {
	out := make([]string, len(lines))
	for i, l := range lines {
		out[i] = l.Text
	}
	return out
}

func TestStore_LogsAreStoredOnce(t *testing.T) {
	t.Parallel()
	s := open(t)
	id := vm(t, s, register(t, s, 1)[0]).ID
	addLogs(t, s, id, named(1, 10), 10)
	addLogs(t, s, id, named(5, 15), 5)

	nameless := store.NewLogLines{Nameless: []byte("hash"), Lines: []store.NewLogLine{{Source: "boot", Text: "a"}, {Source: "boot", Text: "a"}}}
	addLogs(t, s, id, nameless, 2)
	addLogs(t, s, id, nameless, 0)
	must(t, store.Exec(t.Context(), s, `UPDATE vm_log_batches SET at = at - interval '11 minutes'`))
	addLogs(t, s, id, nameless, 2)

	v, err := s.LogVM(t.Context(), "vm-1")
	must(t, err)
	if v.ID != id || v.Lines != 19 || v.First.IsZero() || !cmp.Equal(v.Sources, []string{"boot", "console"}) {
		t.Errorf("the log is described as %+v", v)
	}
}

func TestStore_LogQueries(t *testing.T) {
	t.Parallel()
	s := open(t)
	id := vm(t, s, register(t, s, 1)[0]).ID
	start := time.Now().Add(-time.Hour).Truncate(time.Second)
	var in store.NewLogLines
	for i, l := range []store.NewLogLine{
		{Level: fleet.LevelDebug, Source: "boot", Text: "one"}, {Level: fleet.LevelError, Source: "console", Text: "Two 100%"},
		{Source: "console", Text: "three"}, {Level: fleet.LevelWarn, Source: "console", Text: "four_"}, {Level: fleet.LevelInfo, Source: "agent", Text: "five"},
	} {
		l.At = start.Add(time.Duration(i) * time.Minute)
		in.Lines = append(in.Lines, l)
	}
	addLogs(t, s, id, in, 5)
	all, err := s.LogLines(t.Context(), id, store.LogQuery{})
	must(t, err)
	for name, c := range map[string]struct {
		q    store.LogQuery
		want []string
	}{
		"all":             {store.LogQuery{}, []string{"one", "Two 100%", "three", "four_", "five"}},
		"after":           {store.LogQuery{After: all[2].Cursor}, []string{"four_", "five"}},
		"before":          {store.LogQuery{Before: all[2].Cursor, Newest: true, Limit: 1}, []string{"Two 100%"}},
		"newest":          {store.LogQuery{Newest: true, Limit: 2}, []string{"four_", "five"}},
		"oldest":          {store.LogQuery{Limit: 2}, []string{"one", "Two 100%"}},
		"since and until": {store.LogQuery{Since: start.Add(time.Minute), Until: start.Add(3 * time.Minute)}, []string{"Two 100%", "three"}},
		"warnings":        {store.LogQuery{Level: fleet.LevelWarn}, []string{"Two 100%", "four_"}},
		"errors":          {store.LogQuery{Level: fleet.LevelError}, []string{"Two 100%"}},
		"source":          {store.LogQuery{Source: "console", Newest: true, Limit: 2}, []string{"three", "four_"}},
		"text":            {store.LogQuery{Text: "tWO"}, []string{"Two 100%"}},
		"percent sign":    {store.LogQuery{Text: "0%"}, []string{"Two 100%"}},
		"underscore":      {store.LogQuery{Text: "_"}, []string{"four_"}},
		"nothing":         {store.LogQuery{Text: `\`}, []string{}},
	} {
		lines, err := s.LogLines(t.Context(), id, c.q)
		must(t, err)
		each := []string{}
		must(t, s.EachLogLine(t.Context(), id, c.q, func(l store.LogLine) error {
			each = append(each, l.Text)
			return nil
		}))
		if !cmp.Equal(texts(lines), c.want) || !cmp.Equal(each, c.want) {
			t.Errorf("%s: %q and %q, want %q", name, texts(lines), each, c.want)
		}
	}

	errs, err := s.LogErrors(t.Context(), time.Now().Add(-time.Minute))
	must(t, err)
	if len(errs) != 1 || errs[0].Hostname != "vm-1" || errs[0].Errors != 1 || errs[0].Last != all[1] {
		t.Errorf("errors: %+v", errs)
	}
}

func TestStore_LogTail(t *testing.T) {
	t.Parallel()
	s := open(t)
	id := vm(t, s, register(t, s, 1)[0]).ID
	addLogs(t, s, id, named(1, 2500), 2500)
	for bytes, want := range map[int]struct {
		first string
		lines int
		older bool
	}{
		5:         {"", 0, true},
		9:         {"", 0, true},
		10:        {"line 2500", 1, true},
		10 * 1501: {"line 1000", 1501, true},
		1 << 20:   {"line 1", 2500, false},
	} {
		lines, older, err := s.LogTail(t.Context(), id, bytes)
		must(t, err)
		if len(lines) != want.lines || older != want.older || len(lines) > 0 && (lines[0].Text != want.first || lines[len(lines)-1].Text != "line 2500") {
			t.Errorf("of %d bytes there are %d lines, older %v, want %+v", bytes, len(lines), older, want)
		}
	}
}

func TestStore_LogCap(t *testing.T) {
	t.Parallel()
	s := open(t)
	id := vm(t, s, register(t, s, 1)[0]).ID
	addLogs(t, s, id, named(1, 5000), 5000) // more than goes in one step
	for _, want := range []struct {
		most, dropped int
		first         string
	}{
		{5000, 0, "line 1"},
		{4999, 2, "2 older lines were dropped: a log keeps its newest 4,999 (logs.max_lines)"},
		{100, 4899, "4,901 older lines were dropped: a log keeps its newest 100 (logs.max_lines)"},
		{100, 0, "4,901 older lines were dropped: a log keeps its newest 100 (logs.max_lines)"},
	} {
		dropped, err := s.CapLogs(t.Context(), want.most)
		must(t, err)
		lines, err := s.LogLines(t.Context(), id, store.LogQuery{})
		must(t, err)
		if int(dropped) != want.dropped || len(lines) != want.most || lines[0].Text != want.first || lines[1].Text != fmt.Sprintf("line %d", 5000-want.most+2) && want.most < 5000 {
			t.Errorf("%+v: %d were dropped, there are %d, the first is %q", want, dropped, len(lines), lines[0].Text)
		}
	}
	v, err := s.LogVM(t.Context(), "vm-1")
	must(t, err)
	if v.Lines != 100 || v.Dropped != 4901 {
		t.Errorf("the log is described as %+v", v)
	}
}
