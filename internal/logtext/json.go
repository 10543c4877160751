package logtext

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"lablink/internal/fleet"
)

// maxJSON bounds what is taken for a line of JSON.
const maxJSON = 256 << 10

// The names that loggers give to the parts of a line.
var (
	levelKeys   = []string{"level", "lvl", "severity", "levelname", "log.level"}
	timeKeys    = []string{"time", "ts", "timestamp", "@timestamp", "asctime"}
	messageKeys = []string{"msg", "message"}
)

// record is a line that was JSON.
type record struct {
	line   Line
	fields []string // further ones, as key=value
}

// parseJSON takes a line of JSON apart. One that has no message, or neither
// level nor time, is some other JSON, and stays text.
func parseJSON(s string) (r record, ok bool) {
	s = strings.TrimSpace(s)
	if len(s) < 2 || len(s) > maxJSON || s[0] != '{' || s[len(s)-1] != '}' {
		return r, false
	}
	dec := json.NewDecoder(strings.NewReader(s))
	dec.UseNumber()
	if _, err := dec.Token(); err != nil {
		return r, false
	}
	var hasMessage, hasOther bool
	for dec.More() {
		name, err := dec.Token()
		key, isText := name.(string)
		var value json.RawMessage
		if err != nil || !isText || dec.Decode(&value) != nil {
			return r, false
		}
		text, isText := unquote(value)
		switch {
		case !hasMessage && isText && slices.Contains(messageKeys, key):
			r.line.Text, hasMessage = text, true
		case r.line.Level == fleet.LevelNone && slices.Contains(levelKeys, key) && jsonLevel(text) != fleet.LevelNone:
			r.line.Level, hasOther = jsonLevel(text), true
		case r.line.At.IsZero() && slices.Contains(timeKeys, key) && !jsonTime(text).IsZero():
			r.line.At, hasOther = jsonTime(text), true
		default:
			r.fields = append(r.fields, pair(key, text, isText))
		}
	}
	if _, err := dec.Token(); err != nil {
		return r, false
	}
	_, err := dec.Token() // there must be no other value behind it
	return r, errors.Is(err, io.EOF) && hasMessage && hasOther
}

// unquote returns a JSON string, or any other JSON value as it is written.
func unquote(value json.RawMessage) (text string, isText bool) {
	if err := json.Unmarshal(value, &text); err == nil && value[0] == '"' {
		return text, true
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, value); err != nil {
		return string(value), false
	}
	return compact.String(), false
}

func pair(key, value string, isText bool) string {
	if isText && (value == "" || strings.ContainsAny(value, " \t\r\n\"=")) {
		value = strconv.Quote(value)
	}
	return key + "=" + value
}

// jsonLevel also knows the numbers of bunyan and pino.
func jsonLevel(text string) fleet.Level {
	switch text {
	case "10", "20":
		return fleet.LevelDebug
	case "30":
		return fleet.LevelInfo
	case "40":
		return fleet.LevelWarn
	case "50", "60":
		return fleet.LevelError
	default:
		return fleet.LevelOf(text)
	}
}

// jsonTime reads RFC 3339, or Unix time in seconds to nanoseconds; what is no
// time of our days is none.
func jsonTime(text string) time.Time {
	at, err := time.Parse(time.RFC3339Nano, strings.Replace(text, " ", "T", 1))
	if err != nil {
		n, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(n) || n <= 0 {
			return time.Time{}
		}
		for n > 1e11 { // more than seconds
			n /= 1000
		}
		at = time.UnixMicro(int64(n * 1e6))
	}
	if at.Year() < 2000 || at.Year() > 2200 {
		return time.Time{}
	}
	return at.UTC()
}

// lines are the lines of the message, the first of which has the other fields.
func (r record) lines(secrets *Masker) []Line {
	first, rest, more := strings.Cut(strings.TrimRight(r.line.Text, "\r\n"), "\n")
	for _, f := range r.fields {
		first += " " + strings.ReplaceAll(f, "\n", " ")
	}
	if more {
		first += "\n" + rest
	}
	return split(first, r.line, secrets)
}
