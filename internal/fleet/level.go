package fleet

import (
	"slices"
	"strings"
)

// Level is how severe a line of a log is, "" if it does not say.
type Level string

// The levels, of which each is more severe than those before it.
const (
	LevelNone  Level = ""
	LevelDebug Level = "debug"
	LevelInfo  Level = "info"
	LevelWarn  Level = "warn"
	LevelError Level = "error"
)

// Levels lists those that a line can have, least severe first.
var Levels = []Level{LevelDebug, LevelInfo, LevelWarn, LevelError}

// levelWords are the names that programs give to levels.
var levelWords = map[string]Level{
	"trace": LevelDebug, "debug": LevelDebug, "dbg": LevelDebug, "verbose": LevelDebug,
	"info": LevelInfo, "inf": LevelInfo, "information": LevelInfo, "notice": LevelInfo,
	"warn": LevelWarn, "warning": LevelWarn, "wrn": LevelWarn,
	"error": LevelError, "err": LevelError, "eror": LevelError, "severe": LevelError,
	"fatal": LevelError, "critical": LevelError, "crit": LevelError, "panic": LevelError, "dpanic": LevelError,
	"alert": LevelError, "emerg": LevelError, "emergency": LevelError,
}

// LevelOf returns the level that a program calls by this word, whatever its
// case; LevelNone if it is none.
func LevelOf(word string) Level {
	if len(word) > len("information") {
		return LevelNone
	}
	return levelWords[strings.ToLower(word)]
}

// ParseLevel reads the least severe level that somebody asks for; "" asks for
// all lines.
func ParseLevel(s string) (Level, error) {
	if l := Level(s); l == LevelNone || slices.Contains(Levels, l) {
		return l, nil
	}
	return LevelNone, FieldErrorf("level", "level %q is not one of debug, info, warn, error", clip(s))
}

// AtLeast lists the levels that are as severe as l, or more.
func (l Level) AtLeast() []Level {
	return Levels[max(0, slices.Index(Levels, l)):]
}
