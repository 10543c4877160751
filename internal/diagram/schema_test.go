package diagram_test

import (
	"encoding/json"
	"flag"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"lablink/internal/diagram"
	"lablink/internal/testkit"
)

var update = flag.Bool("update", false, "write schema.json and testdata anew")

func TestMain(m *testing.M) { testkit.Main(m) }

const catalog = `
SELECT c.relname AS name,
	(SELECT json_agg(json_build_object(
			'name', a.attname, 'type', format_type(a.atttypid, a.atttypmod),
			'key', EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary AND a.attnum = ANY (i.indkey)),
			'references', coalesce((SELECT f.confrelid::regclass::text FROM pg_constraint f WHERE f.conrelid = c.oid AND f.contype = 'f'
				AND a.attnum = ANY (f.conkey) ORDER BY f.conname LIMIT 1), '')) ORDER BY a.attnum)
		FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS columns,
	(SELECT coalesce(json_agg(json_build_object(
			'name', t.tgname,
			'when', substring(pg_get_triggerdef(t.oid) FROM '((?:BEFORE|AFTER) .*?)(?: OF .*)? ON '),
			'columns', (SELECT coalesce(json_agg(a.attname ORDER BY a.attnum), '[]') FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum = ANY (t.tgattr)),
			'channels', (SELECT coalesce(json_agg(DISTINCT m[1]), '[]') FROM regexp_matches(p.prosrc, $$pg_notify\(\s*'(\w+)'$$, 'g') m)
		) ORDER BY t.tgname), '[]')
		FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid WHERE t.tgrelid = c.oid AND NOT t.tgisinternal) AS triggers
FROM pg_class c
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND c.relname NOT LIKE 'goose%'
ORDER BY c.relname`

// TestSchema compares schema.json with a database that was brought up to date.
func TestSchema(t *testing.T) {
	t.Parallel()
	conn, err := pgx.Connect(t.Context(), testkit.DB(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }() // only read from
	rows, err := conn.Query(t.Context(), catalog)
	if err != nil {
		t.Fatal(err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowToStructByName[diagram.SchemaTable])
	if err != nil {
		t.Fatal(err)
	}
	want, err := json.MarshalIndent(diagram.Schema{Tables: tables}, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "schema.json", string(want)+"\n")
}

// golden compares, or with -update writes, a file.
func golden(t *testing.T, name, want string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(got), want); diff != "" {
		t.Errorf("%s is out of date, run go test ./internal/diagram -update:\n%s", name, diff)
	}
}
