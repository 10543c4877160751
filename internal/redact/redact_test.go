package redact_test

import (
	"testing"

	"lablink/internal/redact"
)

func TestSpans(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		parts []redact.Span
		want  string
	}{
		"none":         {nil, "0123456789"},
		"one":          {[]redact.Span{{2, 4}}, "01[secret]456789"},
		"in any order": {[]redact.Span{{8, 10}, {0, 2}}, "[secret]234567[secret]"},
		"overlap":      {[]redact.Span{{2, 6}, {4, 8}}, "01[secret]89"},
		"touch":        {[]redact.Span{{2, 4}, {4, 6}}, "01[secret]6789"},
		"within":       {[]redact.Span{{1, 9}, {3, 4}}, "0[secret]9"},
		"all":          {[]redact.Span{{0, 10}}, "[secret]"},
	} {
		if got := redact.Spans("0123456789", c.parts); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestJSONText(t *testing.T) {
	t.Parallel()
	if got, want := redact.JSONText("a\"<\n", false), `a\"<\n`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got, want := redact.JSONText("a<", true), `a\u003c`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
