package fleet

import (
	"strings"
	"testing"
)

func TestParseCommand(t *testing.T) {
	t.Parallel()
	const full = `DISPLAY= /opt/google/chrome-remote-desktop/start-host --code="4/0AanRJrjkgQ" --redirect-url="https://remotedesktop.google.com/_/oauthredirect" --name=$(hostname)`
	accepted := map[string]struct{ text, code string }{
		"as Google prints it":       {full, "4/0AanRJrjkgQ"},
		"over two lines":            {strings.Replace(full, " --code", " \\\n    --code", 1), "4/0AanRJrjkgQ"},
		"over two lines of Windows": {strings.Replace(full, " --code", " \\\r\n --code", 1), "4/0AanRJrjkgQ"},
		"without DISPLAY":           {`/usr/bin/start-host --code=4/0Ab`, "4/0Ab"},
		"flags alone":               {`--code=4/0Ab`, "4/0Ab"},
		"separate value":            {`start-host --code 4/0Ab --name x`, "4/0Ab"},
		"separate value in quotes":  {`start-host --code '4/0Ab'`, "4/0Ab"},
		"other order":               {`--name=$(hostname) --code=4/0Ab`, "4/0Ab"},
		"tabs and outer spaces":     {"  DISPLAY=\tstart-host\t--code=4/0Ab \n", "4/0Ab"},
		"bare code":                 {"4/0AanRJ-r_j~k%2F.gQ", "4/0AanRJ-r_j~k%2F.gQ"},
		"longest code":              {strings.Repeat("a", MaxCodeBytes), strings.Repeat("a", MaxCodeBytes)},
	}
	for name, tc := range accepted {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := ParseCommand(tc.text)
			if err != nil {
				t.Fatalf("ParseCommand(%q): %v", tc.text, err)
			}
			if got.Code != tc.code {
				t.Errorf("code = %q, want %q", got.Code, tc.code)
			}
			if !strings.Contains(got.Text, "--code") {
				t.Errorf("text %q has no --code for the existing clients to find", got.Text)
			}
		})
	}
	refused := map[string]struct{ text, says string }{
		"nothing":               {"  \n", "Paste the command"},
		"web address":           {"https://remotedesktop.google.com/headless", "web address"},
		"no code":               {`DISPLAY= start-host --name=x`, "--code is missing"},
		"only the program":      {`/opt/google/chrome-remote-desktop/start-host`, "--code is missing"},
		"empty code":            {`--code=`, "nothing after --code"},
		"empty quoted code":     {`--code=""`, "nothing after --code"},
		"code cut off":          {`start-host --code`, "nothing after --code"},
		"flag instead of code":  {`--code --name=x`, "--code is missing"},
		"code twice":            {`--code=a --code=b`, "twice"},
		"unknown flag":          {`--code=a --evil=b`, `"--evil"`},
		"abbreviated flag":      {`--cod=a`, `"--cod"`},
		"longer flag":           {`--codename=x`, `"--codename"`},
		"other program":         {`rm --code=a`, `"rm"`},
		"environment":           {`PATH=/tmp start-host --code=a`, `"PATH"`},
		"two commands":          {"--code=a\nreboot", "more than one line"},
		"shell in code":         {`--code=x;reboot`, `';'`},
		"expansion in code":     {`--code=x$(reboot)`, `'$'`},
		"expansion in name":     {`--code=x --name=$(reboot)`, "--name"},
		"space in quotes":       {`--code="a b"`, "do not match"},
		"quotes differ":         {`--code="a'`, "do not match"},
		"code hidden in name":   {`--code=a --name --code=b`, "--name is missing"},
		"typographic quote":     {"--code=\u201ca\u201d", "special character"},
		"NUL":                   {"--code=a\x00b", "does not belong"},
		"too long":              {"--code=" + strings.Repeat("a", MaxCodeBytes+1), "too long"},
		"far too long":          {strings.Repeat("a", MaxCommandBytes+1), "too long"},
		"for Windows":           {`& "${Env:PROGRAMFILES}\Google\remoting_start_host.exe" --code="4/0"`, "Windows"},
		"bare code with a dash": {"-4/0Ab", `"-4/0Ab"`},
	}
	for name, tc := range refused {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := ParseCommand(tc.text)
			if err == nil {
				t.Fatalf("ParseCommand(%q) = %+v, want an error", tc.text, got)
			}
			if KindOf(err) != Invalid {
				t.Errorf("kind = %v, want Invalid", KindOf(err))
			}
			if !strings.Contains(err.Error(), tc.says) {
				t.Errorf("error %q does not say %q", err, tc.says)
			}
		})
	}
}

// FuzzParseCommand holds that whatever is accepted can do no harm: the code has
// no character with a meaning for a shell, the text no second command.
func FuzzParseCommand(f *testing.F) {
	for _, seed := range []string{
		CommandFor("4/0AanRJrjkgQ"), "4/0Ab", "--code 'a' --name=$(hostname)", "DISPLAY= x/start-host \\\n\t--code=a;b",
		`--code="a" --redirect-url='https://x/?a=b&c' --name "n"`, "--code=\"a", "\\\n", "DISPLAY=",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := ParseCommand(text)
		if err != nil {
			if KindOf(err) != Invalid {
				t.Fatalf("error of kind %v: %v", KindOf(err), err)
			}
			return
		}
		if got.Code == "" || len(got.Code) > MaxCodeBytes || got.Code[0] == '-' {
			t.Fatalf("accepted code %q", got.Code)
		}
		for _, r := range got.Code {
			if !isAlphanumeric(r) && !strings.ContainsRune("/_.~%-", r) {
				t.Fatalf("code %q has %q", got.Code, r)
			}
		}
		if harm := strings.ReplaceAll(got.Text, "$(hostname)", ""); strings.ContainsAny(harm, ";|<>`$(){}*!\x00") {
			t.Fatalf("text %q could mean something to a shell", got.Text)
		}
		again, err := ParseCommand(got.Text)
		if err != nil || again != got {
			t.Fatalf("parsing %q again gives %+v, %v", got.Text, again, err)
		}
		if n := strings.Count(got.Text, "--code"); n != 1 {
			t.Fatalf("text %q has --code %d times: existing clients take the last", got.Text, n)
		}
	})
}
