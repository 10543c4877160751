package logship

import (
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"lablink/internal/wire"
)

// Types of deliveries.
const (
	controlMessage = "CONTROL_MESSAGE" // which only tries whether they arrive
	dataMessage    = "DATA_MESSAGE"
)

// maxDelivery bounds what a delivery unpacks to. Lambda hands over at most 1 MiB
// of it packed, which could be a gigabyte; real ones are of a few.
const maxDelivery = 32 << 20

// decode unpacks a delivery. Its errors say nothing of what is in it.
func decode(data string) (d events.CloudwatchLogsData, err error) {
	if data == "" {
		return d, errors.New("this is no delivery of CloudWatch Logs: there is no awslogs.data")
	}
	unpacked, err := gzip.NewReader(base64.NewDecoder(base64.StdEncoding, strings.NewReader(data)))
	if err != nil {
		return d, fmt.Errorf("awslogs.data is not gzip in base64: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(unpacked, maxDelivery+1))
	if err != nil {
		return d, fmt.Errorf("awslogs.data cannot be unpacked: %w", err)
	}
	if len(text) > maxDelivery {
		return d, fmt.Errorf("awslogs.data unpacks to more than %d MiB", maxDelivery>>20)
	}
	if err := json.Unmarshal(text, &d); err != nil {
		return d, errors.New("awslogs.data is not the JSON of a delivery")
	}
	if d.MessageType != dataMessage && d.MessageType != controlMessage {
		return d, errors.New("awslogs.data is neither a " + dataMessage + " nor a " + controlMessage)
	}
	return d, nil
}

func wireEvents(list []events.CloudwatchLogsLogEvent) []wire.LogEvent {
	out := make([]wire.LogEvent, len(list))
	for i, e := range list {
		out[i] = wire.LogEvent{ID: e.ID, Time: wire.LogTime{Time: time.UnixMilli(e.Timestamp)}, Message: e.Message}
	}
	return out
}

// fitting is how many of the events fit into a batch, at least one.
func fitting(list []wire.LogEvent, most int) (int, error) {
	const envelope = 8 << 10 // a stream's name has at most 512 letters
	most, size := min(most, len(list)), envelope
	for i := range most {
		text, err := json.Marshal(list[i])
		if err != nil {
			return 0, err
		}
		if size += len(text) + len(","); size > wire.MaxLogBytes && i > 0 {
			return i, nil
		}
	}
	return most, nil
}
