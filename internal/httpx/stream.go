package httpx

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// writeTimeout ends a stream whose reader does not take what is sent.
const writeTimeout = 30 * time.Second

// EventStream is an answer of server-sent events.
type EventStream struct {
	w  http.ResponseWriter
	rc *http.ResponseController
}

// Stream begins an answer of server-sent events and lifts the deadlines of
// ordinary requests.
func Stream(w http.ResponseWriter) (*EventStream, error) {
	s := &EventStream{w, http.NewResponseController(w)}
	if err := s.rc.SetReadDeadline(time.Time{}); err != nil {
		return nil, fmt.Errorf("event stream: %w", err)
	}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx would hold the events back
	w.WriteHeader(http.StatusOK)
	if err := s.Comment(); err != nil {
		return nil, err
	}
	return s, nil
}

// Send sends one event. An error means that the reader has gone.
func (s *EventStream) Send(event, data string) error { return s.SendID("", event, data) }

// SendID sends one event with an id, which a browser that connects again sends as
// Last-Event-ID. "" leaves the last one as it is.
func (s *EventStream) SendID(id, event, data string) error {
	var b bytes.Buffer
	if id != "" {
		fmt.Fprintf(&b, "id: %s\n", id)
	}
	fmt.Fprintf(&b, "event: %s\n", event)
	for line := range strings.Lines(data) {
		fmt.Fprintf(&b, "data: %s\n", strings.TrimRight(line, "\r\n"))
	}
	if data == "" {
		b.WriteString("data:\n")
	}
	b.WriteByte('\n')
	return s.write(b.Bytes())
}

// Comment sends a keep-alive.
func (s *EventStream) Comment() error { return s.write([]byte(":\n\n")) }

func (s *EventStream) write(b []byte) error {
	if err := s.rc.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	if _, err := s.w.Write(b); err != nil {
		return err
	}
	return s.rc.Flush()
}
