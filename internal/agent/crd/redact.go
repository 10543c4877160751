package crd

import (
	"net/url"
	"strings"
	"unicode"
)

const (
	maxLines    = 200
	maxLineSize = 1000
)

// redactor takes the secrets of one set-up out of a text.
func redactor(code, pin string) *strings.Replacer {
	var pairs []string
	add := func(secret, mark string) {
		if secret != "" {
			pairs = append(pairs, secret, mark)
		}
	}
	// The longest forms come first: at one position the first match counts.
	add(url.QueryEscape(code), "[code]")
	add(url.PathEscape(code), "[code]")
	add(code, "[code]")
	if plain, err := url.PathUnescape(code); err == nil {
		add(plain, "[code]")
	}
	if _, rest, ok := strings.Cut(code, "/"); ok && len(rest) >= 8 {
		add(rest, "[code]")
	}
	add(pin, "[pin]")
	return strings.NewReplacer(pairs...)
}

// printable cuts output into lines fit for a log: without secrets, control
// characters or floods.
func printable(output string, secrets *strings.Replacer) []string {
	var lines []string
	for line := range strings.Lines(secrets.Replace(output)) {
		line = strings.TrimSpace(strings.Map(func(r rune) rune {
			if unicode.IsControl(r) {
				return ' '
			}
			return r
		}, line))
		if line == "" {
			continue
		}
		if len(line) > maxLineSize {
			line = strings.ToValidUTF8(line[:maxLineSize], "") + "..."
		}
		if lines = append(lines, line); len(lines) == maxLines {
			return append(lines, "(more lines left out)")
		}
	}
	return lines
}
