package logtext

import (
	"net/url"
	"regexp"
	"slices"
	"strings"

	"lablink/internal/redact"
)

// tokenLength is that of a token of ours in base64: 256 bits.
const tokenLength = 43

// Masker hides secrets: those it knows in whatever spelling, and what stands
// where secrets do.
type Masker struct {
	known []string
}

// NewMasker returns a Masker of known secrets.
func NewMasker(secrets ...string) *Masker {
	m := &Masker{}
	for _, secret := range secrets {
		if len(secret) < redact.MinSecret {
			continue
		}
		query := url.QueryEscape(secret)
		for _, s := range []string{
			secret, query, url.PathEscape(secret), percent.ReplaceAllStringFunc(query, strings.ToLower),
			redact.JSONText(secret, false), strings.ReplaceAll(secret, "/", `\/`),
		} {
			// What is printed has gone through clean as well.
			if s = clean(s); len(s) >= redact.MinSecret && !slices.Contains(m.known, s) {
				m.known = append(m.known, s)
			}
		}
		if isDigits(secret) {
			m.known = append(m.known, secret+secret) // a PIN and its confirmation
		}
	}
	return m
}

var percent = regexp.MustCompile(`%[0-9A-F]{2}`)

// place is where a secret stands: the first group of a pattern, which is only
// tried if one of the words is there.
type place struct {
	words   []string
	pattern *regexp.Regexp
}

var places = []place{
	// --code=..., also as a list of arguments.
	{[]string{"--code"}, regexp.MustCompile(`--code[^A-Za-z0-9/_.~%-]{0,8}((?:\\?[A-Za-z0-9/_.~%-]){8,})`)},
	// Google's codes, wherever they stand.
	{[]string{"4/", `4\/`, "4%2"}, regexp.MustCompile(`(?:^|[^A-Za-z0-9])(4(?:\\?/|%2[Ff])[01][A-Za-z0-9_.~%-]{16,})`)},
	{[]string{"pin", "PIN", "Pin"}, regexp.MustCompile(`(?:^|[^A-Za-z])(?:[Pp]in|PIN)(?:[ _-]?[Cc]ode|\b)[^A-Za-z0-9]{0,5}(?:is[^A-Za-z0-9]{1,3})?([0-9]{4,32})\b`)},
	{[]string{"earer", "EARER"}, regexp.MustCompile(`(?i:bearer)[ :=]+"?([A-Za-z0-9._~+/=-]{16,})`)},
	{[]string{"_TOKEN", "_PASSWORD"}, regexp.MustCompile(`_(?:TOKEN|PASSWORD)["']?[=:] ?["']?([^\s"'\[]{6,})`)},
}

// Mask returns s without its secrets. Where some overlap, nothing of any is left.
func (m *Masker) Mask(s string) string {
	var found []redact.Span
	for _, secret := range m.known {
		found = appendOccurrences(found, s, secret)
	}
	for _, p := range places {
		if !slices.ContainsFunc(p.words, func(w string) bool { return strings.Contains(s, w) }) {
			continue
		}
		for _, at := range p.pattern.FindAllStringSubmatchIndex(s, -1) {
			found = append(found, redact.Span{From: at[2], To: at[3]})
		}
	}
	return redact.Spans(s, found)
}

// appendOccurrences adds where a secret is in a text, also where it overlaps
// itself. A number is only meant where it is one, not as part of a longer one.
func appendOccurrences(found []redact.Span, s, secret string) []redact.Span {
	number := isDigits(secret)
	for from := 0; ; from++ {
		i := strings.Index(s[from:], secret)
		if i < 0 {
			return found
		}
		from += i
		to := from + len(secret)
		if number && (from > 0 && isDigit(s[from-1]) || to < len(s) && isDigit(s[to])) {
			continue
		}
		if last := len(found) - 1; last >= 0 && from <= found[last].To && found[last].From <= from {
			found[last].To = max(found[last].To, to)
		} else {
			found = append(found, redact.Span{From: from, To: to})
		}
	}
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isDigits(s string) bool {
	for i := range len(s) {
		if !isDigit(s[i]) {
			return false
		}
	}
	return true
}

// Tokens adds the words of a message that may be tokens of ours, which only the
// database knows. Those that are become secrets of the Masker.
func Tokens(words map[string]bool, message string) {
	if len(message) < tokenLength {
		return
	}
	const slack = 8 // a dash or two may touch it
	for line := range strings.SplitSeq(message, "\n") {
		start := -1
		line = clean(line)
		for i := range len(line) + 1 {
			if i < len(line) && isTokenByte(line[i]) {
				if start < 0 {
					start = i
				}
				continue
			}
			if start >= 0 && i-start >= tokenLength && i-start <= tokenLength+slack {
				for at := start; at+tokenLength <= i; at++ {
					words[line[at:at+tokenLength]] = true
				}
			}
			start = -1
		}
	}
}

func isTokenByte(c byte) bool {
	return isDigit(c) || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '-' || c == '_'
}
