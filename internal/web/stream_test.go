package web_test

import (
	"bufio"
	"context"
	"net/http"
	"strings"
	"testing"
	"time"
)

// stream is an open stream of server-sent events.
type stream struct {
	t      *testing.T
	events chan [2]string // name and data; closed when the stream ends
	stop   context.CancelFunc
}

// listen opens a stream of events.
func (b *browser) listen(path string) *stream {
	b.s.t.Helper()
	return b.resume(path, "")
}

// resume opens a stream of events, as a browser that has had one up to an id.
func (b *browser) resume(path, lastEventID string) *stream {
	b.s.t.Helper()
	ctx, cancel := context.WithCancel(b.s.t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, b.s.server.URL+path, nil)
	b.s.must(err)
	if b.admin {
		r.SetBasicAuth("admin", adminPassword)
	}
	if lastEventID != "" {
		r.Header.Set("Last-Event-ID", lastEventID)
	}
	resp, err := b.client.Do(r) //nolint:bodyclose // below, where the stream ends
	b.s.must(err)
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		b.s.t.Fatalf("%s: status %d, type %s", path, resp.StatusCode, resp.Header.Get("Content-Type"))
	}
	st := &stream{b.s.t, make(chan [2]string, 100), cancel}
	b.s.t.Cleanup(cancel)
	go func() {
		defer close(st.events)
		defer resp.Body.Close()
		lines := bufio.NewScanner(resp.Body)
		var event [2]string
		for lines.Scan() {
			name, value, _ := strings.Cut(lines.Text(), ":")
			switch value = strings.TrimPrefix(value, " "); {
			case name == "event":
				event[0] = value
			case name == "data":
				event[1] += value + "\n"
			case lines.Text() == "" && event[0] != "":
				st.events <- event
				event = [2]string{}
			}
		}
	}()
	return st
}

// next returns the next event of a name, with its data as an answer.
func (st *stream) next(name string) *answer {
	st.t.Helper()
	for {
		select {
		case e, ok := <-st.events:
			if !ok {
				st.t.Fatalf("the stream ended before %q", name)
			}
			if e[0] == name {
				return &answer{t: st.t, body: e[1]}
			}
		case <-time.After(20 * time.Second):
			st.t.Fatalf("no event %q", name)
		}
	}
}

// wantEnd checks that the stream ends.
func (st *stream) wantEnd() {
	st.t.Helper()
	for {
		select {
		case _, ok := <-st.events:
			if !ok {
				return
			}
		case <-time.After(20 * time.Second):
			st.t.Fatal("the stream does not end")
		}
	}
}
