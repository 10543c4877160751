package provision

import (
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"lablink/internal/redact"
)

// masker hides secrets in text, as they are and as they stand in an URL, in JSON
// or between quotes.
type masker []string

func newMasker(secrets []string) masker {
	seen := map[string]bool{}
	var m masker
	for _, secret := range secrets {
		if len(secret) < redact.MinSecret {
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
	func(s string) string { return redact.JSONText(s, true) },
	func(s string) string { return redact.JSONText(s, false) },
}

func unquote(s string) string { return s[1 : len(s)-1] }

// hide replaces the secrets in a text. Where they overlap, nothing of any is left.
func (m masker) hide(text string) string {
	var found []redact.Span
	for _, secret := range m {
		found = append(found, occurrences(text, secret)...)
	}
	return redact.Spans(text, found)
}

// occurrences finds all of a secret in a text. Those that touch are one.
func occurrences(text, secret string) (found []redact.Span) {
	for from := 0; ; from++ {
		i := strings.Index(text[from:], secret)
		if i < 0 {
			return found
		}
		from += i
		if last := len(found) - 1; last >= 0 && from <= found[last].To {
			found[last].To = from + len(secret)
		} else {
			found = append(found, redact.Span{From: from, To: from + len(secret)})
		}
	}
}
