package agent

import (
	"os"
	"strings"
	"testing"

	"lablink/internal/wire"
)

func TestAgent_Reports(t *testing.T) {
	t.Parallel()
	f := newAllocator(t)
	v := newVM(t, f)
	v.cfg.Software = "lablink-test-software-" + t.Name()
	v.cfg.NvidiaSMI = "/bin/false"
	f.refuseNext(wire.PathStatus, 500, 500)
	f.refuseNext(wire.PathMetrics+testHost, 500, 401)
	v.start()
	for range 4 { // two were refused; then it is repeated unasked
		if got := next(t, f.status, "status"); got.Status != "running" || got.Hostname != testHost {
			t.Errorf("status %+v", got)
		}
	}
	for range 2 {
		if got := next(t, f.gpu, "GPU health"); got.GPUStatus != "Unhealthy" || got.Hostname != testHost {
			t.Errorf("GPU %+v", got)
		}
	}
	for range 3 {
		if m := next(t, f.metrics, "metrics"); m.ContainerStart == nil || m.ContainerEnd == nil || m.ContainerDuration == nil {
			t.Errorf("metrics %+v", m)
		}
	}
	for range 2 {
		if next(t, f.inUse, "in use") {
			t.Error("in use, but nothing runs")
		}
	}
	end := v.background("/opt/" + v.cfg.Software + "/main.py")
	for !next(t, f.inUse, "in use") {
	}
	end()
	for next(t, f.inUse, "no longer in use") {
	}
	select {
	case <-f.metrics:
		t.Error("the start-up times were sent again after a 200")
	default:
	}
}

// While start-host runs, the reports go on.
func TestAgent_ReportsDuringASetUp(t *testing.T) {
	t.Parallel()
	f := newAllocator(t)
	v := newVM(t, f)
	begun, proceed := v.fifo("begun"), v.fifo("proceed")
	v.program("start-host", `echo > "$HOME/begun"; read line < "$HOME/proceed"; echo "Host started successfully."`)
	v.start()
	next(t, f.polls, "poll").reply(delivery(1, "4/0good"))
	v.read(begun)
	for len(f.status) > 0 {
		<-f.status
	}
	next(t, f.status, "status during the set-up")
	next(t, f.status, "and another")
	if err := os.WriteFile(proceed, []byte("\n"), 0); err != nil {
		t.Fatal(err)
	}
	if got := next(t, f.results, "result"); got.Result != wire.ResultConnected {
		t.Errorf("result %+v", got)
	}
}

func TestNew_SaysAllThatIsWrong(t *testing.T) {
	t.Parallel()
	_, err := New(Config{Allocator: "ftp://x", Hostname: "UPPER"})
	for _, want := range []string{"https://HOST", "not a valid host name", "state directory"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v lacks %q", err, want)
		}
	}
}

func TestNormalizeAllocator(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"https://lab.example.org":      "https://lab.example.org",
		"https://lab.example.org///":   "https://lab.example.org",
		" http://.example.org/ ":       "http://example.org",
		"http://10.0.0.1:5000":         "http://10.0.0.1:5000",
		"https://lab.example.org/a/":   "https://lab.example.org/a",
		"http://[::1]:5000":            "http://[::1]:5000",
		"":                             "",
		"lab.example.org":              "",
		"ftp://lab.example.org":        "",
		"https://":                     "",
		"https:///path":                "",
		"https://eve:secret@lab.org":   "",
		"https://lab.org?x=1":          "",
		"https://lab.org#x":            "",
		"https://lab.org:port":         "",
		"https://lab.example.org\n/x ": "",
	} {
		got, err := NormalizeAllocator(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("NormalizeAllocator(%q) = %q, %v; want %q", in, got, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("the error shows the password: %v", err)
		}
	}
}
