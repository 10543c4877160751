package ship

import (
	"encoding/json"
	"strings"
	"time"
)

// unwrapped is the event without what Docker's json-file driver writes around each
// line of a container.
func (e event) unwrapped() event {
	if !strings.HasPrefix(e.text, `{"log":"`) {
		return e
	}
	var line struct {
		Log    string    `json:"log"`
		Stream string    `json:"stream"`
		Time   time.Time `json:"time"`
	}
	err := json.Unmarshal([]byte(e.text), &line)
	if err != nil || line.Stream != "stdout" && line.Stream != "stderr" || line.Time.IsZero() {
		return e
	}
	e.text, e.at = strings.TrimRight(line.Log, "\r\n"), line.Time
	return e
}
