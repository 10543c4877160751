package docs_test

import (
	"context"
	"flag"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"lablink/internal/cli"
	"lablink/internal/testkit"
)

const root = "../.."

var update = flag.Bool("update", false, "write the generated parts of docs/")

// lifeline is set for a server that a test starts: it ends with its standard
// input, and so with the test, however that ends.
const lifeline = "DOCS_TEST_LIFELINE"

// TestMain runs the tests. Called by the name "lablink", the test binary is that
// program: commands in the docs find it in their PATH.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "lablink" {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		if os.Getenv(lifeline) != "" {
			go func() {
				_, _ = io.Copy(io.Discard, os.Stdin) // until it ends
				stop()
			}()
		}
		os.Exit(cli.Main(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	testkit.Main(m)
}

// page is one Markdown file.
type page struct {
	name  string // relative to the root, such as docs/api.md
	lines []string
}

// pages returns README.md, CHANGELOG.md and everything in docs/.
func pages(t *testing.T) []page {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	names = append(names, filepath.Join(root, "README.md"), filepath.Join(root, "CHANGELOG.md"))
	var all []page
	for _, name := range names {
		rel, err := filepath.Rel(root, name)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, readPage(t, filepath.ToSlash(rel)))
	}
	if len(all) < 8 {
		t.Fatalf("only %d pages found", len(all))
	}
	return all
}

func readPage(t *testing.T, name string) page {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return page{name, strings.Split(string(content), "\n")}
}

// block is a fenced block of code.
type block struct {
	line   int    // of its first line, from 1
	lang   string // after the fence
	marker string // the comment in the line before the fence
	text   string // without the fences
}

var markerPattern = regexp.MustCompile(`^<!-- (.*) -->$`)

// split separates a page into prose, by line number from 1, and fenced blocks.
func (p page) split(t *testing.T) (prose map[int]string, blocks []block) {
	t.Helper()
	prose = map[int]string{}
	var open *block
	for i, line := range p.lines {
		fence := strings.HasPrefix(strings.TrimSpace(line), "```")
		switch {
		case open != nil && fence:
			blocks = append(blocks, *open)
			open = nil
		case open != nil:
			open.text += line + "\n"
		case fence:
			open = &block{line: i + 2, lang: strings.TrimPrefix(strings.TrimSpace(line), "```")}
			if i > 0 {
				if m := markerPattern.FindStringSubmatch(p.lines[i-1]); m != nil {
					open.marker = m[1]
				}
			}
		default:
			prose[i+1] = line
		}
	}
	if open != nil {
		t.Fatalf("%s:%d: this block has no end", p.name, open.line)
	}
	return prose, blocks
}

var spanPattern = regexp.MustCompile("`([^`]+)`")

// code returns every piece of code of a page, inline or a line of a block, with
// its line number. Lines that end in a backslash are joined.
func (p page) code(t *testing.T) []located {
	t.Helper()
	prose, blocks := p.split(t)
	var all []located
	for i := range p.lines {
		for _, m := range spanPattern.FindAllStringSubmatch(prose[i+1], -1) {
			all = append(all, located{i + 1, m[1], true})
		}
	}
	for _, b := range blocks {
		text := strings.ReplaceAll(b.text, "\\\n", " ")
		for i, line := range strings.Split(text, "\n") {
			all = append(all, located{b.line + i, line, false})
		}
	}
	return all
}

// located is a piece of code and where it stands.
type located struct {
	line   int
	text   string
	inline bool
}
