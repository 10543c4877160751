package store

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

// Channels of notifications.
const (
	channelUpdates = "vm_updates"      // a VM has a command to fetch
	channelChanges = "lablink_changes" // "ID HOSTNAME" of a VM whose visible state changed, or "operation ID"
)

// pingEvery bounds how long a LISTEN connection that died in silence stays
// unnoticed.
const pingEvery = 5 * time.Second

// Listener hears the database's notifications on a connection of its own. They
// are hints: after each (re)connection Connected is called, because anything may
// have been missed, and the receiver reads the database again. If that fails,
// the connection is made anew.
type Listener struct {
	Store     *Store
	Logger    *slog.Logger
	Connected func(context.Context) error // the connection listens from now on; it hears the next notification when this returns
	Command   func(hostname string)       // this VM has something to fetch
	Changed   func(hostname string)       // this VM's visible state changed
	Operation func(id string)             // so did this operation's

	listening atomic.Bool
}

// Listening reports whether the connection is up.
func (l *Listener) Listening() bool { return l.listening.Load() }

// Run listens until ctx ends. It reconnects for ever, at first quickly.
func (l *Listener) Run(ctx context.Context) {
	backoff := 50 * time.Millisecond
	for ctx.Err() == nil {
		start := time.Now()
		err := l.listen(ctx)
		l.listening.Store(false)
		if ctx.Err() != nil {
			return
		}
		// What ended this connection has probably ended those of the pool, each of which
		// would be an error for somebody.
		l.Store.pool.Reset()
		if time.Since(start) > 10*time.Second {
			backoff = 50 * time.Millisecond
		}
		l.Logger.Warn("the connection that listens for notifications is lost, reconnecting", "error", err, "in", backoff)
		select {
		case <-ctx.Done():
		case <-time.After(backoff/2 + rand.N(backoff)):
		}
		backoff = min(backoff*2, 5*time.Second)
	}
}

func (l *Listener) listen(ctx context.Context) error {
	cfg := l.Store.pool.Config().ConnConfig
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return err
	}
	// The connection has session state: it is closed, never reused.
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(closing) // nothing of ours is in flight on it
	}()
	if _, err := conn.Exec(ctx, "LISTEN "+channelUpdates+"; LISTEN "+channelChanges); err != nil {
		return err
	}
	if err := l.Connected(ctx); err != nil {
		return err
	}
	l.listening.Store(true)
	for {
		wait, cancel := context.WithTimeout(ctx, pingEvery)
		n, err := conn.WaitForNotification(wait)
		cancel()
		switch {
		case err == nil:
			l.dispatch(n.Channel, n.Payload)
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, context.DeadlineExceeded):
			ping, cancel := context.WithTimeout(ctx, pingEvery)
			err := conn.Ping(ping)
			cancel()
			if err != nil {
				return err
			}
		default:
			return err
		}
	}
}

func (l *Listener) dispatch(channel, payload string) {
	switch channel {
	case channelUpdates:
		var update struct {
			HostName string `json:"HostName"`
		}
		// The payload holds a code: it is never logged.
		if err := json.Unmarshal([]byte(payload), &update); err != nil || update.HostName == "" {
			l.Logger.Warn("ignored a notification without HostName", "channel", channel)
			return
		}
		l.Command(update.HostName)
	case channelChanges:
		switch kind, name, ok := strings.Cut(payload, " "); {
		case !ok:
		case kind == "operation":
			l.Operation(name)
		default:
			l.Changed(name)
		}
	}
}
