//go:build linux

package bench_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lablink/internal/wire"
)

// Periods of the real agent.
const (
	retryMin = time.Second
	retryMax = time.Minute
	atOnce   = time.Second
	silence  = 90 * time.Second
)

// swarm is many agents in one process: each polls, fetches, acknowledges and
// comes back with the pauses of the real one (pace in internal/agent), but does
// nothing else.
type swarm struct {
	tb     testing.TB
	addr   string
	agents []*agent
	stop   func()

	mu        sync.Mutex
	expected  map[string]chan time.Time // by code: gets the moment at which it arrived
	delivered atomic.Int64
	failures  atomic.Int64 // polls that were refused or cut
}

type agent struct {
	swarm           *swarm
	hostname, token string
	source          net.IP
	heard           atomic.Int64 // keep-alives of the current poll

	conn net.Conn
	in   *bufio.Reader
}

// machine is what an agent needs to know.
type machine struct{ hostname, token string }

// newSwarm starts the agents within a few seconds, as fast as a whole university
// might be switched on. They end with the test, or by stop.
func newSwarm(tb testing.TB, addr string, machines []machine) *swarm {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s := &swarm{tb: tb, addr: addr, expected: map[string]chan time.Time{}}
	var group sync.WaitGroup
	s.stop = func() { cancel(); group.Wait() }
	tb.Cleanup(s.stop)
	for i, m := range machines {
		// Several addresses, for the ports of one might not do.
		a := &agent{swarm: s, hostname: m.hostname, token: m.token, source: net.IPv4(127, 0, 0, byte(2+i%8))}
		s.agents = append(s.agents, a)
	}
	group.Go(func() {
		for i, a := range s.agents {
			group.Go(func() { a.run(ctx) })
			if i%10 == 9 && pause(ctx, 3*time.Millisecond) != nil {
				return
			}
		}
	})
	return s
}

// expect returns where the moment will come at which an agent gets the code.
func (s *swarm) expect(code string) <-chan time.Time {
	c := make(chan time.Time, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expected[code] = c
	return c
}

func (s *swarm) arrived(command string, at time.Time) {
	s.delivered.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.expected[command]; c != nil {
		delete(s.expected, command)
		c <- at
	}
}

// heardAll tells whether every agent has heard n keep-alives of its poll.
func (s *swarm) heardAll(n int64) bool {
	for _, a := range s.agents {
		if a.heard.Load() < n {
			return false
		}
	}
	return true
}

var errAgain = errors.New("call again")

// pollError is a poll without an answer.
type pollError struct {
	err     error
	alive   bool // it had been held
	restart bool // the server stops in order
}

func (e *pollError) Error() string { return e.err.Error() }

func (a *agent) run(ctx context.Context) {
	defer a.hangUp()
	fails, restarted := 0, false
	for ctx.Err() == nil {
		err := a.poll(ctx)
		if err == nil {
			fails, restarted = 0, false
			continue
		}
		if ctx.Err() != nil {
			return
		}
		a.swarm.failures.Add(1)
		a.hangUp()
		wait := upTo(atOnce)
		hurry := err.alive || err.restart && !restarted
		restarted = err.restart
		if hurry {
			fails = 0
		} else {
			d := min(retryMin<<min(fails, 20), retryMax)
			fails++
			wait = d/2 + upTo(d/2)
		}
		if pause(ctx, wait) != nil {
			return
		}
	}
}

func upTo(d time.Duration) time.Duration { return rand.N(d + 1) }

func (a *agent) hangUp() {
	if a.conn != nil {
		a.conn.Close()
		a.conn = nil
	}
}

// poll waits for work, and acknowledges it.
func (a *agent) poll(ctx context.Context) *pollError {
	a.heard.Store(0)
	if a.conn == nil {
		dialer := net.Dialer{Timeout: 30 * time.Second, LocalAddr: &net.TCPAddr{IP: a.source}}
		conn, err := dialer.DialContext(ctx, "tcp", a.swarm.addr)
		if err != nil {
			return &pollError{err: err}
		}
		a.conn, a.in = conn, bufio.NewReaderSize(conn, 512)
	}
	conn := a.conn
	forget := context.AfterFunc(ctx, func() { conn.Close() })
	defer forget()

	resp, err := a.post(wire.PathStartup, wire.StartupRequest{Hostname: a.hostname, Agent: "lablink/bench"})
	if err != nil {
		return &pollError{err: err}
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		_, _ = io.Copy(io.Discard, resp.Body) // the connection is given up anyway
		return &pollError{err: fmt.Errorf("%w: %s", errAgain, resp.Status), restart: resp.Header.Get(wire.RestartHeader) == "1"}
	}
	limit := silence
	if s, err := strconv.ParseFloat(resp.Header.Get(wire.KeepaliveHeader), 64); err == nil {
		limit = time.Duration(3*s*float64(time.Second)) + 15*time.Second
	}
	data, err := a.read(resp.Body, limit)
	if err != nil {
		return &pollError{err: err, alive: a.heard.Load() > 0}
	}
	at := time.Now()
	var reply wire.StartupReply
	if err := json.Unmarshal(data, &reply); err != nil {
		a.swarm.tb.Errorf("%s: answer is no JSON: %v", a.hostname, err)
		return &pollError{err: err}
	}
	a.swarm.arrived(reply.Command, at)
	return a.acknowledge(reply.Delivery)
}

// read reads the answer behind the keep-alives.
func (a *agent) read(body io.Reader, limit time.Duration) ([]byte, error) {
	var data []byte
	for buf := make([]byte, 512); ; {
		if err := a.conn.SetReadDeadline(time.Now().Add(limit)); err != nil {
			return nil, err
		}
		n, err := body.Read(buf)
		chunk := bytes.TrimLeft(buf[:n], "\n")
		if len(data) > 0 {
			chunk = buf[:n]
		} else {
			a.heard.Add(int64(n - len(chunk)))
		}
		data = append(data, chunk...)
		if errors.Is(err, io.EOF) {
			return data, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

func (a *agent) acknowledge(delivery int64) *pollError {
	resp, err := a.post(wire.PathCRDResult, wire.ResultRequest{Hostname: a.hostname, Delivery: delivery, Result: wire.ResultConnected})
	if err != nil {
		return &pollError{err: err}
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return &pollError{err: err}
	}
	// A conflict is final as well: the seats were taken back between two measurements.
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusConflict {
		a.swarm.tb.Errorf("%s: acknowledgement: %s %s", a.hostname, resp.Status, text)
		return &pollError{err: errAgain}
	}
	return nil
}

// post sends what the real agent sends.
func (a *agent) post(path string, body any) (*http.Response, error) {
	data, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "POST %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: lablink/bench\r\nContent-Length: %d\r\nAccept: application/json\r\n"+
		"Authorization: Bearer %s\r\nContent-Type: application/json\r\n\r\n%s", path, a.swarm.addr, len(data), a.token, data)
	if err := a.conn.SetDeadline(time.Now().Add(silence)); err != nil {
		return nil, err
	}
	if _, err := a.conn.Write(b.Bytes()); err != nil {
		return nil, err
	}
	return http.ReadResponse(a.in, nil)
}
