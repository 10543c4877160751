package wire

import (
	"encoding/json"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// PathLogs takes what VMs print. GET with the hostname behind it reads it.
const PathLogs = "/api/vm-logs"

// Limits of one batch. A body may be compressed (Content-Encoding: gzip); the
// limit holds for what it decompresses to.
const (
	MaxLogEvents = 10_000
	MaxLogBytes  = 8 << 20
)

// LogBatch is the body of POST /api/vm-logs. The answer is exactly 200 when all
// of it is stored, also when some or all was stored before.
type LogBatch struct {
	Hostname string     `json:"hostname"`
	Source   string     `json:"source"` // where it was written: "agent", "console", "boot", "cloudwatch", or another name of a-z, 0-9, '.', '_', '-', at most 32
	Events   []LogEvent `json:"events"`
}

// LogEvent is one entry of a log.
type LogEvent struct {
	// ID names the event among those of its VM and source: it is stored once,
	// however often it is sent. Ids that begin with what grows, as CloudWatch's do,
	// or an offset with leading zeros, are found fastest.
	ID      string  `json:"id,omitempty"`
	Time    LogTime `json:"time,omitzero"` // absent: when it arrives
	Message string  `json:"message"`       // newlines make several lines of it
}

// OldLogBatch is the body that the Lambda of the Python system sends. LogStream
// is a hostname, or a path whose last part is one.
type OldLogBatch struct {
	LogGroup  string   `json:"log_group"`
	LogStream string   `json:"log_stream"`
	Messages  []string `json:"messages"`
}

// LogTime is a time that is read as RFC 3339 or as Unix milliseconds, and
// written as RFC 3339.
type LogTime struct{ time.Time }

// logTimeForms are how a time may be written. Without a zone it is UTC.
var logTimeForms = []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999"}

// MarshalJSON implements json.Marshaler.
func (t LogTime) MarshalJSON() ([]byte, error) {
	return json.Marshal(t.UTC().Format(time.RFC3339Nano))
}

// UnmarshalJSON implements json.Unmarshaler. Null and "" are no time.
func (t *LogTime) UnmarshalJSON(b []byte) error {
	if s := string(b); s == "null" || s == `""` {
		return nil
	}
	text, isText := strings.CutPrefix(string(b), `"`)
	if isText {
		text = strings.TrimSuffix(text, `"`) // no time needs an escape
		for _, form := range logTimeForms {
			if at, err := time.Parse(form, text); err == nil {
				t.Time = at.UTC()
				return nil
			}
		}
	} else if ms, err := strconv.ParseFloat(text, 64); err == nil && math.Abs(ms) < maxLogTime {
		t.Time = time.UnixMicro(int64(ms * 1000)).UTC()
		return nil
	}
	return &json.UnmarshalTypeError{Value: "another value", Type: reflect.TypeFor[time.Time]()} // names its field
}

// maxLogTime is some time in the year 9000, in milliseconds.
const maxLogTime = 222e12
