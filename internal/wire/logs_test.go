package wire

import (
	"encoding/json"
	"testing"
	"time"
)

func TestLogTime(t *testing.T) {
	t.Parallel()
	want := time.Date(2025, 1, 2, 3, 4, 5, 678e6, time.UTC)
	for _, in := range []string{`"2025-01-02T03:04:05.678Z"`, `"2025-01-02T05:04:05.678+02:00"`, `1735787045678`, `1735787045678.0`,
		`"2025-01-02T03:04:05.678"`, `"2025-01-02 03:04:05.678"`} {
		var e LogEvent
		if err := json.Unmarshal([]byte(`{"time":`+in+`}`), &e); err != nil || !e.Time.Equal(want) {
			t.Errorf("%s became %v, %v", in, e.Time, err)
		}
		out, err := json.Marshal(e)
		if err != nil || string(out) != `{"time":"2025-01-02T03:04:05.678Z","message":""}` {
			t.Errorf("written as %s, %v", out, err)
		}
	}
	for _, in := range []string{`null`, `""`} {
		var e LogEvent
		if err := json.Unmarshal([]byte(`{"time":`+in+`}`), &e); err != nil || !e.Time.IsZero() {
			t.Errorf("%s became %v, %v", in, e.Time, err)
		}
	}
	for _, in := range []string{`"noon"`, `true`, `{}`, `[1]`, `1e300`, `"\u0032025-01-02T03:04:05Z"`, `-1e15`} {
		var e LogEvent
		if err := json.Unmarshal([]byte(`{"time":`+in+`}`), &e); err == nil {
			t.Errorf("%s became %v", in, e.Time)
		}
	}
	if out, err := json.Marshal(LogEvent{Message: "m"}); err != nil || string(out) != `{"message":"m"}` {
		t.Errorf("without a time: %s, %v", out, err)
	}
}

func TestLogTime_NamesItsField(t *testing.T) {
	t.Parallel()
	var b LogBatch
	err := json.Unmarshal([]byte(`{"events":[{"time":"noon"}]}`), &b)
	if e, ok := err.(*json.UnmarshalTypeError); !ok || e.Field != "events.time" { //nolint:errorlint // the type matters to whoever explains it
		t.Errorf("%v", err)
	}
}
