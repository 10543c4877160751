package api

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"strings"
	"time"

	"lablink/internal/fleet"
	"lablink/internal/logtext"
	"lablink/internal/store"
	"lablink/internal/wire"
)

// maxBatchLines bounds what newlines can make of a batch.
const maxBatchLines = 100_000

// logBody is a batch in any of its three forms: ours, that of the Python
// system's Lambda, and that of the Python system's documentation.
type logBody struct {
	Hostname string           `json:"hostname"`
	Source   string           `json:"source"`
	Events   *[]wire.LogEvent `json:"events"`

	LogGroup  string    `json:"log_group"`
	LogStream string    `json:"log_stream"`
	Messages  *[]string `json:"messages"`

	Logs *[]struct {
		Timestamp wire.LogTime `json:"timestamp"`
		Message   string       `json:"message"`
	} `json:"logs"`
}

// logBatch is a batch in our form, with what it was before.
type logBatch struct {
	wire.LogBatch

	Nameless string `json:"nameless,omitempty"` // hash of the events without ids, as they were sent
}

func (b *logBody) batch() (logBatch, error) {
	out := logBatch{LogBatch: wire.LogBatch{Hostname: b.Hostname, Source: b.Source}}
	list, origin := "events", ""
	switch {
	case b.Events != nil:
		out.Events = *b.Events
		if out.Source == "" {
			out.Source = "agent"
		}
	case b.Messages != nil || b.LogStream != "":
		if b.LogGroup == "" {
			return out, fleet.FieldErrorf("log_group", "log_group is required")
		}
		list, origin = "messages", b.LogGroup+" "+b.LogStream
		stream := strings.TrimRight(b.LogStream, "/")
		out.Hostname, out.Source = stream[strings.LastIndexByte(stream, '/')+1:], "cloudwatch"
		if b.Messages != nil {
			for _, m := range *b.Messages {
				out.Events = append(out.Events, wire.LogEvent{Message: m})
			}
		}
	case b.Logs != nil:
		list, out.Source = "logs", "agent"
		for _, l := range *b.Logs {
			out.Events = append(out.Events, wire.LogEvent{Time: l.Timestamp, Message: l.Message})
		}
	default:
		return out, fleet.FieldErrorf("events", "send hostname, source and events; or log_group, log_stream and messages")
	}
	if err := out.check(list); err != nil {
		return out, err
	}
	nameless := func(e wire.LogEvent) bool { return e.ID == "" }
	if hash := out.hash(nameless, origin); hash != nil {
		out.Nameless = hex.EncodeToString(hash)
	}
	return out, nil
}

func (b *logBatch) check(list string) error {
	field := "hostname"
	if list == "messages" {
		field = "log_stream"
	}
	if b.Hostname == "" {
		return fleet.FieldErrorf(field, "%s is required", field)
	}
	if err := fleet.ValidateHostname(b.Hostname); err != nil {
		return fleet.FieldErrorf(field, "%s: %s", field, err)
	}
	if err := checkSource(b.Source); err != nil {
		return err
	}
	if n := len(b.Events); n == 0 || n > wire.MaxLogEvents {
		err := fleet.FieldErrorf(list, "send 1 to %d %s at once, not %d", wire.MaxLogEvents, list, n)
		if n > 0 {
			err.Kind = fleet.TooLarge
		}
		return err
	}
	return nil
}

// ownSource is that of the lines that LabLink itself adds to a log.
const ownSource = "lablink"

func checkSource(s string) error {
	const longest = 32
	ok := s != "" && len(s) <= longest && s != ownSource
	for i := range len(s) {
		c := s[i]
		ok = ok && ('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '.' || c == '_' || c == '-')
	}
	if !ok {
		return fleet.FieldErrorf("source", "source says where the lines were written, such as agent, console or boot: "+
			"at most %d of a-z, 0-9, '.', '_' and '-', and not %s", longest, ownSource)
	}
	return nil
}

// hash is of some of a batch's events, nil if there are none.
func (b *logBatch) hash(of func(wire.LogEvent) bool, origin ...string) []byte {
	h, some := sha256.New(), false
	write(h, append([]string{b.Source}, origin...)...)
	for _, e := range b.Events {
		if of(e) {
			some = true
			at := ""
			if !e.Time.IsZero() {
				at = e.Time.UTC().Format(time.RFC3339Nano)
			}
			write(h, e.ID, at, e.Message)
		}
	}
	if !some {
		return nil
	}
	return h.Sum(nil)
}

// write adds texts to a hash so that their borders count.
func write(h hash.Hash, texts ...string) {
	for _, s := range texts {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(s)))
		_, _ = h.Write(length[:])
		_, _ = h.Write([]byte(s)) // a hash takes everything
	}
}

// lines makes lines of the batch's events, for the log of a VM.
func (b *logBatch) lines(vm int64, secrets *logtext.Masker) (store.NewLogLines, error) {
	var out store.NewLogLines
	if b.Nameless != "" {
		hash, err := hex.DecodeString(b.Nameless)
		if err != nil {
			return out, err
		}
		out.Nameless = hash
	}
	for i := range b.Events {
		e := &b.Events[i]
		lines := logtext.Lines(e.Message, secrets)
		if len(out.Lines)+len(lines) > maxBatchLines {
			return store.NewLogLines{}, fleet.Errorf(fleet.TooLarge, "these are more than 100,000 lines: send fewer at once")
		}
		for n, l := range lines {
			line := store.NewLogLine{At: l.At, Level: l.Level, Source: b.Source, Text: l.Text}
			if line.At.IsZero() {
				line.At = plausible(e.Time.Time)
			}
			if e.ID != "" {
				line.Event = lineKey(vm, b.Source, e.ID, n)
			}
			out.Lines = append(out.Lines, line)
		}
	}
	return out, nil
}

// plausible is a time that a machine with a wrong clock may still have; none is
// zero, the time of arrival.
func plausible(t time.Time) time.Time {
	if y := t.Year(); y < 1970 || y > 9999 {
		return time.Time{}
	}
	return t
}

// lineKey names a line of an event among those of all VMs. It begins as the
// event's id does: ids that grow are neighbours in the index, whose pages are then
// few and at hand.
func lineKey(vm int64, source, id string, line int) []byte {
	const prefix, rest = 8, 12
	key := make([]byte, prefix, prefix+rest)
	copy(key, id)
	h := sha256.New()
	write(h, source, id)
	var numbers [16]byte
	binary.BigEndian.PutUint64(numbers[:], uint64(vm))
	binary.BigEndian.PutUint64(numbers[8:], uint64(line))
	_, _ = h.Write(numbers[:])
	return append(key, h.Sum(nil)[:rest]...)
}
