package config

import (
	"fmt"
	"slices"
	"strings"
)

// Where a problem is, if it is not in a file.
const (
	inEnvironment = "environment"
	inCommandLine = "command line"
)

// Problem is one thing that is wrong with the configuration. Message says what is allowed, and never holds the value
// of a secret.
type Problem struct {
	File    string // the file's name, "environment" or "command line"; "" if nothing was written
	Line    int    // 0 if it has none
	Key     string // the key's path, the variable or the flag; "" if it concerns the whole file
	Message string
}

// String returns the problem as file:line: key: message, without the parts that are empty.
func (p Problem) String() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(p.File)
		if p.Line > 0 {
			fmt.Fprintf(&b, ":%d", p.Line)
		}
		b.WriteString(": ")
	}
	if p.Key != "" {
		b.WriteString(p.Key + ": ")
	}
	b.WriteString(p.Message)
	return b.String()
}

// Error is what Load and ValidateFile return: all problems at once, the file's first, by line.
type Error struct {
	Problems []Problem
}

// Error lists one problem per line.
func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// asError returns the problems in reading order, or nil if there are none.
func asError(problems []Problem) error {
	if len(problems) == 0 {
		return nil
	}
	rank := func(p Problem) int {
		switch p.File {
		case inEnvironment:
			return 1
		case inCommandLine:
			return 2
		case "":
			return 3
		}
		return 0
	}
	slices.SortStableFunc(problems, func(a, b Problem) int {
		if d := rank(a) - rank(b); d != 0 {
			return d
		}
		return a.Line - b.Line
	})
	return &Error{Problems: problems}
}
