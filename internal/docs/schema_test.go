package docs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"lablink/internal/testkit"
)

// TestSchema compares docs/database-schema.md with a database that was brought up
// to date. What a table is for stands above it in its migration; what a column is
// for, in testdata/columns.txt.
func TestSchema(t *testing.T) {
	t.Parallel()
	conn, err := pgx.Connect(t.Context(), testkit.DB(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }() // only read from
	s := schema{t: t, conn: conn, purposes: purposes(t), meanings: meanings(t), used: map[string]bool{}}
	tables := s.list(`SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relname NOT LIKE 'goose%' ORDER BY relname`)
	var text strings.Builder
	for _, table := range tables {
		text.WriteString(s.table(table))
	}
	for name := range s.meanings {
		if !s.used[name] {
			t.Errorf("testdata/columns.txt: there is no column %s", name)
		}
	}
	generated(t, "database-schema.md", map[string]string{"tables": text.String(), "functions": s.functions()})
}

type schema struct {
	t        *testing.T
	conn     *pgx.Conn
	purposes map[string]string // by table
	meanings map[string]string // by table.column
	used     map[string]bool
}

func (s schema) list(sql string, args ...any) []string {
	s.t.Helper()
	rows, err := s.conn.Query(s.t.Context(), sql, args...)
	if err != nil {
		s.t.Fatal(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		s.t.Fatal(err)
	}
	return list
}

// table describes one table.
func (s schema) table(name string) string {
	s.t.Helper()
	var b strings.Builder
	if s.purposes[name] == "" {
		s.t.Errorf("no comment stands above CREATE TABLE %s", name)
	}
	fmt.Fprintf(&b, "### `%s`\n\n%s\n\n| column | type | |\n| --- | --- | --- |\n", name, s.purposes[name])
	rows, err := s.conn.Query(s.t.Context(), `
		SELECT attname, format_type(atttypid, atttypmod) || CASE WHEN attnotnull THEN '' ELSE ', may be null' END
		FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum`, name)
	if err != nil {
		s.t.Fatal(err)
	}
	var column, kind string
	_, err = pgx.ForEachRow(rows, []any{&column, &kind}, func() error {
		key := name + "." + column
		if s.used[key] = true; s.meanings[key] == "" {
			s.t.Errorf("testdata/columns.txt does not say what %s is", key)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", column, kind, s.meanings[key])
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	indexes := s.list(`SELECT regexp_replace(indexdef, '^CREATE (.*)INDEX (\S+) ON public\.\S+ USING (.*)$', '\1\2 \3') FROM pg_indexes
		WHERE schemaname = 'public' AND tablename = $1 ORDER BY indexname`, name)
	triggers := s.list(`SELECT regexp_replace(pg_get_triggerdef(oid), '^CREATE (?:CONSTRAINT )?TRIGGER ', '') FROM pg_trigger
		WHERE tgrelid = $1::regclass AND NOT tgisinternal ORDER BY tgname`, name)
	for _, part := range []struct {
		title string
		list  []string
	}{{"Keys and indexes", indexes}, {"Triggers", triggers}} {
		if len(part.list) > 0 {
			fmt.Fprintf(&b, "\n%s:\n\n", part.title)
		}
		for _, line := range part.list {
			fmt.Fprintf(&b, "- `%s`\n", line)
		}
	}
	return b.String() + "\n"
}

// functions lists those that triggers call.
func (s schema) functions() string {
	var b strings.Builder
	b.WriteString("```sql\n")
	for _, f := range s.list(`SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'public'::regnamespace ORDER BY proname`) {
		b.WriteString(strings.TrimSpace(f) + ";\n\n")
	}
	return strings.TrimSuffix(b.String(), "\n") + "```\n"
}

var createTable = regexp.MustCompile(`(?m)((?:^-- .*\n)+)CREATE (?:UNLOGGED )?TABLE (\w+)`)

// purposes are the comments above the tables in the migrations.
func purposes(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "internal", "store", "migrations", "*.sql"))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range createTable.FindAllStringSubmatch(string(data), -1) {
			found[m[2]] = strings.TrimSpace(strings.ReplaceAll("\n"+m[1], "\n-- ", "\n"))
		}
	}
	return found
}

// meanings reads testdata/columns.txt.
func meanings(t *testing.T) map[string]string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "columns.txt"))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for line := range strings.Lines(string(data)) {
		name, meaning, ok := strings.Cut(strings.TrimSpace(line), "  ")
		if !ok {
			t.Fatalf("testdata/columns.txt: %q is no column, two spaces, and what it is", line)
		}
		found[name] = strings.TrimSpace(meaning)
	}
	return found
}

// generated compares, or with -update writes, the generated parts of a page.
func generated(t *testing.T, page string, parts map[string]string) {
	t.Helper()
	name := filepath.Join(root, "docs", page)
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	want := string(content)
	var names []string
	for part := range parts {
		names = append(names, part)
	}
	slices.Sort(names)
	for _, part := range names {
		begin := fmt.Sprintf("<!-- BEGIN %s (generated: go test ./internal/docs -update) -->\n", part)
		end := fmt.Sprintf("<!-- END %s -->\n", part)
		before, rest, found := strings.Cut(want, begin)
		_, after, closed := strings.Cut(rest, end)
		if !found || !closed {
			t.Fatalf("%s has no part between %q and %q", name, begin, end)
		}
		want = before + begin + "\n" + strings.TrimRight(parts[part], "\n") + "\n\n" + end + after
	}
	if *update {
		if err := os.WriteFile(name, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, string(content)); diff != "" {
		t.Errorf("%s is out of date, run go test ./internal/docs -update:\n%s", name, diff)
	}
}
