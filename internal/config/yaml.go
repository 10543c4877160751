package config

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

const (
	maxFileBytes = 1 << 20
	// maxTokens bounds what the parser, which is recursive, is given; a full file has about 400.
	maxTokens = 10_000
)

// written is a value in the file. Null values are left out: they mean the default.
type written struct {
	key   *key
	line  int
	items []item // one, unless key is a list
}

type item struct {
	text string
	line int
}

// reader collects the values and the problems of one file.
type reader struct {
	file     string
	values   []written
	problems []Problem
}

func (r *reader) add(line int, key, format string, args ...any) {
	r.problems = append(r.problems, Problem{File: r.file, Line: line, Key: key, Message: fmt.Sprintf(format, args...)})
}

// readYAML reads a whole file's text. It reports false if the text is not YAML, so that nothing is known about what
// was meant.
func (r *reader) readYAML(data []byte) bool {
	body, ok := r.parse(data)
	if !ok {
		return false
	}
	if body == nil { // an empty file: all defaults
		return true
	}
	top, ok := body.(ast.MapNode)
	if !ok {
		r.add(line(body), "", "must hold keys such as \"provider: local\" at the top, found %s", describe(body))
		return false
	}
	r.mapping("", top)
	return true
}

// parse returns the one document's body, or nil if there is none.
func (r *reader) parse(data []byte) (body ast.Node, ok bool) {
	if len(data) > maxFileBytes {
		r.add(0, "", "is larger than 1 MiB; that is no LabLink configuration")
		return nil, false
	}
	if i := invalidUTF8(data); i >= 0 {
		r.add(1+bytes.Count(data[:i], []byte("\n")), "", "is not UTF-8 text; save the file as UTF-8")
		return nil, false
	}
	defer func() { // the parser is not ours, and the file may hold anything
		if recover() != nil {
			r.add(0, "", "is not valid YAML")
			body, ok = nil, false
		}
	}()
	tokens := lexer.Tokenize(strings.TrimPrefix(string(data), "\ufeff"))
	significant := 0
	for _, t := range tokens {
		if t.Type != token.CommentType {
			significant++
		}
	}
	if significant > maxTokens {
		r.add(0, "", "holds far more than a LabLink configuration can; is it the right file?")
		return nil, false
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		r.syntaxError(err)
		return nil, false
	}
	for _, doc := range file.Docs {
		switch doc.Body.(type) {
		case nil, *ast.DirectiveNode, *ast.CommentGroupNode:
			continue
		}
		if body != nil {
			r.add(line(doc.Body), "", "holds a second YAML document; remove what follows the line ---")
			return nil, false
		}
		body = doc.Body
	}
	return body, true
}

// syntaxError reports the parser's message and line, without its excerpt, which could show a password.
func (r *reader) syntaxError(err error) {
	var syntax *yaml.SyntaxError
	if !errors.As(err, &syntax) {
		r.add(0, "", "is not valid YAML")
		return
	}
	at := 0
	if syntax.Token != nil && syntax.Token.Position != nil {
		at = syntax.Token.Position.Line
	}
	message, _, _ := strings.Cut(syntax.Message, `"`) // what it quotes may be a password
	message = strings.TrimRight(message, ": ")
	hint := ""
	switch {
	case strings.Contains(syntax.Message, `'\t'`), strings.Contains(syntax.Message, "\t"), strings.Contains(syntax.Message, "tab character"):
		r.add(at, "", "is not valid YAML: a tab; indent with spaces")
		return
	case strings.Contains(syntax.Message, "mapping value is not allowed"):
		hint = "; check the indentation, and put quotes around text that holds a colon and a space"
	case strings.Contains(syntax.Message, "reserved character"):
		hint = "; put quotes around the text"
	}
	r.add(at, "", "is not valid YAML: %s%s", message, hint)
}

// mapping reads the keys of one section.
func (r *reader) mapping(section string, m ast.MapNode) {
	first := map[string]int{}
	for it := m.MapRange(); it.Next(); {
		pair := it.KeyValue()
		at := line(pair.Key)
		name, ok := scalar(pair.Key)
		if !ok || pair.Key.IsMergeKey() {
			r.add(at, section, "has a key that is not plain text; anchors, aliases and merge keys are not supported")
			continue
		}
		path := joinPath(section, showName(name))
		if l, twice := first[name]; twice {
			r.add(at, path, "is written twice, first on line %d; remove one", l)
			continue
		}
		first[name] = at
		switch {
		case keyByPath[path] != nil && !strings.Contains(name, "."):
			r.value(keyByPath[path], at, pair.Value)
		case isSection(path) && !strings.Contains(name, "."):
			r.section(path, at, pair.Value)
		default:
			r.add(at, path, "%s", unknown(section, name))
		}
	}
}

// showName returns name if it can be a key's; of anything else, a short and harmless form.
func showName(name string) string {
	const longest = 60
	short := name
	if r := []rune(name); len(r) > longest {
		short = string(r[:longest]) + "..."
	}
	if strings.ContainsFunc(short, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(short)
	}
	return short
}

func (r *reader) section(path string, at int, n ast.Node) {
	n = untag(n)
	if _, null := n.(*ast.NullNode); null {
		return
	}
	m, ok := n.(ast.MapNode)
	if !ok {
		r.add(at, path, "is a section: its keys go below it, indented (%s); found %s", strings.Join(children[path], ", "), describe(n))
		return
	}
	r.mapping(path, m)
}

func (r *reader) value(k *key, at int, n ast.Node) {
	n = untag(n)
	if _, null := n.(*ast.NullNode); null {
		return
	}
	v := written{key: k, line: at}
	if list, ok := n.(*ast.SequenceNode); ok && k.kind.isList() {
		for _, element := range list.Values {
			text, ok := scalar(untag(element))
			if !ok {
				r.add(line(element), k.path, "must be %s, found %s in it", article(k.kind), describe(element))
				continue
			}
			v.items = append(v.items, item{text: text, line: line(element)})
		}
		r.values = append(r.values, v)
		return
	}
	text, ok := scalar(n)
	if !ok {
		r.add(at, k.path, "must be %s, found %s", article(k.kind), describe(n))
		return
	}
	v.items = k.split(text, at)
	r.values = append(r.values, v)
}

// split makes a list of text with commas, if k is a list.
func (k *key) split(text string, at int) []item {
	if !k.kind.isList() {
		return []item{{text: text, line: at}}
	}
	var items []item
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part != "" {
			items = append(items, item{text: part, line: at})
		}
	}
	return items
}

// scalar returns the text of a plain value as it was written: 012345 stays as it is.
func scalar(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return strings.TrimRight(n.Value.Value, "\n"), true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode, *ast.NullNode:
		return n.GetToken().Value, true
	}
	return "", false
}

// untag drops a tag such as !!str; keys have their own types.
func untag(n ast.Node) ast.Node {
	for {
		tag, ok := n.(*ast.TagNode)
		if !ok || tag.Value == nil {
			return n
		}
		n = tag.Value
	}
}

// describe says what kind of thing n is, without its text.
func describe(n ast.Node) string {
	switch untag(n).(type) {
	case *ast.SequenceNode:
		return "a list"
	case ast.MapNode:
		return "a section with keys of its own"
	case *ast.AnchorNode, *ast.AliasNode:
		return "an anchor or alias, which are not supported; put quotes around text that starts with & or *"
	case nil, *ast.NullNode:
		return "nothing"
	}
	return "a single value"
}

// article is for sentences such as "must be a whole number".
func article(k kind) string {
	switch k {
	case kindText, kindSecret:
		return "text"
	case kindBool:
		return k.String()
	default:
		return "a " + k.String()
	}
}

// line returns where n starts, or 0.
func line(n ast.Node) int {
	if n == nil {
		return 0
	}
	if t := n.GetToken(); t != nil && t.Position != nil {
		return t.Position.Line
	}
	return 0
}

// invalidUTF8 returns where data stops being UTF-8, or -1.
func invalidUTF8(data []byte) int {
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && size < 2 {
			return i
		}
		i += size
	}
	return -1
}
