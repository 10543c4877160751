// Package logtext turns what machines print into lines that are fit to be stored
// and shown: plain text without control characters, bounded in length, with
// secrets masked and, where the line itself tells them, its level and time.
package logtext

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"lablink/internal/fleet"
)

const (
	// MaxLine is how many bytes a line has at most, with the mark that it was cut.
	MaxLine = 16 << 10
	// MaxLines is how many lines are made of one message, with the one that says that
	// more were left out.
	MaxLines = 10_000
)

// Line is one line of a log.
type Line struct {
	At    time.Time // as the line itself says; zero if it does not
	Level fleet.Level
	Text  string
}

// Lines makes lines of what a machine wrote at once. Those that do not tell a
// level are taken to go on from the first.
func Lines(message string, secrets *Masker) []Line {
	message = strings.TrimSuffix(strings.TrimSuffix(message, "\n"), "\r")
	if r, ok := parseJSON(message); ok {
		return r.lines(secrets)
	}
	return split(message, Line{}, secrets)
}

// split makes lines of a text, like the given one where they do not say
// otherwise.
func split(text string, like Line, secrets *Masker) []Line {
	lines := make([]Line, 0, min(MaxLines, 1+strings.Count(text, "\n")))
	for {
		if len(lines) == MaxLines-1 && strings.Contains(text, "\n") {
			rest := 1 + strings.Count(text, "\n")
			return append(lines, Line{At: like.At, Level: fleet.LevelWarn, Text: thousands(rest) + " further lines of this entry were left out"})
		}
		raw, rest, more := strings.Cut(text, "\n")
		// Secrets go before the end of the line does, and before anything is read from it.
		shown := secrets.Mask(clean(raw))
		line := Line{At: like.At, Level: like.Level, Text: cut(shown)}
		if level := levelOf(shown); level != fleet.LevelNone && like.Level == fleet.LevelNone {
			line.Level = level
		} else if len(lines) > 0 && like.Level == fleet.LevelNone {
			line.Level = lines[0].Level
		}
		lines = append(lines, line)
		if !more {
			return lines
		}
		text = rest
	}
}

// Clean takes control sequences, control characters and secrets out of a message,
// and leaves it as it is otherwise: Lines makes the same of it as before.
func Clean(message string, secrets *Masker) string {
	lines := strings.Split(message, "\n")
	for i := range lines {
		lines[i] = secrets.Mask(clean(lines[i]))
	}
	return strings.Join(lines, "\n")
}

// cut bounds a line, and marks how much is missing.
func cut(s string) string {
	if len(s) <= MaxLine {
		return s
	}
	const room = 40 // for the mark
	end := MaxLine - room
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return fmt.Sprintf("%s ... [%s bytes were cut]", s[:end], thousands(len(s)-end))
}

// thousands writes a number as people read it: 12,345.
func thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
