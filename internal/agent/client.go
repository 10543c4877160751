package agent

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

	"lablink/internal/wire"
)

const maxReply = 64 << 10 // bytes of JSON; a command has at most 2 KiB

// client speaks to the allocator.
type client struct {
	base, hostname, token, agent string

	http   *http.Client
	timing Timing
	log    *slog.Logger

	mu         sync.Mutex
	complaints map[string]complaint // by path: what was logged last
}

type complaint struct {
	text string
	at   time.Time
}

func newClient(cfg Config) *client {
	transport := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: cfg.Timing.Dial, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout:   cfg.Timing.Dial,
		ExpectContinueTimeout: time.Second,
		IdleConnTimeout:       90 * time.Second,
		MaxIdleConnsPerHost:   4,
		DisableCompression:    true, // a compressor would hold keep-alives back
		// A connection per request: a dead one is noticed by the request on it.
		Protocols: new(http.Protocols),
	}
	transport.Protocols.SetHTTP1(true)
	return &client{
		base: cfg.Allocator, hostname: cfg.Hostname, token: cfg.Token, agent: "lablink/" + cfg.Version,
		http:       &http.Client{Transport: transport, CheckRedirect: checkRedirect},
		timing:     cfg.Timing,
		log:        cfg.Log,
		complaints: map[string]complaint{},
	}
}

// close ends the idle connections.
func (c *client) close() { c.http.CloseIdleConnections() }

// checkRedirect follows what keeps a POST a POST and the token where it
// belongs: 307 and 308 to the same host, or from http to https on it.
func checkRedirect(req *http.Request, via []*http.Request) error {
	from, to := via[len(via)-1].URL, req.URL
	keeps := req.Response.StatusCode == http.StatusTemporaryRedirect || req.Response.StatusCode == http.StatusPermanentRedirect
	same := from.Scheme == to.Scheme && from.Host == to.Host
	upgrade := from.Scheme == "http" && to.Scheme == "https" && from.Hostname() == to.Hostname()
	if !keeps || !same && !upgrade || len(via) >= 5 {
		return http.ErrUseLastResponse
	}
	return nil
}

// statusError is an answer other than 200.
type statusError struct {
	code       int
	message    string
	retryAfter time.Duration
	restart    bool // the allocator restarts on purpose
}

// Error says what was answered and what to do about it.
func (e *statusError) Error() string {
	s := fmt.Sprintf("the allocator answered %d", e.code)
	if e.message != "" {
		s += fmt.Sprintf(" (%s)", e.message)
	}
	switch e.code {
	case http.StatusUnauthorized:
		s += ": the token is missing or wrong; give this agent the token that the admin page made for this hostname"
	case http.StatusForbidden:
		s += ": the token is another VM's; give this agent the token that the admin page made for this hostname"
	case http.StatusNotFound:
		s += ": the allocator does not know this hostname; register it on the admin page, or correct --hostname or --allocator"
	}
	return s
}

// Status is the answer's.
func (e *statusError) Status() int { return e.code }

// request makes a POST of body as JSON.
func (c *client) request(ctx context.Context, path string, body any) (*http.Request, error) {
	data, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	return c.requestOf(ctx, path, data)
}

func (c *client) requestOf(ctx context.Context, path string, data []byte) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+path, bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", c.agent)
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	return req, nil
}

// post sends a short call. It returns nil for 200, else a *statusError or what
// went wrong on the way.
func (c *client) post(ctx context.Context, path string, body any) error {
	ctx, cancel := context.WithTimeout(ctx, c.timing.Call)
	defer cancel()
	req, err := c.request(ctx, path, body)
	if err != nil {
		return err
	}
	return c.do(req)
}

// zipFrom is how many bytes a body must have to be worth compressing.
const zipFrom = 1 << 10

// postZipped is post for a body that may be large.
func (c *client) postZipped(ctx context.Context, path string, body any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	zipped := data
	if len(data) >= zipFrom {
		if zipped, err = zip(data); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, c.timing.Call)
	defer cancel()
	req, err := c.requestOf(ctx, path, zipped)
	if err != nil {
		return err
	}
	if len(data) >= zipFrom {
		req.Header.Set("Content-Encoding", "gzip")
	}
	return c.do(req)
}

func zip(data []byte) ([]byte, error) {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := w.Write(data)
	err = errors.Join(err, w.Close())
	return b.Bytes(), err
}

// do sends a request. It returns nil for 200.
func (c *client) do(req *http.Request) error {
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, maxReply)) // so that the connection can be used again
		return err
	}
	return refusal(resp)
}

// refusal reads an answer other than 200.
func refusal(resp *http.Response) error {
	e := &statusError{
		code:    resp.StatusCode,
		restart: resp.StatusCode == http.StatusServiceUnavailable && resp.Header.Get(wire.RestartHeader) == "1",
	}
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s > 0 {
		e.retryAfter = time.Duration(min(s, 3600)) * time.Second
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxReply))
	var said wire.Error
	if err == nil && json.Unmarshal(data, &said) == nil {
		e.message = clean(said.Error)
	}
	if to, err := resp.Location(); err == nil && resp.StatusCode/100 == 3 {
		e.message = fmt.Sprintf("a redirect to %s, which a POST with a token does not follow: set --allocator to the address that answers itself", where(to))
	}
	return e
}

// where is a URL without what might be secret in it.
func where(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).Redacted()
}

// clean makes a text of the allocator fit for the log.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
	if len(s) > 300 {
		s = strings.ToValidUTF8(s[:300], "") + "..."
	}
	return s
}

// complain logs that a call failed, but the same failure of the same call only
// once in ten minutes: agents retry for days.
func (c *client) complain(path string, err error) {
	text := err.Error()
	c.mu.Lock()
	last := c.complaints[path]
	fresh := last.text != text || time.Since(last.at) > 10*time.Minute
	if fresh {
		c.complaints[path] = complaint{text, time.Now()}
	}
	c.mu.Unlock()
	if fresh {
		c.log.Warn("the allocator cannot be used; trying again", "path", path, "error", err)
	}
}

// relieved logs that a call works again after a complaint.
func (c *client) relieved(path string) {
	c.mu.Lock()
	_, had := c.complaints[path]
	delete(c.complaints, path)
	c.mu.Unlock()
	if had {
		c.log.Info("the allocator can be used again", "path", path)
	}
}

// final reports whether calling again with the same body is of no use.
func final(err error) bool {
	e, ok := errors.AsType[*statusError](err)
	if !ok || e.code < 400 || e.code >= 500 {
		return false
	}
	switch e.code {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, // an admin may repair these
		http.StatusRequestTimeout, http.StatusTooManyRequests:
		return false
	default:
		return true
	}
}

// persist posts until the answer is final. The error, if any, is a refusal that
// will not change, or the context's.
func (c *client) persist(ctx context.Context, path string, body any) error {
	retry := backoff{min: c.timing.RetryMin, max: c.timing.RetryMax}
	for {
		err := c.post(ctx, path, body)
		if err == nil {
			c.relieved(path)
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if final(err) {
			return err
		}
		c.complain(path, err)
		if err := wait(ctx, retry.after(err)); err != nil {
			return err
		}
	}
}
