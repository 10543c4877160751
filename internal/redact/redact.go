// Package redact takes parts out of texts that must not be seen. Which parts those
// are, its callers know.
package redact

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
	"strings"
)

// Mask stands in the place of what was taken out.
const Mask = "[secret]"

// MinSecret is the length of the shortest secret that is worth masking, in bytes:
// shorter ones would take words apart, and hide nothing.
const MinSecret = 6

// Span is a part of a text, in bytes.
type Span struct{ From, To int }

// Spans puts the mask in the place of each part. Where some overlap, nothing of
// any is left.
func Spans(text string, parts []Span) string {
	if len(parts) == 0 {
		return text
	}
	slices.SortFunc(parts, func(a, b Span) int { return cmp.Compare(a.From, b.From) })
	var b strings.Builder
	end := 0 // of what is done
	for i, p := range parts {
		if i == 0 || p.From > end {
			b.WriteString(text[end:p.From])
			b.WriteString(Mask)
		}
		end = max(end, p.To)
	}
	b.WriteString(text[end:])
	return b.String()
}

// JSONText is a text as it stands between the quotes of JSON, which may be made fit
// for HTML.
func JSONText(s string, html bool) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(html)
	if err := e.Encode(s); err != nil {
		return s // no string fails
	}
	quoted := strings.TrimSuffix(b.String(), "\n")
	return quoted[1 : len(quoted)-1]
}
