// Package logship is the log processor without Lambda: it takes what a
// subscription of CloudWatch Logs delivers, and posts it to the allocator.
package logship

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"lablink/internal/wire"
)

// Source is where the allocator's pages say that these lines come from.
const Source = "cloudwatch"

// Shipper posts what it is given. It prints counts, never a line of a log.
type Shipper struct {
	config Config
	logger *slog.Logger
	client *http.Client
}

// New returns a shipper.
func New(config Config, logger *slog.Logger) *Shipper {
	return &Shipper{config: config, logger: logger, client: &http.Client{
		Transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
			TLSHandshakeTimeout: 5 * time.Second,
			ForceAttemptHTTP2:   true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // see send
	}}
}

// margin is what of the time is left for telling how it went.
const margin = 500 * time.Millisecond

// counts are of one delivery.
type counts struct {
	events, accepted, posts int
}

// Handle posts the events of a delivery. An error means that not all of them were
// accepted, and AWS delivers all of them again: after a minute, and after two
// more; then the function's dead-letter queue has them. That is as good as only
// those which were not accepted: the allocator stores each event once, by its id.
func (s *Shipper) Handle(ctx context.Context, event events.CloudwatchLogsEvent) error {
	started := time.Now()
	// Between two deliveries Lambda freezes the machine, and connections die unnoticed.
	defer s.client.CloseIdleConnections()
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline.Add(-margin))
		defer cancel()
	}
	d, err := decode(event.AWSLogs.Data)
	if err != nil {
		s.logger.Error("the delivery cannot be read", "error", err)
		return err
	}
	if d.MessageType == controlMessage {
		s.logger.Info("CloudWatch asks whether somebody is here")
		return nil
	}
	n := counts{events: len(d.LogEvents)}
	if s.config.Python {
		err = s.shipOld(ctx, d, &n)
	} else {
		err = s.ship(ctx, d, &n)
	}
	logger := s.logger.With("stream", d.LogStream, "events", n.events, "accepted", n.accepted, "posts", n.posts,
		"milliseconds", time.Since(started).Milliseconds())
	if err != nil {
		logger.Error("not all of the delivery was accepted: AWS will try again", "error", err)
		return err
	}
	logger.Info("delivered")
	return nil
}

// ship posts a delivery in batches, one after the other. All are of one stream:
// where one fails, those behind it would come before it, so it stops there. But it
// goes on behind what the allocator has seen and will not take however often it is
// sent, or has put aside in its order.
func (s *Shipper) ship(ctx context.Context, d events.CloudwatchLogsData, n *counts) error {
	var left error
	list, most := wireEvents(d.LogEvents), wire.MaxLogEvents
	for len(list) > 0 {
		size, err := fitting(list, most)
		if err != nil {
			return err
		}
		err = s.post(ctx, wire.LogBatch{Hostname: hostname(d.LogStream), Source: Source, Events: list[:size]}, n)
		answer, _ := errors.AsType[*answerError](err)
		switch {
		case err == nil:
			n.accepted += size
		case answer == nil:
			return err
		case answer.status == http.StatusRequestEntityTooLarge && size > 1:
			most = size / 2
			continue
		case answer.status == http.StatusRequestEntityTooLarge, answer.status == http.StatusNotFound:
			// A VM that is not known (yet): the allocator keeps the batch aside if it has room, but does not say so.
			left = err
		default:
			return err
		}
		list = list[size:]
		most = min(2*most, wire.MaxLogEvents)
	}
	return left
}

// shipOld posts a delivery as the Lambda of the Python system does: at once, since
// nothing tells its allocator that it has a part of it already.
func (s *Shipper) shipOld(ctx context.Context, d events.CloudwatchLogsData, n *counts) error {
	if len(d.LogEvents) == 0 {
		return nil
	}
	batch := wire.OldLogBatch{LogGroup: d.LogGroup, LogStream: d.LogStream}
	for _, e := range d.LogEvents {
		batch.Messages = append(batch.Messages, e.Message)
	}
	if err := s.post(ctx, batch, n); err != nil {
		return err
	}
	n.accepted = n.events
	return nil
}

// hostname is the last part of a stream's name.
func hostname(stream string) string {
	stream = strings.TrimRight(stream, "/")
	return stream[strings.LastIndexByte(stream, '/')+1:]
}
