package provision_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"lablink/internal/provision"
)

// logged is what becomes of output that comes in these pieces.
func logged(secrets []string, pieces ...string) []string {
	out := newOutput()
	w := &provision.Workspace{Secrets: secrets, Log: out.add}
	f := w.Follow(&provision.Plan{}, func(provision.Event) {})
	for _, p := range pieces {
		if n, err := f.Write([]byte(p)); n != len(p) || err != nil {
			panic("a write has failed, which would block Terraform")
		}
	}
	f.End()
	return out.lines
}

func TestOutput(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		pieces []string
		want   string
	}{
		"nothing":                    {nil, ""},
		"a line":                     {[]string{"hello\n"}, "hello"},
		"without end":                {[]string{"hello"}, "hello"},
		"in pieces":                  {[]string{"he", "l", "lo\nwor", "ld\n"}, "hello|world"},
		"empty lines":                {[]string{"\n \n\r\n\thello\n\n"}, "\thello"},
		"Windows":                    {[]string{"hello\r\nworld\r\n"}, "hello|world"},
		"NUL":                        {[]string{"he\x00llo\n"}, "hello"},
		"bytes that are no UTF-8":    {[]string{"he\xff\xfello \xe9\n"}, "he\uFFFDllo \uFFFD"},
		"a character in two pieces":  {[]string{"caf\xc3", "\xa9\n"}, "café"},
		"colours":                    {[]string{"\x1b[1m\x1b[38;5;9mred\x1b[0m \x1b[2Kand\n"}, "red and"},
		"a message":                  {[]string{`{"@message":"Creating...","@timestamp":"2026-11-24T10:11:12.123+01:00","type":"log"}` + "\n"}, "09:11:12  Creating..."},
		"JSON that is no message":    {[]string{`{"a":1}` + "\n"}, `{"a":1}`},
		"JSON of another form":       {[]string{`{"@message":["a"]}` + "\n"}, `{"@message":["a"]}`},
		"half a message, then a new": {[]string{`{"@message":"Cre` + "\n" + `{"@message":"x","@timestamp":"2026-11-24T10:11:12Z"}` + "\n"}, `{"@message":"Cre|10:11:12  x`},
		"NUL in a message":           {[]string{`{"@message":"a\u0000b","@timestamp":"2026-11-24T10:11:12Z"}`}, "10:11:12  ab"},
		"several lines in a message": {[]string{`{"@message":"a\nb","@timestamp":"2026-11-24T10:11:12Z"}`}, "10:11:12  a\nb"},
		"half a surrogate":           {[]string{`{"@message":"a\ud800b","@timestamp":"2026-11-24T10:11:12Z"}`}, "10:11:12  a\uFFFDb"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := strings.Join(logged(nil, test.pieces...), "|"); got != test.want {
				t.Errorf("logged %q, want %q", got, test.want)
			}
		})
	}
}

// Long lines are read whole, and kept in part.
func TestOutput_LongLines(t *testing.T) {
	t.Parallel()
	const size = 10 << 20
	long := strings.Repeat("é", size/2)
	message := `{"@message":"` + long + `","@timestamp":"2026-11-24T10:11:12Z","type":"apply_start","hook":{"resource":{"addr":"a.b"}}}` + "\n"
	for name, text := range map[string]string{"plain": "begin " + long + " end\n", "a message": message, "one byte more than is kept": strings.Repeat("x", provision.MaxLine+1)} {
		lines := logged([]string{"a secret"}, text)
		if len(lines) != 1 || len(lines[0]) > provision.MaxLine+60 || !strings.Contains(lines[0], "bytes are not kept") || !utf8.ValidString(lines[0]) {
			t.Errorf("%s: %d lines, %.100q", name, len(lines), lines)
		}
	}
	if lines := logged(nil, strings.Repeat("x", provision.MaxLine)); len(lines) != 1 || len(lines[0]) != provision.MaxLine {
		t.Error("the longest line that is kept was not kept whole")
	}
	// A secret is masked before the line is cut: half of one is one, too.
	for n := 0; n < len(token); n += 3 {
		line := strings.Repeat("x", provision.MaxLine/2-n) + token + strings.Repeat("x", provision.MaxLine)
		if got := logged([]string{token}, line)[0]; strings.Contains(got, token[:3]) || strings.Contains(got, token[len(token)-3:]) {
			t.Errorf("%d bytes before the cut a secret shows in part", n)
		}
	}
	// In many small pieces it takes no longer.
	pieces := make([]string, 0, size/16)
	for range size / 16 {
		pieces = append(pieces, "0123456789abcdef")
	}
	if lines := logged(nil, append(pieces, "\n")...); len(lines) != 1 {
		t.Errorf("%d lines", len(lines))
	}
}

func TestShorten(t *testing.T) {
	t.Parallel()
	for most := range 20 {
		for _, text := range []string{"", "abc", strings.Repeat("x", 30), strings.Repeat("é", 20), strings.Repeat("€", 20), strings.Repeat("𝄞", 20)} {
			got := provision.Shorten(text, most)
			head, rest, cut := strings.Cut(got, " ... (")
			_, tail, _ := strings.Cut(rest, "not kept) ... ")
			switch {
			case cut == (len(text) <= most), !utf8.ValidString(got), len(head)+len(tail) > max(most, len(text)), !strings.HasPrefix(text, head), !strings.HasSuffix(text, tail):
				t.Errorf("%q in %d bytes: %q", text, most, got)
			}
		}
	}
}

// clock is the time that stands before each message.
var clock = regexp.MustCompile(`(?m)^\d\d:\d\d:\d\d  `)

// However output is cut into pieces, the same lines come of it: fit for a
// database, bounded, and without the secret.
func FuzzOutput(f *testing.F) {
	const secret = "pass/w\"rd+é"
	for _, text := range []string{
		"", "\n", "hello\nworld", "\x00\xff", "pass\x00/w\"rd+é", "pass\x1b[0m/w\"rd+é", `{"@message":"x"}`, `{"@message":"pass/w\"rd+\u00e9"}`, `{"@message":"x`,
		`{"@message":"x","type":"diagnostic","diagnostic":{"severity":"error","summary":"pass/w\"rd+é","detail":"\u0000"}}`, "pass%2Fw%22rd%2B%C3%A9\r\n",
		`{"@message":"x","type":"outputs","outputs":{"vms":{"value":{"a":{"id":"pass"}}}}}`, "{}", "{\"@message\":\"\x1b[0\"}m",
	} {
		f.Add([]byte(text), uint(3))
	}
	f.Fuzz(func(t *testing.T, text []byte, size uint) {
		size = size%64 + 1
		var pieces []string
		for rest := string(text); rest != ""; {
			n := min(int(size), len(rest))
			pieces, rest = append(pieces, rest[:n]), rest[n:]
		}
		whole, parts := logged([]string{secret}, string(text)), logged([]string{secret}, pieces...)
		// What has no time is of now.
		if got, want := clock.ReplaceAllString(strings.Join(parts, "|"), ""), clock.ReplaceAllString(strings.Join(whole, "|"), ""); got != want {
			t.Errorf("in pieces of %d bytes %q, but whole %q", size, got, want)
		}
		for _, line := range whole {
			if !utf8.ValidString(line) || strings.Contains(line, "\x00") || strings.Contains(line, secret) || len(line) > provision.MaxLine+60 {
				t.Errorf("logged %q", line)
			}
		}
	})
}

func TestHide(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		secrets    []string
		text, want string
	}{
		"none":                           {nil, "hello", "hello"},
		"empty, and too short":           {[]string{"", "short"}, "a short text", "a short text"},
		"as it is":                       {[]string{"hunter2"}, "is hunter2, or hunter2", "is [secret], or [secret]"},
		"one begins like another":        {[]string{"abcdef", "abcdefghij"}, "abcdefghij abcdefghi", "[secret] [secret]ghi"},
		"one is in another":              {[]string{"cdefgh", "abcdefghij"}, "abcdefghij", "[secret]"},
		"they overlap":                   {[]string{"abcdefgh", "efghijkl"}, "-abcdefghijkl-", "-[secret]-"},
		"side by side":                   {[]string{"abcdef", "ghijkl"}, "abcdefghijkl", "[secret]"},
		"one overlaps itself":            {[]string{"abcabcabc"}, "xabcabcabcabcx", "x[secret]x"},
		"in an URL":                      {[]string{"p@ss/w:rd"}, "postgres://u:p%40ss%2Fw%3Ard@h p%40ss%2fw%3ard", "postgres://u:[secret]@h [secret]"},
		"in a path":                      {[]string{"p ss+wrd"}, "/p%20ss+wrd?p+ss%2Bwrd", "/[secret]?[secret]"},
		"in JSON":                        {[]string{"a\"b<c>&\\é"}, `"a\"b<c>&\\é" "a\"b\u003cc\u003e\u0026\\é"`, `"[secret]" "[secret]"`},
		"in JSON in JSON":                {[]string{"a\"b\"c\"d"}, `a\\\"b\\\"c\\\"d`, "[secret]"},
		"an URL in JSON":                 {[]string{"postgres://u:p@h/d?a=1&b=2"}, `postgres://u:p@h/d?a=1\u0026b=2`, "[secret]"},
		"of bytes that are no UTF-8":     {[]string{"p\xe9ssword"}, provision.Clean("p\xe9ssword"), "[secret]"},
		"between quotes":                 {[]string{"tab\there"}, strconv.Quote("tab\there"), `"[secret]"`},
		"a percent sign before a number": {[]string{"100%4050%"}, "100%4050%", "[secret]"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := provision.Hide(test.secrets, test.text); got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}

func inJSON(s string) string {
	data, err := json.Marshal(s)
	if err != nil {
		panic(err) // no string fails
	}
	return string(data)
}

// A secret of six bytes or more never shows, however it is written and whatever
// is around it, on either stream, in a message, a reason or an error.
func TestHide_NeverShows(t *testing.T) {
	t.Parallel()
	// Few characters, so that secrets overlap; none of those in "[secret]", which would be found again.
	secret := rapid.StringOfN(rapid.SampledFrom([]rune(`abdf012 /%+&<>"'\=é`+"\x00\x1b\n")), -1, -1, 12)
	writings := []func(string) string{
		func(s string) string { return s },
		url.QueryEscape,
		url.PathEscape,
		strconv.Quote,
		inJSON,
		func(s string) string { return inJSON(url.QueryEscape(s)) },
	}
	rapid.Check(t, func(t *rapid.T) {
		secrets := rapid.SliceOfN(secret, 1, 4).Draw(t, "secrets")
		text := secret.Draw(t, "before")
		for _, s := range secrets {
			text += rapid.SampledFrom(writings).Draw(t, "writing")(s) + secret.Draw(t, "after")
		}
		message, err := json.Marshal(map[string]any{
			"@message": text, "type": "diagnostic", "diagnostic": map[string]any{"severity": "error", "summary": text, "detail": text, "address": `a.b["vm-1"]`},
		})
		if err != nil {
			t.Fatal(err)
		}
		out := newOutput()
		w := &provision.Workspace{Secrets: secrets, Log: out.add}
		p := &provision.Plan{}
		provision.SetVM(p, isVM)
		f := w.Follow(p, func(provision.Event) {})
		if _, err := f.Write([]byte(text + "\n" + string(message) + "\n" + string(message[:len(message)-5]))); err != nil {
			t.Fatal(err)
		}
		f.End()
		_, failure := f.Outcome(w.RunError(context.Background(), errors.New("exit status 1\n"+text)))
		for _, s := range secrets {
			if len(s) < 6 {
				continue
			}
			shown := append([]string{failure.Error(), failure.Err.Error(), failure.Reasons["vm-1"]}, out.lines...)
			for _, line := range shown {
				if strings.Contains(line, s) {
					t.Fatalf("%q shows in %q", s, line)
				}
				for _, w := range writings[1:] { // the whole, as one would write it
					if written := strings.Trim(w(s), `"`); len(written) >= 6 && strings.Contains(line, written) {
						t.Fatalf("%q shows as %q in %q", s, written, line)
					}
				}
			}
		}
	})
}

func TestRunError(t *testing.T) {
	t.Parallel()
	w := &provision.Workspace{}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	stopped := errors.New("exit status 1\nit was interrupted")
	if err := w.RunError(ctx, stopped); err.Error() != "it was interrupted" || !errors.Is(err, context.Canceled) || !errors.Is(err, stopped) {
		t.Errorf("error: %v", err)
	}
	if err := w.RunError(ctx, context.Canceled); err.Error() != "context canceled" || !errors.Is(err, context.Canceled) {
		t.Errorf("error: %v", err)
	}
	// What it was made of, which holds secrets, cannot be had from it.
	err := w.RunError(t.Context(), errors.New("exit status 1\nlong "+strings.Repeat("x", 1<<20)))
	if errors.Unwrap(err) != nil || len(err.Error()) > provision.MaxReason+60 || !strings.HasPrefix(err.Error(), "long x") {
		t.Errorf("error: %.100v", err)
	}
}
