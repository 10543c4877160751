package config

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write generated files instead of comparing them")

const referencePage = "../../docs/configuration.md"

// TestReference compares the generated parts of docs/configuration.md with the tables, or writes them with -update.
func TestReference(t *testing.T) {
	data, err := os.ReadFile(referencePage)
	if err != nil {
		t.Fatal(err)
	}
	want := string(data)
	for name, generate := range map[string]func() string{"variables": referenceVariables, "flags": referenceFlags, "keys": referenceKeys} {
		begin := fmt.Sprintf("<!-- BEGIN %s (generated: go test ./internal/config -update) -->\n", name)
		end := fmt.Sprintf("<!-- END %s -->\n", name)
		before, rest, ok1 := strings.Cut(want, begin)
		_, after, ok2 := strings.Cut(rest, end)
		if !ok1 || !ok2 {
			t.Fatalf("%s lacks the lines %q and %q", referencePage, begin, end)
		}
		want = before + begin + generate() + end + after
	}
	compareOrUpdate(t, referencePage, string(data), want)
}

// compareOrUpdate fails if the file differs from what it should hold, or makes it so with -update.
func compareOrUpdate(t *testing.T, path, have, want string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("%s is out of date; run go test ./internal/config -update (-want +have):\n%s", path, diff)
	}
}

func referenceKeys() string {
	var b strings.Builder
	for _, s := range sections {
		var rows []*key
		for _, k := range keys {
			if parent, _ := splitPath(k.path); parent == s.path {
				rows = append(rows, k)
			}
		}
		if len(rows) == 0 {
			continue
		}
		if s.path == "" {
			fmt.Fprintf(&b, "\n### %s\n", s.doc)
		} else {
			fmt.Fprintf(&b, "\n### `%s`\n%s.\n", s.path, s.doc)
		}
		b.WriteString("\n| key | values | default | meaning |\n| --- | --- | --- | --- |\n")
		for _, k := range rows {
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", k.path, referenceValues(k), code(k.def), k.doc)
		}
	}
	return b.String() + "\n"
}

// referenceValues says what a key may hold.
func referenceValues(k *key) string {
	switch {
	case len(k.allowed) > 0:
		return "`" + strings.Join(k.allowed, "`, `") + "`"
	case k.kind == kindDuration:
		return fmt.Sprintf("duration, %s to %s", showDuration(time.Duration(k.min)), showDuration(time.Duration(k.max)))
	case k.kind == kindInt && k.max == most:
		return fmt.Sprintf("whole number, %d or more", k.min)
	case k.kind == kindInt:
		return fmt.Sprintf("whole number, %d to %d", k.min, k.max)
	}
	return k.kind.String()
}

func referenceFlags() string {
	var b strings.Builder
	b.WriteString("\n| flag | variable | key |\n| --- | --- | --- |\n| `--config` | `LABLINK_CONFIG` | |\n")
	for _, k := range keys {
		if k.flag != "" {
			fmt.Fprintf(&b, "| `--%s` | `%s` | `%s` |\n", k.flag, k.env(), k.path)
		}
	}
	return b.String() + "\n"
}

func referenceVariables() string {
	var b strings.Builder
	b.WriteString("\nThese are read besides:\n\n| variable | default | meaning |\n| --- | --- | --- |\n")
	for _, v := range fileVariables {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", v.name, code(v.def), v.doc)
	}
	for _, k := range keys {
		if k.alias != "" {
			fmt.Fprintf(&b, "| `%s` | | The same as `%s`. |\n", k.alias, k.env())
		}
	}
	for _, v := range variables {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", v.name, code(v.def), v.doc)
	}
	b.WriteString("\nThese belong to other commands; the server lets them alone:\n\n| variable | used by |\n| --- | --- |\n")
	for _, o := range otherVariables {
		fmt.Fprintf(&b, "| `%s` | %s |\n", o.name, o.doc)
	}
	return b.String() + "\n"
}

func code(s string) string {
	if s == "" {
		return ""
	}
	return "`" + s + "`"
}
