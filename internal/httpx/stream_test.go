package httpx

import (
	"bufio"
	"net/http"
	"strings"
	"testing"
)

func TestEventStream(t *testing.T) {
	t.Parallel()
	next := make(chan struct{})
	s := serve(t, Adapt(func(w http.ResponseWriter, _ *http.Request) error {
		stream, err := Stream(w)
		if err != nil {
			return err
		}
		for _, e := range [][2]string{{"one", "<p>a</p>"}, {"lines", "a\nb\r\n\nevent: c"}, {"empty", ""}} {
			<-next // sent as it happens, not at the end
			if err := stream.Send(e[0], e[1]); err != nil {
				return err
			}
		}
		return nil
	}, JSONError))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.Header.Get("Content-Type") != "text/event-stream" || resp.Header.Get("X-Accel-Buffering") != "no" || resp.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("headers %v", resp.Header)
	}
	in := bufio.NewReader(resp.Body)
	read := func() string {
		var event strings.Builder
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				t.Fatalf("after %q: %v", event.String(), err)
			}
			if line == "\n" {
				return event.String()
			}
			event.WriteString(line)
		}
	}
	if got := read(); got != ":\n" {
		t.Errorf("the stream begins with %q", got)
	}
	for _, want := range []string{
		"event: one\ndata: <p>a</p>\n",
		"event: lines\n" + "data: a\n" + "data: b\n" + "data: \n" + "data: event: c\n",
		"event: empty\ndata:\n",
	} {
		next <- struct{}{}
		if got := read(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// A writer that cannot be streamed to is an error while nothing is written.
func TestStream_Unable(t *testing.T) {
	t.Parallel()
	if _, err := Stream(unable{}); err == nil {
		t.Error("no error")
	}
}

type unable struct{ http.ResponseWriter }
