package provision

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	// maxLine is how much of one line of output is kept, in bytes.
	maxLine = 64 << 10
	// maxReason is how much is kept of what Terraform says of an error.
	maxReason = 8 << 10
)

// lineWriter takes what Terraform writes, reads its messages, and hands on each
// line as people read it.
type lineWriter struct {
	tracker *tracker // nil: nothing to follow
	mask    masker
	log     func(line string)
	partial []byte
}

// lines returns what takes the output of one run.
func (w *Workspace) lines(t *tracker) *lineWriter {
	return &lineWriter{tracker: t, mask: w.mask, log: w.log}
}

// Write implements io.Writer. It never fails: an error would end the reading,
// and block Terraform.
func (w *lineWriter) Write(p []byte) (int, error) {
	for rest := p; ; {
		line, after, ended := bytes.Cut(rest, []byte{'\n'})
		w.partial = append(w.partial, line...)
		if !ended {
			return len(p), nil
		}
		w.flush()
		rest = after
	}
}

// flush hands on what was written as a line, whether it has ended or not.
func (w *lineWriter) flush() {
	line := bytes.TrimRight(w.partial, "\r")
	w.partial = nil
	m, ok := parseMessage(line)
	if !ok {
		if len(bytes.TrimSpace(line)) > 0 {
			w.print(string(line))
		}
		return
	}
	if w.tracker != nil {
		w.tracker.read(m)
	}
	w.print(m.at().UTC().Format(time.TimeOnly) + "  " + m.text())
}

func (w *lineWriter) print(line string) {
	w.log(shorten(w.mask.hide(clean(line)), maxLine))
}

// control finds what colours a terminal.
var control = regexp.MustCompile(`\x1b\[[\x30-\x3f]*[\x20-\x2f]*[\x40-\x7e]`)

// clean takes out of a text what a database does not take, and what people do
// not read. It comes before the masking: a secret with something in it must not
// become whole again.
func clean(text string) string {
	text = strings.ReplaceAll(text, "\x00", "")
	text = strings.ToValidUTF8(text, "\uFFFD")
	return control.ReplaceAllString(text, "")
}

// shorten leaves the beginning and the end of a text that is too long.
func shorten(text string, most int) string {
	if len(text) <= most {
		return text
	}
	head, tail := most/2, len(text)-most/2
	for !utf8.RuneStart(text[head]) {
		head--
	}
	for tail < len(text) && !utf8.RuneStart(text[tail]) {
		tail++
	}
	return fmt.Sprintf("%s ... (%d bytes are not kept) ... %s", text[:head], tail-head, text[tail:])
}
