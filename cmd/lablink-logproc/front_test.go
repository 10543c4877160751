package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// front stands before an allocator, and makes trouble.
type front struct {
	url     string
	handler atomic.Pointer[http.HandlerFunc] // in place of the allocator's, if there is one
	posts   atomic.Int64
}

func newFront(t *testing.T, allocator string) *front {
	t.Helper()
	f := &front{}
	proxy := proxyTo(t, allocator)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.posts.Add(1)
		if h := f.handler.Load(); h != nil {
			(*h)(w, r)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	f.url = server.URL
	return f
}

func proxyTo(t *testing.T, allocator string) http.Handler {
	t.Helper()
	to, err := url.Parse(allocator)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &httputil.ReverseProxy{Transport: transport, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }}
}

// answer has it answer by itself from now on.
func (f *front) answer(h http.HandlerFunc) { f.handler.Store(&h) }

// pass has it pass on everything again.
func (f *front) pass() { f.handler.Store(nil) }

// pythonAllocator is as strict as that of the Python system: see POST /api/vm-logs
// in docs/api.md.
type pythonAllocator struct {
	url           string
	posts         atomic.Int64
	authorization atomic.Value

	mu   sync.Mutex
	logs map[string]string
}

func newPythonAllocator(t *testing.T, streams ...string) *pythonAllocator {
	t.Helper()
	p := &pythonAllocator{logs: map[string]string{}}
	for _, s := range streams {
		p.logs[s] = ""
	}
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	p.url = server.URL
	return p
}

func (p *pythonAllocator) log(stream string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.TrimPrefix(p.logs[stream], "\n")
}

// ServeHTTP implements http.Handler.
func (p *pythonAllocator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.posts.Add(1)
	p.authorization.Store(r.Header.Get("Authorization"))
	answer := func(code int, key, text string) {
		w.Header().Set("Server", "Werkzeug/3.1.3 Python/3.11.9")
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		fmt.Fprintf(w, "{%q:%q}\n", key, text)
	}
	var body map[string]any
	if r.Method != http.MethodPost || r.URL.Path != "/api/vm-logs" || r.Header.Get("Content-Type") != "application/json" ||
		r.Header.Get("Content-Encoding") != "" || json.NewDecoder(r.Body).Decode(&body) != nil {
		answer(http.StatusInternalServerError, "error", "Failed")
		return
	}
	group, _ := body["log_group"].(string)
	stream, _ := body["log_stream"].(string)
	messages, _ := body["messages"].([]any)
	if group == "" || stream == "" || len(messages) == 0 || len(body) != 3 {
		answer(http.StatusBadRequest, "error", "Missing")
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, known := p.logs[stream]; !known {
		answer(http.StatusNotFound, "error", "VM not found")
		return
	}
	for _, m := range messages {
		text, isText := m.(string)
		if !isText {
			answer(http.StatusInternalServerError, "error", "Failed")
			return
		}
		p.logs[stream] += "\n" + text
	}
	answer(http.StatusOK, "message", "Logs posted")
}
