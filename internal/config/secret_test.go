package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

const hunter2 = "hunter2-5up3r-s3cr3t"

// secretKeys are the paths of all keys that hold secrets.
func secretKeys() []*key {
	var secrets []*key
	for _, k := range keys {
		if k.kind == kindSecret {
			secrets = append(secrets, k)
		}
	}
	return secrets
}

func TestSecret_IsNeverPrinted(t *testing.T) {
	c := load(t, Options{File: write(t, "")})
	for _, k := range secretKeys() {
		secret, ok := k.field(c).(*Secret)
		if !ok {
			t.Fatalf("%s is not a Secret", k.path)
		}
		*secret = hunter2
	}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%10.3s"} {
		fmt.Fprintf(&out, verb, c)
		fmt.Fprintf(&out, verb, *c)
		fmt.Fprintf(&out, verb, c.Admin.Password)
		fmt.Fprintf(&out, verb, &c.Admin.Password)
		fmt.Fprintf(&out, verb, []any{c.DatabaseURL, map[string]Secret{"x": c.CRD.PIN}})
	}
	for _, h := range []slog.Handler{slog.NewJSONHandler(&out, nil), slog.NewTextHandler(&out, nil)} {
		slog.New(h).Info("started", "config", c, "password", c.Admin.Password, slog.Group("db", "url", c.DatabaseURL))
	}
	encoded, err := json.Marshal(any(c))
	if err != nil {
		t.Fatal(err)
	}
	out.Write(encoded)
	hex := fmt.Sprintf("%x", hunter2)
	for _, needle := range []string{hunter2, hex, strings.ToUpper(hex), "hun"} {
		if strings.Contains(out.String(), needle) {
			t.Errorf("output holds %q", needle)
		}
	}
	if !strings.Contains(out.String(), redacted) {
		t.Error("output does not hold [redacted]")
	}
	if c.Admin.Password.Reveal() != hunter2 {
		t.Error("Reveal does not reveal")
	}
}

// TestSecret_IsInNoProblem writes each secret in each wrong way.
func TestSecret_IsInNoProblem(t *testing.T) {
	for _, k := range secretKeys() {
		section, leaf := splitPath(k.path)
		for _, form := range []string{
			"[" + hunter2 + "]", "{" + hunter2 + ": 1}", "*" + hunter2, "&" + hunter2 + " x", "!" + hunter2 + " [x]",
			"@" + hunter2, "%" + hunter2, "\"" + hunter2, "'" + hunter2, hunter2 + ": " + hunter2, "`" + hunter2,
			"\"" + hunter2 + "\\e\"", "\"" + hunter2 + "\\z\"", "\"" + hunter2 + "\\u0001\"", "postgres://u:" + hunter2 + "#@h/d",
			"postgres://u:" + hunter2 + "%zz@h/d", "placeholder" + hunter2, hunter2 + strings.Repeat("x", 80), hunter2 + " x",
			"|\n    " + hunter2 + "\n    " + hunter2, hunter2 + "\n      x: y", ">9999 " + hunter2, "{" + hunter2, "[" + hunter2,
		} {
			text := leaf + ": " + form + "\n"
			if section != "" {
				text = section + ":\n  " + text
			}
			if got := problems(t, Options{File: write(t, text)}); strings.Contains(got, hunter2) {
				t.Errorf("%q:\n%s", text, got)
			}
			if strings.ContainsAny(form, "\n") {
				continue
			}
			environ := []string{k.env() + "=" + form, k.env() + "X=" + form}
			if got := problems(t, Options{File: write(t, ""), Environ: environ}); strings.Contains(got, hunter2) {
				t.Errorf("%q:\n%s", environ, got)
			}
		}
	}
}
