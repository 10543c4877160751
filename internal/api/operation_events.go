package api

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"lablink/internal/fleet"
	"lablink/internal/httpx"
	"lablink/internal/wait"
)

const (
	readTimeout = 10 * time.Second // of one read by a stream
	streamTick  = 15 * time.Second // between reads, should a notification be lost; it keeps proxies from cutting, too
	streamEvery = 200 * time.Millisecond
)

// operationEvents sends the operation as an event "operation" whenever it has
// changed, and ends with it.
func (a *API) operationEvents(w http.ResponseWriter, r *http.Request) error {
	httpx.Quiet(r)
	id, err := operationID(r)
	if err != nil {
		return err
	}
	changed, unsubscribe := a.Feed.Subscribe(wait.Operation(strconv.FormatInt(id, 10)))
	defer unsubscribe()
	op, err := a.readOperation(r.Context(), id)
	if err != nil {
		return err
	}
	stream, err := httpx.Stream(w)
	if err != nil {
		return err
	}
	sent := ""
	for {
		data, err := json.Marshal(operationOf(op))
		if err != nil {
			return nil // plain texts and numbers: it cannot fail, and the answer has begun
		}
		if string(data) != sent {
			err = stream.Send("operation", string(data))
		} else {
			err = stream.Comment()
		}
		if sent = string(data); err != nil || op.State.Final() {
			return nil // or the reader has gone
		}
		select {
		case <-r.Context().Done():
			return nil
		case <-a.Feed.Closed():
			return nil
		case <-time.After(streamEvery): // a launch of 200 changes more often than anybody can read
		}
		select {
		case <-r.Context().Done():
			return nil
		case <-a.Feed.Closed():
			return nil
		case <-changed:
		case <-time.After(streamTick):
		}
		if next, err := a.readOperation(r.Context(), id); err == nil {
			op = next
		} else {
			httpx.Logger(r.Context()).Warn("operation not read for a stream", "operation", id, "error", err)
		}
	}
}

func (a *API) readOperation(ctx context.Context, id int64) (fleet.Operation, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	return a.Store.Operation(ctx, id)
}
