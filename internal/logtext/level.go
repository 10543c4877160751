package logtext

import (
	"regexp"
	"strconv"
	"strings"

	"lablink/internal/fleet"
)

// head is how much of a line is searched for its level: it stands near the
// beginning, or nowhere.
const head = 256

var (
	// timestamp is what many programs begin with: 2025-01-02T03:04:05.678Z, with a
	// space or slashes, also in brackets; or Jan 2 03:04:05.
	timestamp = regexp.MustCompile(`^\[?(?:\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d(?::\d\d)?(?:[.,]\d+)?(?: ?Z| ?UTC| ?[+-]\d\d:?\d\d)?|` +
		`[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d(?:\.\d+)?)\]?[ :|]*(?:- +)?`)
	// glog is E0102 03:04:05.678901, also of klog.
	glog = regexp.MustCompile(`^([DIWEF])\d{4} \d\d:\d\d:\d\d`)
	// chrome is [1234:5678:0102/030405.678901:ERROR:file.cc(12)], also without the processes.
	chrome = regexp.MustCompile(`^\[(?:\d+:)*\d{4}/\d{6}(?:\.\d+)?:([A-Z]+)`)
	// logfmt is level=error among other pairs.
	logfmt = regexp.MustCompile(`^(?:[\w.@-]+=(?:"[^"]*"|\S*) +)*(?:level|lvl|severity)="?([A-Za-z]+)`)
	// bracket is [ERROR], and tagged name[ERROR]: as watchtower and cloud-init write it.
	bracket = regexp.MustCompile(`^\[ *([A-Za-z]+) *\]`)
	tagged  = regexp.MustCompile(`^[\w./-]+\[([A-Za-z]+)\]:`)
)

var letters = map[string]fleet.Level{
	"D": fleet.LevelDebug, "I": fleet.LevelInfo, "W": fleet.LevelWarn, "E": fleet.LevelError, "F": fleet.LevelError,
}

// levelOf returns the level that a line names in one of the places where
// programs do. It does not look at the text: "no error" is none.
func levelOf(line string) fleet.Level {
	if len(line) > head {
		line = line[:head]
	}
	line = strings.TrimLeft(line, " ")
	switch {
	case line == "":
		return fleet.LevelNone
	case line[0] == '<':
		return syslogLevel(line)
	case strings.HasPrefix(line, "E: "): // as apt does
		return fleet.LevelError
	case strings.HasPrefix(line, "W: "):
		return fleet.LevelWarn
	}
	if strings.IndexByte("DIWEF", line[0]) >= 0 {
		if m := glog.FindStringSubmatch(line); m != nil {
			return letters[m[1]]
		}
	}
	if level := named(logfmt, line, "l="); level != fleet.LevelNone {
		return level
	}
	if level := named(logfmt, line, "severity="); level != fleet.LevelNone {
		return level
	}
	after := line
	if c := line[0]; c == '[' || isDigit(c) || strings.IndexByte(line, ' ') == len("Jan") {
		if end := timestamp.FindStringIndex(line); end != nil {
			after = line[end[1]:]
		}
	}
	if level := leading(after, after != line); level != fleet.LevelNone {
		return level
	}
	if level := named(chrome, after, "/"); level != fleet.LevelNone {
		return level
	}
	if level := named(bracket, after, "]"); level != fleet.LevelNone {
		return level
	}
	if level := named(tagged, after, "]:"); level != fleet.LevelNone {
		return level
	}
	return fieldLevel(after)
}

// named returns the level that a pattern finds; without the hint there is none
// to be found.
func named(pattern *regexp.Regexp, line, hint string) fleet.Level {
	if !strings.Contains(line, hint) {
		return fleet.LevelNone
	}
	if m := pattern.FindStringSubmatch(line); m != nil {
		return fleet.LevelOf(m[1])
	}
	return fleet.LevelNone
}

// leading reads the level that a line begins with: "Error: text",
// "ERROR:name:text", and behind a time also "ERROR text".
func leading(line string, timed bool) fleet.Level {
	n := 0
	for n < len(line) && (line[n]|0x20 >= 'a' && line[n]|0x20 <= 'z') {
		n++
	}
	level := fleet.LevelOf(line[:n])
	if level == fleet.LevelNone {
		return level
	}
	capitals := strings.ToUpper(line[:n]) == line[:n]
	rest := line[n:]
	switch {
	case rest == ":", strings.HasPrefix(rest, ": "):
		return level
	case capitals && strings.HasPrefix(rest, ":"):
		return level
	case timed && capitals && (rest == "" || strings.IndexByte(" |]", rest[0]) >= 0):
		return level
	}
	return fleet.LevelNone
}

// fieldLevel reads Python's "name - ERROR - text".
func fieldLevel(line string) fleet.Level {
	const among = 3 // the first fields
	fields := strings.SplitN(line, " - ", among+1)
	for _, f := range fields[:len(fields)-1] {
		if strings.ToUpper(f) == f {
			if level := fleet.LevelOf(f); level != fleet.LevelNone {
				return level
			}
		}
	}
	return fleet.LevelNone
}

// syslogLevel reads a priority such as <3> or <27>.
func syslogLevel(line string) fleet.Level {
	const highest = 191
	number, _, ok := strings.Cut(line[1:], ">")
	if n, err := strconv.ParseUint(number, 10, 8); ok && err == nil && n <= highest {
		switch severity := n % 8; {
		case severity <= 3:
			return fleet.LevelError
		case severity == 4:
			return fleet.LevelWarn
		case severity <= 6:
			return fleet.LevelInfo
		default:
			return fleet.LevelDebug
		}
	}
	return fleet.LevelNone
}
