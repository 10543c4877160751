package docs_test

import (
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

var (
	linkPattern    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	headingPattern = regexp.MustCompile(`^#{1,6} (.*)$`)
)

// TestLinks follows every relative link, to its file and to its heading.
func TestLinks(t *testing.T) {
	t.Parallel()
	links := 0
	for _, p := range pages(t) {
		prose, _ := p.split(t)
		for i := range p.lines {
			for _, m := range linkPattern.FindAllStringSubmatch(prose[i+1], -1) {
				target, err := url.Parse(m[1])
				if err != nil {
					t.Errorf("%s:%d: %s: %v", p.name, i+1, m[1], err)
					continue
				}
				if target.Scheme != "" {
					continue // elsewhere
				}
				links++
				name := p.name
				if target.Path != "" {
					name = path.Join(path.Dir(p.name), target.Path)
				}
				if _, err := os.Stat(filepath.Join(root, name)); err != nil {
					t.Errorf("%s:%d: link to %s: there is no such file", p.name, i+1, m[1])
					continue
				}
				if target.Fragment != "" && !anchors(t, readPage(t, name))[target.Fragment] {
					t.Errorf("%s:%d: link to %s: there is no such heading", p.name, i+1, m[1])
				}
			}
		}
	}
	if links < 20 {
		t.Errorf("only %d relative links found", links)
	}
}

// Every page of docs/ can be reached from the README.
func TestPagesAreLinked(t *testing.T) {
	t.Parallel()
	readme := strings.Join(readPage(t, "README.md").lines, "\n")
	for _, p := range pages(t) {
		if strings.HasPrefix(p.name, "docs/") && !strings.Contains(readme, "("+p.name+")") {
			t.Errorf("README.md does not link to %s", p.name)
		}
	}
}

// Every picture is used, and none is so large that a clone feels it.
func TestImages(t *testing.T) {
	t.Parallel()
	const most = 200 << 10
	var text strings.Builder
	for _, p := range pages(t) {
		text.WriteString(strings.Join(p.lines, "\n"))
	}
	images, err := filepath.Glob(filepath.Join(root, "docs", "images", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range images {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() > most {
			t.Errorf("%s has %d bytes, more than %d", name, info.Size(), most)
		}
		if !strings.Contains(text.String(), "images/"+filepath.Base(name)+")") {
			t.Errorf("%s is on no page", name)
		}
	}
}

// anchors are the names that GitHub gives to the headings of a page.
func anchors(t *testing.T, p page) map[string]bool {
	t.Helper()
	prose, _ := p.split(t)
	all := map[string]bool{}
	for i := range p.lines {
		m := headingPattern.FindStringSubmatch(prose[i+1])
		if m == nil {
			continue
		}
		name := slug(m[1])
		if all[name] {
			t.Errorf("%s:%d: a second heading %q: links cannot tell them apart", p.name, i+1, m[1])
		}
		all[name] = true
	}
	return all
}

func slug(heading string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
			return unicode.ToLower(r)
		default:
			return -1
		}
	}, heading)
}
