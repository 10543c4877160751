package logship

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// attemptTime bounds one request, so that a connection that died does not take all
// the time there is.
const attemptTime = 20 * time.Second

// answerError is an answer that does not say that all is stored.
type answerError struct {
	status  int
	request string        // the id by which the allocator's log knows it
	after   time.Duration // it said when to come again
	python  bool          // it is that of the Python system, although nobody said so
}

// hints are what an answer means here.
var hints = map[int]string{
	http.StatusUnauthorized:          ": API_TOKEN is not the allocator's logs.processor_token",
	http.StatusForbidden:             ": API_TOKEN belongs to one VM; set it to the allocator's logs.processor_token",
	http.StatusNotFound:              ": it knows no VM of that name (yet), or API_ENDPOINT is wrong",
	http.StatusRequestEntityTooLarge: ": the event is too large for it",
	http.StatusOK:                    ", but not as an allocator does: look at API_ENDPOINT",
}

// Error implements error. The answer's text may repeat what it was sent.
func (e *answerError) Error() string {
	text := fmt.Sprintf("the allocator answered %d%s", e.status, hints[e.status])
	if e.python {
		text += "; it looks like that of the Python system: set API_FORMAT=" + formatPython
	}
	if e.request != "" {
		text += " (its request " + e.request + ")"
	}
	return text
}

// passing tells whether another try may help at once.
func passing(err error) bool {
	if answer, ok := errors.AsType[*answerError](err); ok {
		return answer.status >= 500 || answer.status == http.StatusTooManyRequests || answer.status == http.StatusRequestTimeout
	}
	_, redirected := errors.AsType[*redirectError](err)
	return !redirected
}

// post sends a batch until it is accepted, refused, or the time is over.
func (s *Shipper) post(ctx context.Context, batch any, n *counts) error {
	body, err := s.encode(batch)
	if err != nil {
		return err
	}
	for pause := 200 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		n.posts++
		err := s.send(ctx, body)
		if err == nil || !passing(err) {
			return err
		}
		wait := pause/2 + rand.N(pause)
		if answer, ok := errors.AsType[*answerError](err); ok {
			wait = max(wait, answer.after)
		}
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= wait {
			return fmt.Errorf("%w; there is no time for another try", err)
		}
		s.logger.Warn("trying again", "error", err, "wait_milliseconds", wait.Milliseconds())
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait):
		}
	}
}

func (s *Shipper) encode(batch any) ([]byte, error) {
	text, err := json.Marshal(batch)
	if err != nil || s.config.Python {
		return text, err
	}
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	if _, err := zip.Write(text); err != nil {
		return nil, err
	}
	err = zip.Close()
	return packed.Bytes(), err
}

// send posts once, and to where it is redirected.
func (s *Shipper) send(ctx context.Context, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, attemptTime)
	defer cancel()
	const most = 3 // redirects
	address := s.config.Endpoint
	for range most + 1 {
		next, err := s.request(ctx, address, body)
		if next == "" || err != nil {
			return err
		}
		s.logger.Warn("the allocator's address has moved: change API_ENDPOINT", "to", next)
		address = next
	}
	return &redirectError{"it redirects more than three times"}
}

// request posts to an address. It returns another one if that is where to post.
func (s *Shipper) request(ctx context.Context, address string, body []byte) (next string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "lablink-logproc")
	if !s.config.Python {
		req.Header.Set("Content-Encoding", "gzip")
	}
	if s.config.Token != "" {
		req.Header.Set("Authorization", "Bearer "+s.config.Token)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 == 3 {
		return redirect(resp)
	}
	const enough = 64 << 10
	text, err := io.ReadAll(io.LimitReader(resp.Body, enough))
	if err != nil {
		return "", err
	}
	var answer struct {
		Message string `json:"message"`
	}
	// A page that anything else than an allocator answers with is no success.
	if resp.StatusCode == http.StatusOK && json.Unmarshal(text, &answer) == nil && answer.Message != "" {
		return "", nil
	}
	python := !s.config.Python && strings.Contains(resp.Header.Get("Server"), "Werkzeug")
	return "", &answerError{resp.StatusCode, requestID(resp), retryAfter(resp), python}
}

// requestID is the answer's, if it is one of LabLink's.
func requestID(resp *http.Response) string {
	id := resp.Header.Get("X-Request-Id")
	if strings.Trim(id, "0123456789abcdef-") != "" {
		return ""
	}
	return id
}

// retryAfter is zero if the answer does not say.
func retryAfter(resp *http.Response) time.Duration {
	text := resp.Header.Get("Retry-After")
	if seconds, err := strconv.Atoi(text); err == nil && seconds >= 0 && seconds < 1e6 {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return time.Until(at)
	}
	return 0
}

// redirectError is a redirect that must not be followed.
type redirectError struct{ why string }

// Error implements error.
func (e *redirectError) Error() string {
	return e.why + ": set API_ENDPOINT to the address that answers"
}

// redirect is where to post instead. The token and the logs go to no other host,
// and not from HTTPS to HTTP.
func redirect(resp *http.Response) (string, error) {
	from := resp.Request.URL
	to, err := resp.Location()
	if err != nil {
		return "", &redirectError{fmt.Sprintf("the allocator answered %d without saying where it is", resp.StatusCode)}
	}
	where := (&url.URL{Scheme: to.Scheme, Host: to.Host, Path: to.Path}).String()
	switch resp.StatusCode {
	case http.StatusMovedPermanently, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
	default:
		return "", &redirectError{fmt.Sprintf("the allocator answered %d, which would make a GET of the POST, to %s", resp.StatusCode, where)}
	}
	sameHost := to.Scheme == from.Scheme && strings.EqualFold(to.Host, from.Host)
	upgraded := from.Scheme == "http" && to.Scheme == "https" && strings.EqualFold(to.Hostname(), from.Hostname())
	if !sameHost && !upgraded {
		return "", &redirectError{"the allocator redirects to another host or to HTTP, " + where}
	}
	return to.String(), nil
}
