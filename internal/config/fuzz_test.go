package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzLoad feeds anything to Load: it must return a Config or problems that each have a place and a message.
func FuzzLoad(f *testing.F) {
	mistakes, err := os.ReadFile("testdata/ten-mistakes.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{
		string(mistakes), olderFile, newerFile, "", "a: &a [*a]\n", "<<: *x\n", "? [a]\n: b\n", "%YAML 1.2\n---\n- x\n", "!!map {a: !!x y}\n",
		"listen: !!str\n", "server: {trusted_proxies: [!a &b *c, ~, {}]}\n", "\xff\xfe", "limits: {max_vms: |\n 3\n}", "? ? ? a\n", "- - - a\n",
		"&a : *a\n", "a: |9\n x", "--- >\n x\n--- |\n y", "!!! : !\n", "\t- x: &\n", "key: *\n",
	} {
		f.Add([]byte(seed))
	}
	path := filepath.Join(f.TempDir(), "config.yaml")
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Load(Options{File: path})
		if (c == nil) == (err == nil) {
			t.Fatalf("Load returned %v and %v", c, err)
		}
		if err == nil {
			return
		}
		var e *Error
		if !errors.As(err, &e) {
			t.Fatalf("Load returned a %T", err)
		}
		for _, p := range e.Problems {
			if p.File != path || p.Message == "" || strings.ContainsAny(p.String(), "\n\x1b") {
				t.Errorf("problem %+q", p)
			}
		}
	})
}
