package provision_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
)

// report is a request that an allocator got.
type report struct {
	Path, Token, Body, ContentType string `json:"-"`

	Hostname string `json:"hostname"`
	Status   string `json:"status"`
	Reason   string `json:"reason"`
	Start    *int64 `json:"cloud_init_start"`
	End      *int64 `json:"cloud_init_end"`
	Took     *int64 `json:"cloud_init_duration_seconds"`
}

// recorder is an allocator that writes down what it gets.
type recorder struct {
	URL string

	mu      sync.Mutex
	reports []report
	answer  func(r report, before int) int // the code, given how many such reports came before; nil: 200
}

func newRecorder(t *testing.T, answer func(r report, before int) int) *recorder {
	t.Helper()
	rec := &recorder{answer: answer}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		got := report{}
		if err := errors.Join(err, json.Unmarshal(body, &got)); err != nil || r.Method != http.MethodPost {
			t.Errorf("%s %s: %v\n%s", r.Method, r.URL.Path, err, body)
		}
		got.Path, got.Body, got.ContentType = r.URL.Path, string(body), r.Header.Get("Content-Type")
		got.Token = strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		w.WriteHeader(rec.add(got))
	}))
	t.Cleanup(server.Close)
	rec.URL = server.URL
	return rec
}

func (rec *recorder) add(got report) (code int) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	before := 0
	for _, r := range rec.reports {
		if r.Path == got.Path && r.Status == got.Status {
			before++
		}
	}
	rec.reports = append(rec.reports, got)
	if rec.answer == nil {
		return http.StatusOK
	}
	return rec.answer(got, before)
}

// all are the reports so far; words tells them in short.
func (rec *recorder) all() []report {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return slices.Clone(rec.reports)
}

func (rec *recorder) words() string {
	var words []string
	for _, r := range rec.all() {
		word := r.Status
		if word == "" {
			word = "times"
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}
