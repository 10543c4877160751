package provision

import (
	"bytes"
	"cmp"
	"encoding/json"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// minSecret is the length of the shortest secret that is masked, in bytes.
// Masking shorter ones would take words apart, and hide nothing.
const minSecret = 6

const mask = "[secret]"

// masker hides secrets in text, as they are and as they stand in an URL, in JSON
// or between quotes.
type masker []string

func newMasker(secrets []string) masker {
	seen := map[string]bool{}
	var m masker
	for _, secret := range secrets {
		if len(secret) < minSecret {
			continue
		}
		for _, outer := range spellings { // the first leaves it as it is
			for _, inner := range spellings {
				if s := outer(inner(secret)); !seen[s] {
					seen[s] = true
					m = append(m, s)
				}
			}
		}
	}
	return m
}

var percentCode = regexp.MustCompile(`%[0-9A-F]{2}`)

// spellings are the ways in which a secret may be written. Two may come together:
// an URL in a JSON string.
var spellings = []func(string) string{
	func(s string) string { return s },
	clean, // as all of the output is
	url.QueryEscape,
	url.PathEscape,
	func(s string) string { return strings.TrimPrefix(url.UserPassword("", s).String(), ":") },
	func(s string) string { return percentCode.ReplaceAllStringFunc(url.QueryEscape(s), strings.ToLower) },
	func(s string) string { return unquote(strconv.Quote(s)) },
	func(s string) string { return jsonString(s, true) },
	func(s string) string { return jsonString(s, false) },
}

func unquote(s string) string { return s[1 : len(s)-1] }

// jsonString is a text as it stands in JSON, which may be made fit for HTML.
func jsonString(s string, html bool) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(html)
	if err := e.Encode(s); err != nil {
		return s // no string fails
	}
	return unquote(strings.TrimSuffix(b.String(), "\n"))
}

// span is a part of a text.
type span struct{ from, to int }

// hide replaces the secrets in a text. Where they overlap, nothing of any is left.
func (m masker) hide(text string) string {
	var found []span
	for _, secret := range m {
		found = append(found, occurrences(text, secret)...)
	}
	if len(found) == 0 {
		return text
	}
	slices.SortFunc(found, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	var b strings.Builder
	end := 0 // of what is done
	for i, s := range found {
		if i == 0 || s.from > end {
			b.WriteString(text[end:s.from])
			b.WriteString(mask)
		}
		end = max(end, s.to)
	}
	b.WriteString(text[end:])
	return b.String()
}

// occurrences finds all of a secret in a text. Those that touch are one.
func occurrences(text, secret string) (found []span) {
	for from := 0; ; from++ {
		i := strings.Index(text[from:], secret)
		if i < 0 {
			return found
		}
		from += i
		if last := len(found) - 1; last >= 0 && from <= found[last].to {
			found[last].to = from + len(secret)
		} else {
			found = append(found, span{from, from + len(secret)})
		}
	}
}
