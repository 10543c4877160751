package logtext

import (
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"lablink/internal/fleet"
	"lablink/internal/redact"
)

// inMask reports whether a text is found in the mask itself.
func inMask(text string) bool { return strings.Contains(redact.Mask, text) } //nolint:gocritic // in this order

func texts(lines []Line) []string {
	out := make([]string, len(lines))
	for i, l := range lines {
		out[i] = l.Text
	}
	return out
}

func TestLines_Text(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		in   string
		want []string
	}{
		"plain":                  {"hello", []string{"hello"}},
		"empty":                  {"", []string{""}},
		"one line end":           {"a\n", []string{"a"}},
		"blank lines stay":       {"a\n\nb\n\n", []string{"a", "", "b", ""}},
		"Windows line ends":      {"a\r\nb\r\n", []string{"a", "b"}},
		"progress bar":           {"10%\r50%\r100%\r", []string{"100%"}},
		"progress bar, erased":   {"10%\r100%\r\x1b[K", []string{"100%"}},
		"colours":                {"\x1b[1;31merror\x1b[0m text \x1b[38;5;200mx\x1b[m", []string{"error text x"}},
		"cursor":                 {"\x1b[2J\x1b[1;1Ha\x1b[?25lb", []string{"ab"}},
		"title by BEL":           {"\x1b]0;title\ashown", []string{"shown"}},
		"link by ST":             {"\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", []string{"link"}},
		"title without end":      {"\x1b]0;title shown", []string{"0;title shown"}},
		"title ended elsewhere":  {"\x1b]0;title\nshown\a", []string{"0;title", "shown"}},
		"8-bit CSI and OSC":      {"\u009b31mred\u009b0m \u009d0;t\u009cx", []string{"red x"}},
		"character set":          {"\x1b(Ba\x1b=b\x1bMc", []string{"abc"}},
		"unfinished escapes":     {"a\x1b", []string{"a"}},
		"unfinished CSI":         {"a\x1b[31", []string{"a"}},
		"broken CSI":             {"a\x1b[31\x01b", []string{"ab"}},
		"HTML":                   {"<script>alert('x')</script>&amp;", []string{"<script>alert('x')</script>&amp;"}},
		"NUL":                    {"a\x00b", []string{"ab"}},
		"invalid UTF-8":          {"a\xff\xfeb\xc3", []string{"a\ufffd\ufffdb\ufffd"}},
		"tab":                    {"\tat x", []string{"    at x"}},
		"backspace":              {"abc\b\bX\b\b\b\b", []string{""}},
		"direction override":     {"a\u202egnp.exe\u2066", []string{"agnp.exe"}},
		"byte order mark":        {"\ufeffa", []string{"a"}},
		"unicode":                {"žluťoučký 👩‍🔬 日本", []string{"žluťoučký 👩‍🔬 日本"}},
		"line separator":         {"a\u2028b", []string{"a b"}},
		"JSON that is no log":    {`{"a": 1}`, []string{`{"a": 1}`}},
		"JSON without level":     {`{"msg": "x"}`, []string{`{"msg": "x"}`}},
		"JSON and something":     {`{"msg":"x","level":"info"} {}`, []string{`{"msg":"x","level":"info"} {}`}},
		"broken JSON":            {`{"msg":"x","level":"info"`, []string{`{"msg":"x","level":"info"`}},
		"JSON":                   {`{"level":"info","msg":"it works","n":3,"who":"a b","o":{"x": [1, 2]},"e":""}`, []string{`it works n=3 who="a b" o={"x":[1,2]} e=""`}},
		"JSON of several lines":  {`{"level":"error","msg":"boom\n  at x\n","id":7}`, []string{"boom id=7", "  at x"}},
		"JSON with escapes":      {`{"level":"info","msg":"\u001b[31mred\u0000 x"}`, []string{"red x"}},
		"JSON with an odd level": {`{"level":"loud","msg":"x","time":"2025-01-02T03:04:05Z"}`, []string{"x level=loud"}},
	} {
		if got := texts(Lines(c.in, NewMasker())); !cmp.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestLines_Level(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]fleet.Level{
		"ERROR: it failed":                                   fleet.LevelError,
		"Error: it failed":                                   fleet.LevelError,
		"error: pathspec did not match":                      fleet.LevelError,
		"fatal: not a git repository":                        fleet.LevelError,
		"panic: runtime error":                               fleet.LevelError,
		"E: Unable to locate package x":                      fleet.LevelError,
		"W: Failed to fetch":                                 fleet.LevelWarn,
		"WARNING:root:message":                               fleet.LevelWarn,
		"[ERROR] text":                                       fleet.LevelError,
		"[ info ] text":                                      fleet.LevelInfo,
		"watchtower[ERROR]: text":                            fleet.LevelError,
		"2025-01-02 03:04:05,678 - util.py[WARNING]: text":   fleet.LevelWarn,
		"2025-01-02 03:04:05,678 - __main__ - ERROR - text":  fleet.LevelError,
		"lablink_client.x - INFO - text - ERROR - no":        fleet.LevelInfo,
		"2025-01-02 03:04:05 ERROR text":                     fleet.LevelError,
		"2025-01-02T03:04:05.6Z CRITICAL text":               fleet.LevelError,
		"2025/01/02 03:04:05 INFO text":                      fleet.LevelInfo,
		"2025/01/02 03:04:05 [error] 12#0: text":             fleet.LevelError,
		"[2025-01-02T03:04:05Z WARN crate] text":             fleet.LevelWarn,
		"[2025-01-02 03:04:05] [ERROR] text":                 fleet.LevelError,
		"2025-01-02 03:04:05.000 | ERROR    | m:f:1 - text":  fleet.LevelError,
		"Jan  2 03:04:05 ERROR text":                         fleet.LevelError,
		"time=2025-01-02T03:04:05Z level=ERROR msg=x":        fleet.LevelError,
		`ts=1 caller="a b" level=warn msg=x`:                 fleet.LevelWarn,
		"severity=notice x=1":                                fleet.LevelInfo,
		"E0102 03:04:05.678901    1 x.go:1] text":            fleet.LevelError,
		"I0102 03:04:05.678901    1 x.go:1] text":            fleet.LevelInfo,
		"<3>kernel: text":                                    fleet.LevelError,
		"<28>x: text":                                        fleet.LevelWarn,
		"<191>text":                                          fleet.LevelDebug,
		"[12:34:0102/030405.678:ERROR:x.cc(12)] text":        fleet.LevelError,
		"[0102/030405.678:INFO:x.cc(12)] text":               fleet.LevelInfo,
		`{"level":"WARNING","msg":"x"}`:                      fleet.LevelWarn,
		`{"level":50,"msg":"x"}`:                             fleet.LevelError,
		`{"severity":"DEBUG","message":"x"}`:                 fleet.LevelDebug,
		"\x1b[31mERROR\x1b[0m: text":                         fleet.LevelError,
		"no error here":                                      "",
		"0 errors, 2 warnings":                               "",
		"the error: it is in the middle":                     "",
		"Error handling is described below":                  "",
		"2025-01-02 03:04:05 Error handling":                 "",
		"2025-01-02 03:04:05 the ERROR":                      "",
		"info@example.org wrote":                             "",
		"https://example.org/?level=error":                   "",
		"sshd[123]: error":                                   "",
		"<html>":                                             "",
		"<192>text":                                          "",
		"<b>3</b>":                                           "",
		`{"level":"error"}`:                                  "",
		"":                                                   "",
		"    ":                                               "",
		"Information about it":                               "",
		"errorlevel=3":                                       "",
		"set level=error in the settings and it goes quiet ": "",
	} {
		if got := Lines(line, NewMasker())[0].Level; got != want {
			t.Errorf("%q has level %q, want %q", line, got, want)
		}
	}
}

func TestLines_LevelOfWhatGoesOn(t *testing.T) {
	t.Parallel()
	lines := Lines("ERROR: boom\nTraceback:\n  x\nWARNING: and\nmore", NewMasker())
	want := []fleet.Level{fleet.LevelError, fleet.LevelError, fleet.LevelError, fleet.LevelWarn, fleet.LevelError}
	for i, l := range lines {
		if l.Level != want[i] {
			t.Errorf("%q has level %q, want %q", l.Text, l.Level, want[i])
		}
	}
}

func TestLines_Time(t *testing.T) {
	t.Parallel()
	want := time.Date(2025, 1, 2, 3, 4, 5, 500e6, time.UTC)
	for _, at := range []string{`"2025-01-02T03:04:05.5Z"`, `"2025-01-02 03:04:05.5Z"`, `"2025-01-02T05:04:05.5+02:00"`,
		"1735787045.5", "1735787045500", "1735787045500000000", `"1735787045.5"`} {
		lines := Lines(`{"msg":"x","time":`+at+`}`, NewMasker())
		if !lines[0].At.Equal(want) || lines[0].Text != "x" {
			t.Errorf("%s became %v %q", at, lines[0].At, lines[0].Text)
		}
	}
	for _, at := range []string{`"soon"`, "-1", "0", "1e400", `"NaN"`, "null", "[]", `"0001-01-01T00:00:00Z"`} {
		lines := Lines(`{"level":"info","msg":"x","time":`+at+`}`, NewMasker())
		if !lines[0].At.IsZero() {
			t.Errorf("%s became %v", at, lines[0].At)
		}
	}
}

func TestLines_AreBounded(t *testing.T) {
	t.Parallel()
	const secret = "supersecretword"
	long := strings.Repeat("ž", 5<<20)
	for name, in := range map[string]string{
		"long":               long,
		"secret at the cut":  strings.Repeat("x", MaxLine-50) + secret + long,
		"escapes":            strings.Repeat("\x1b]", 4<<20),
		"tabs":               strings.Repeat("\t", 1<<20),
		"carriage returns":   strings.Repeat("\r", 4<<20),
		"many lines":         strings.Repeat("x\n", 1<<20),
		"deep JSON":          `{"level":"info","msg":"x","o":` + strings.Repeat("[", 100<<10) + "}",
		"long JSON":          `{"level":"info","msg":"` + strings.Repeat("x", 100<<10) + `"}`,
		"many braces":        strings.Repeat("{", 1<<20) + "}",
		"backspaces":         strings.Repeat("a\b", 1<<20),
		"ends of no strings": strings.Repeat("\a\x1b\\", 1<<20),
	} {
		lines := Lines(in, NewMasker(secret))
		if len(lines) > MaxLines {
			t.Errorf("%s: %d lines", name, len(lines))
		}
		for _, l := range lines {
			check(t, l.Text)
			if strings.Contains(l.Text, secret[:5]) {
				t.Errorf("%s: something of the secret remains: %.60q", name, l.Text)
			}
		}
	}
	if got := Lines(long, NewMasker())[0].Text; !strings.HasSuffix(got, "ž ... [10,469,416 bytes were cut]") {
		t.Errorf("the cut is not marked: %q", got[len(got)-60:])
	}
	lines := Lines(strings.Repeat("x\n", MaxLines+5), NewMasker())
	if last := lines[len(lines)-1]; last.Text != "6 further lines of this entry were left out" || last.Level != fleet.LevelWarn {
		t.Errorf("the last line is %+v", last)
	}
}

func check(t *testing.T, s string) {
	t.Helper()
	if !utf8.ValidString(s) {
		t.Errorf("not UTF-8: %.80q", s)
	}
	if strings.ContainsFunc(s, unicode.IsControl) {
		t.Errorf("control characters: %.80q", s)
	}
	if len(s) > MaxLine {
		t.Errorf("%d bytes long", len(s))
	}
}

func TestMask(t *testing.T) {
	t.Parallel()
	m := NewMasker("4/0known-code.x", "123456", "pass word/&ž", "short", "")
	for in, want := range map[string]string{
		"--code=4/0known-code.x --name=x":         "--code=[secret] --name=x",
		"4%2F0known-code.x and 4%2f0known-code.x": "[secret] and [secret]",
		`{"code":"4\/0known-code.x"}`:             `{"code":"[secret]"}`,
		"the PIN 123456, twice 123456123456":      "the PIN [secret], twice [secret]",
		"1123456 and 1234567 are other numbers":   "1123456 and 1234567 are other numbers",
		"short stays":                             "short stays",
		"pass word/&ž":                            "[secret]",
		"pass+word%2F%26%C5%BE":                   "[secret]",
		"--code=4/0AdifferentCode":                "--code=[secret]",
		`['--code', '4/0AdifferentCode', '--x']`:  `['--code', '[secret]', '--x']`,
		`--code="4/0AdifferentCode" --redirect=x`: `--code="[secret]" --redirect=x`,
		`--code\n`:                                 `--code\n`,
		"--code is missing":                        "--code is missing",
		"got 4/0AX4XfWhabcdefghijklmnop done":      "got [secret] done",
		"got 4%2F0AX4XfWhabcdefghijklmnop done":    "got [secret] done",
		"step 4/05 of 14/0AX4XfWhabcdefghijklmnop": "step 4/05 of 14/0AX4XfWhabcdefghijklmnop",
		"pin=654321 --pin 654321 PIN: 654321":      "pin=[secret] --pin [secret] PIN: [secret]",
		`{'pin': '654321', "pin":"9999"}`:          `{'pin': '[secret]', "pin":"[secret]"}`,
		"Your PIN is 654321.":                      "Your PIN is [secret].",
		"pin_code: 654321":                         "pin_code: [secret]",
		"ping 10 spinning 123 pins 44":             "ping 10 spinning 123 pins 44",
		"Authorization: Bearer abcdefghijklmnop1":  "Authorization: Bearer [secret]",
		"LABLINK_TOKEN=abcdef12 x":                 "LABLINK_TOKEN=[secret] x",
	} {
		got := m.Mask(in)
		if got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
		if again := m.Mask(got); again != got {
			t.Errorf("%q masked again becomes %q", got, again)
		}
	}
}

// Escapes inside a secret, a JSON string and the end of the line hide nothing.
func TestLines_SecretsInDisguise(t *testing.T) {
	t.Parallel()
	m := NewMasker("4/0known-code.x")
	for in, want := range map[string]string{
		"4/0kn\x1b[1mown-code.x":                                "[secret]",
		"4/0known-\x00code.x":                                   "[secret]",
		`{"level":"info","msg":"4\u002f0known-code.x"}`:         "[secret]",
		`{"level":"info","msg":"m","args":["4/0known-code.x"]}`: `m args=["[secret]"]`,
	} {
		if got := Lines(in, m)[0].Text; got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	token := fleet.NewToken()
	for _, in := range []string{token, "token=" + token + ".", "a\n\"" + token + "\"", "x-" + token, token[:10] + "\x1b[0m" + token[10:]} {
		words := map[string]bool{}
		Tokens(words, in)
		if !words[token] {
			t.Errorf("the token is not found in %q", in)
		}
	}
	words := map[string]bool{}
	Tokens(words, strings.Repeat(token, 1000)+" short words "+strings.Repeat("a", 42))
	if len(words) != 0 {
		t.Errorf("%d words that are none", len(words))
	}
}

func FuzzLines(f *testing.F) {
	for _, s := range []string{"a\r\nb", "\x1b[31mx\x1b]0;t\a", `{"level":"info","msg":"x","time":1}`, "--code=4/0abcdefghijklm", "\x00\xff\xc2\x9b1m",
		"E0102 03:04:05 x", "pin 123456", "2025-01-02 03:04:05 ERROR x", "<3>x"} {
		f.Add(s, "Zk-secret/value")
	}
	f.Fuzz(func(t *testing.T, message, secret string) {
		m := NewMasker(secret)
		for _, l := range Lines(message, m) {
			check(t, l.Text)
			if !l.At.IsZero() && (l.At.Year() < 1999 || l.At.Year() > 2201) {
				t.Errorf("time %v", l.At)
			}
			// What the mask itself may spell is no leak, and a number may be part of a longer one.
			if len(secret) >= redact.MinSecret && clean(secret) == secret && !isDigits(secret) && !strings.Contains(secret, "\n") &&
				!strings.ContainsAny(secret, "[]") && !inMask(secret) && len(l.Text) < MaxLine/2 && strings.Contains(l.Text, secret) {
				t.Errorf("the secret %q remains in %q", secret, l.Text)
			}
			if again := clean(l.Text); again != l.Text {
				t.Errorf("%q cleaned again becomes %q", l.Text, again)
			}
			if again := m.Mask(l.Text); len(secret) < redact.MinSecret && again != l.Text {
				t.Errorf("%q masked again becomes %q", l.Text, again)
			}
			if again := cut(l.Text); again != l.Text {
				t.Errorf("%q cut again becomes %q", l.Text, again)
			}
		}
		Tokens(map[string]bool{}, message)
	})
}

func BenchmarkLines(b *testing.B) {
	m := NewMasker("4/0AX4XfWhabcdefghijklmnop", "123456", fleet.NewToken())
	lines := []string{"2025-01-02 03:04:05,678 - lablink.client - INFO - subscribed and waiting for work, attempt 17",
		"plain output of a program that says nothing of its level", `{"time":"2025-01-02T03:04:05Z","level":"INFO","msg":"hello","n":3}`}
	for i := range b.N {
		Lines(lines[i%len(lines)], m)
	}
}
