package docs_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"lablink/internal/cli"
)

// command is what its help tells of one command of the program.
type command struct {
	subcommands map[string]*command
	flags       []string
}

var (
	subcommandPattern = regexp.MustCompile(`(?m)^  ([a-z][a-z-]*) +\S`)
	flagPattern       = regexp.MustCompile(`--[a-z][a-z-]*[a-z]`)
)

// help asks the program for its commands and their flags.
func help(t *testing.T, args ...string) *command {
	t.Helper()
	var out strings.Builder
	if code := cli.Main(t.Context(), append(slices.Clone(args), "--help"), strings.NewReader(""), &out, &out); code != 0 {
		t.Fatalf("lablink %s --help: exit code %d\n%s", strings.Join(args, " "), code, &out)
	}
	c := &command{subcommands: map[string]*command{}}
	_, flags, _ := strings.Cut(out.String(), "\nFlags:\n")
	for line := range strings.Lines(flags) {
		// What stands further right is prose.
		if flag := flagPattern.FindString(line); flag != "" && strings.Index(line, flag) < 12 {
			c.flags = append(c.flags, flag)
		}
	}
	_, list, found := strings.Cut(out.String(), "\nAvailable Commands:\n")
	if !found {
		return c
	}
	list, _, _ = strings.Cut(list, "\n\n")
	for _, m := range subcommandPattern.FindAllStringSubmatch(list, -1) {
		if m[1] == "completion" || m[1] == "help" {
			c.subcommands[m[1]] = &command{}
			continue
		}
		c.subcommands[m[1]] = help(t, append(slices.Clone(args), m[1])...)
	}
	return c
}

// all returns the flags of a command and of everything below it.
func (c *command) all() []string {
	flags := slices.Clone(c.flags)
	for _, sub := range c.subcommands {
		flags = append(flags, sub.all()...)
	}
	return flags
}

// callPattern finds calls of the program: at the start of a line, perhaps behind
// what usually stands there.
var callPattern = regexp.MustCompile(`^\s*(?:\$ |ExecStart=|sudo (?:-u \S+ )?|[A-Z_]+=\S* |printf .*\| )*(?:/?[a-z/]*/)?lablink(?: (.*))?$`)

// foreign are flags of other programs that prose speaks of.
var foreign = []string{
	"--code", "--redirect-url", "--name", "--stop", "--get-status", "--with-init", "--no-owner", "--single-transaction", "--clean", "--no-unlogged-table-data",
}

// TestCommands looks up every command and flag of ours that a page, or a file in
// deploy/, names.
func TestCommands(t *testing.T) {
	t.Parallel()
	program := help(t)
	for _, hidden := range []string{"start-host", "chrome-remote-desktop"} {
		program.subcommands[hidden] = &command{} // simulations, for the demo and the tests
	}
	if len(program.subcommands) < 5 || !slices.Contains(program.subcommands["serve"].flags, "--listen") {
		t.Fatalf("the help was not understood: %v", program.subcommands)
	}
	flags := program.all()
	calls := 0
	check := func(where string, line int, call string) {
		calls++
		c, path := program, "lablink"
		words := strings.Fields(call)
		for len(words) > 0 && c.subcommands[words[0]] != nil {
			path += " " + words[0]
			c, words = c.subcommands[words[0]], words[1:]
		}
		if len(c.subcommands) > 0 && len(words) > 0 && regexp.MustCompile(`^[a-z]`).MatchString(words[0]) {
			t.Errorf("%s:%d: %q: %s has no command %s", where, line, call, path, words[0])
		}
		for _, word := range words {
			if strings.ContainsAny(word, "|&;#") {
				break
			}
			if flag := flagPattern.FindString(word); flag != "" && strings.HasPrefix(word, "--") && !slices.Contains(c.flags, flag) {
				t.Errorf("%s:%d: %q: %s has no flag %s", where, line, call, path, flag)
			}
		}
	}
	for _, p := range pages(t) {
		for _, piece := range p.code(t) {
			if m := callPattern.FindStringSubmatch(piece.text); m != nil {
				check(p.name, piece.line, m[1])
			} else if flag := flagPattern.FindString(piece.text); piece.inline && strings.HasPrefix(piece.text, "--") &&
				!slices.Contains(flags, flag) && !slices.Contains(foreign, flag) {
				t.Errorf("%s:%d: no command has a flag %s", p.name, piece.line, flag)
			}
		}
	}
	units, err := filepath.Glob(filepath.Join(root, "deploy", "*.service"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range units {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(strings.ReplaceAll(string(content), "\\\n", " "), "\n") {
			if m := callPattern.FindStringSubmatch(line); m != nil {
				check(name, i+1, m[1])
			}
		}
	}
	if calls < 10 {
		t.Errorf("only %d calls found", calls)
	}
}

var (
	variablePattern = regexp.MustCompile(`LABLINK_[A-Z][A-Z_]*[A-Z]`)
	keyRowPattern   = regexp.MustCompile("^\\| `([a-z_]+(?:\\.[a-z_0-9]+)*)` \\|")
	varRowPattern   = regexp.MustCompile("^\\| `([A-Z_]+)` \\|")
)

// keys are the configuration keys in the reference, which a test of package
// config compares with the code.
func keys(t *testing.T) (keys, variables []string) {
	t.Helper()
	for _, line := range readPage(t, "docs/configuration.md").lines {
		if m := keyRowPattern.FindStringSubmatch(line); m != nil {
			keys = append(keys, m[1])
			variables = append(variables, "LABLINK_"+strings.ToUpper(strings.ReplaceAll(m[1], ".", "_")))
		}
		if m := varRowPattern.FindStringSubmatch(line); m != nil {
			variables = append(variables, m[1])
		}
	}
	if len(keys) < 40 {
		t.Fatalf("only %d keys found in the reference", len(keys))
	}
	return keys, variables
}

// TestVariables looks up every variable of ours that a page names.
func TestVariables(t *testing.T) {
	t.Parallel()
	_, known := keys(t)
	for _, flag := range help(t).subcommands["agent"].flags {
		known = append(known, "LABLINK_"+strings.ToUpper(strings.ReplaceAll(strings.TrimPrefix(flag, "--"), "-", "_")))
	}
	known = append(known, "LABLINK_WORKSPACE") // the mark of what Terraform has started, see package provision
	for _, p := range pages(t) {
		if p.name == "docs/configuration.md" {
			continue
		}
		for i, line := range p.lines {
			for _, name := range variablePattern.FindAllString(line, -1) {
				if !slices.Contains(known, name) {
					t.Errorf("%s:%d: there is no variable %s", p.name, i+1, name)
				}
			}
		}
	}
}

// TestKeys looks up everything in prose that has the form of a configuration key.
func TestKeys(t *testing.T) {
	t.Parallel()
	known, _ := keys(t)
	sections := map[string]bool{}
	for _, key := range known {
		if section, _, nested := strings.Cut(key, "."); nested {
			sections[section] = true
		}
	}
	key := regexp.MustCompile(`^([a-z_]+)\.[a-z_.]+$`)
	for _, p := range pages(t) {
		for _, piece := range p.code(t) {
			text, _, _ := strings.Cut(piece.text, ":")
			m := key.FindStringSubmatch(text)
			if piece.inline && m != nil && sections[m[1]] && !slices.Contains(known, text) && p.name != "docs/configuration.md" {
				t.Errorf("%s:%d: there is no key %s", p.name, piece.line, text)
			}
		}
	}
}

// TestMakeTargets looks up every target of make.
func TestMakeTargets(t *testing.T) {
	t.Parallel()
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	call := regexp.MustCompile(`^(?:\$ )?make ([a-z-]+)\b`)
	for _, p := range pages(t) {
		for _, piece := range p.code(t) {
			if m := call.FindStringSubmatch(piece.text); len(m) > 0 && !strings.Contains(string(makefile), "\n"+m[1]+":") {
				t.Errorf("%s:%d: the Makefile has no target %s", p.name, piece.line, m[1])
			}
		}
	}
}

// TestTestsExist looks up every test that a page names as a proof.
func TestTestsExist(t *testing.T) {
	t.Parallel()
	var source strings.Builder
	err := filepath.WalkDir(filepath.Join(root, "internal"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(entry.Name(), "_test.go") {
			return err
		}
		content, err := os.ReadFile(path)
		source.WriteString("package " + filepath.Base(filepath.Dir(path)) + "\n")
		source.Write(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	name := regexp.MustCompile(`^(?:[a-z]+\.)?((?:Test|Fuzz|Benchmark)[A-Z]\w*)`)
	for _, p := range pages(t) {
		for _, piece := range p.code(t) {
			if m := name.FindStringSubmatch(piece.text); m != nil && piece.inline && !strings.Contains(source.String(), "\nfunc "+m[1]+"(") {
				t.Errorf("%s:%d: there is no test %s", p.name, piece.line, m[1])
			}
		}
	}
}

// TestWords looks up what pages are said to say: the first cells of tables that
// are marked with <!-- words -->.
func TestWords(t *testing.T) {
	t.Parallel()
	var source strings.Builder
	for _, pattern := range []string{"web/*.go", "web/templates/*.html", "web/templates/parts/*.html", "httpx/*.go"} {
		names, err := filepath.Glob(filepath.Join(root, "internal", filepath.FromSlash(pattern)))
		if err != nil || len(names) == 0 {
			t.Fatalf("%s: %d files, %v", pattern, len(names), err)
		}
		for _, name := range names {
			content, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasSuffix(name, "_test.go") {
				source.Write(content)
			}
		}
	}
	words := 0
	for _, p := range pages(t) {
		inside := false
		for i, line := range p.lines {
			switch {
			case line == "<!-- words -->":
				inside = true
			case !strings.HasPrefix(line, "|"):
				inside = false
			case inside && p.lines[i-1] != "<!-- words -->" && !strings.HasPrefix(line, "| ---"):
				words++
				cell := strings.TrimSpace(strings.Split(line, "|")[1])
				if !strings.Contains(source.String(), cell) {
					t.Errorf("%s:%d: no page says %q", p.name, i+1, cell)
				}
			}
		}
	}
	if words < 20 {
		t.Errorf("only %d words found", words)
	}
}
