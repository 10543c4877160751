package agent

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lablink/internal/agent/crd"
	"lablink/internal/wire"
)

func TestAgent_Success(t *testing.T) {
	t.Parallel()
	f := newAllocator(t)
	v := newVM(t, f)
	v.start()

	p := next(t, f.polls, "poll")
	if p.request != (wire.StartupRequest{Hostname: testHost, Agent: "lablink/1.2.3"}) {
		t.Errorf("poll body %+v", p.request)
	}
	if got := p.header.Get("Authorization"); got != "Bearer "+testToken {
		t.Errorf("Authorization %q", got)
	}
	if got := next(t, f.status, "status"); got != (wire.StatusRequest{Hostname: testHost, Status: "running"}) {
		t.Errorf("status %+v", got)
	}
	p.reply(delivery(7, "4/0AbCdEfGh-good"))
	want := wire.ResultRequest{Hostname: testHost, Delivery: 7, Result: wire.ResultConnected}
	if got := next(t, f.results, "result"); got != want {
		t.Errorf("result %+v, want %+v", got, want)
	}
	next(t, f.polls, "poll after the result")
	if configs := v.hostConfigs(); len(configs) != 1 || !strings.Contains(v.read(configs[0]), `"host_name": "vm-7"`) {
		t.Errorf("host configurations %v", configs)
	}
	if !strings.Contains(v.log.String(), "Host started successfully") {
		t.Error("the log lacks start-host's output")
	}
	v.noSecrets("0AbCdEfGh-good")
}

func TestAgent_FailureReasons(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]string{
		"4/0expired":      crd.ReasonCode,
		"0no-slash":       crd.ReasonCode,
		"4/0network":      crd.ReasonNetwork,
		"4/0denied":       crd.ReasonDenied,
		"4/0unregistered": crd.ReasonRegister,
		"4/0nostart":      crd.ReasonService,
	} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			f := newAllocator(t)
			v := newVM(t, f)
			v.start()
			next(t, f.polls, "poll").reply(delivery(1, code))
			got := next(t, f.results, "result")
			if got.Result != wire.ResultFailed || got.Reason != want {
				t.Errorf("result %+v, want the reason %q", got, want)
			}
			v.noSecrets(code)

			// A fresh code for the same VM mends it.
			next(t, f.polls, "poll").reply(delivery(2, "4/0fresh-"+code[2:4]))
			if got := next(t, f.results, "result"); got.Result != wire.ResultConnected || got.Delivery != 2 {
				t.Errorf("after a fresh code: %+v", got)
			}
		})
	}
}

func TestAgent_UsedCodeIsRefused(t *testing.T) {
	t.Parallel()
	f := newAllocator(t)
	v := newVM(t, f)
	v.start()
	next(t, f.polls, "poll").reply(delivery(1, "4/0once"))
	if got := next(t, f.results, "result"); got.Result != wire.ResultConnected {
		t.Fatalf("%+v", got)
	}
	next(t, f.polls, "poll").reply(delivery(2, "4/0once"))
	if got := next(t, f.results, "result"); got.Result != wire.ResultFailed || got.Reason != crd.ReasonCode {
		t.Errorf("%+v", got)
	}
}

func TestAgent_StartHostMissing(t *testing.T) {
	t.Parallel()
	f := newAllocator(t)
	v := newVM(t, f)
	good := v.cfg.StartHost
	v.cfg.StartHost = filepath.Join(filepath.Dir(good), "later")
	v.start()
	if got := next(t, f.status, "status"); got.Status != "error" {
		t.Errorf("status %+v", got)
	}
	next(t, f.polls, "poll").reply(delivery(1, "4/0good"))
	if got := next(t, f.results, "result"); got.Reason != crd.ReasonMissing {
		t.Errorf("result %+v", got)
	}
	if err := os.Rename(good, v.cfg.StartHost); err != nil {
		t.Fatal(err)
	}
	for next(t, f.status, "running status").Status != "running" {
	}
	if m := next(t, f.metrics, "metrics"); m.ContainerDuration == nil || *m.ContainerDuration <= 0 || *m.ContainerEnd <= *m.ContainerStart {
		t.Errorf("metrics %+v", m)
	}
	if log := v.log.String(); !strings.Contains(log, "install Chrome Remote Desktop") || strings.Count(log, "this VM is not ready") != 1 {
		t.Errorf("the log should say once what to install:\n%s", log)
	}
}

// A VM that the agent would set up for root must not go to a participant.
func TestAgent_RootsDesktop(t *testing.T) {
	t.Parallel()
	f := newAllocator(t)
	v := newVM(t, f)
	if err := os.WriteFile(v.cfg.StartHost, []byte("\x7fELF"), 0o755); err != nil {
		t.Fatal(err)
	}
	want := "running"
	if os.Geteuid() == 0 {
		want = "error"
	}
	v.start()
	got := next(t, f.status, "status").Status
	if log := v.log.String(); got != want || strings.Contains(log, "--user") != (want == "error") {
		t.Errorf("status %q, want %q; log:\n%s", got, want, log)
	}
}

// The arguments, the input and the environment of start-host are exactly what
// Google's command has, and no shell has seen them.
func TestAgent_WhatStartHostGets(t *testing.T) {
	t.Parallel()
	f := newAllocator(t)
	v := newVM(t, f)
	seen := filepath.Join(v.home, "seen")
	v.program("start-host", `{ for a in "$@"; do printf 'arg<%s>\n' "$a"; done; sed 's/.*/in<&>/'; env | sort; } > "$HOME/seen"
echo "token leak? $1 739184"; exit 0`)
	v.start()
	next(t, f.polls, "poll").reply(delivery(1, "4/0AbC_d-e.f~g%2Fh"))
	if got := next(t, f.results, "result"); got.Result != wire.ResultConnected {
		t.Fatalf("%+v", got)
	}
	got := v.read(seen)
	for _, want := range []string{
		"arg<--code=4/0AbC_d-e.f~g%2Fh>\n", "arg<--redirect-url=https://remotedesktop.google.com/_/oauthredirect>\n",
		"arg<--name=vm-7>\n", strings.Repeat("in<739184>\n", 2), "\nDISPLAY=\n", "\nHOME=" + v.home + "\n",
	} {
		if !strings.Contains("\n"+got, want) {
			t.Errorf("start-host did not get %q:\n%s", want, got)
		}
	}
	if strings.Count(got, "arg<") != 3 || strings.Contains(got, "LABLINK") || strings.Contains(got, testToken) {
		t.Errorf("start-host got too much:\n%s", got)
	}
	if !strings.Contains(v.log.String(), "token leak? --code=[code] [pin]") {
		t.Errorf("the output was not redacted:\n%s", v.log)
	}
	v.noSecrets("0AbC_d-e.f~g%2Fh", "0AbC_d-e.f~g/h")
}

func TestAgent_InjectionIsRefused(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*wire.StartupReply){
		"command substitution": func(r *wire.StartupReply) { r.Command = `start-host --code="4/0$(touch pwned)"` },
		"second command":       func(r *wire.StartupReply) { r.Command += "; touch pwned" },
		"second line":          func(r *wire.StartupReply) { r.Command += "\ntouch pwned" },
		"another flag":         func(r *wire.StartupReply) { r.Command = "start-host --code=4/0x --pin=1 --corp-user=eve" },
		"another program":      func(r *wire.StartupReply) { r.Command = "/bin/sh -c pwned" },
		"a flag as the code":   func(r *wire.StartupReply) { r.Command = "start-host --code=--help" },
		"no command":           func(r *wire.StartupReply) { r.Command = "" },
		"two lines of PIN":     func(r *wire.StartupReply) { r.PIN = "739184\n111111" },
		"short PIN":            func(r *wire.StartupReply) { r.PIN = "7391" },
		"PIN of letters":       func(r *wire.StartupReply) { r.PIN = "abcdef" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newAllocator(t)
			v := newVM(t, f)
			v.program("start-host", `touch "$HOME/pwned"`)
			v.start()
			r := delivery(1, "4/0good")
			change(&r)
			next(t, f.polls, "poll").reply(r)
			got := next(t, f.results, "result")
			if got.Result != wire.ResultFailed || got.Reason == "" || strings.Contains(got.Reason, "pwned") {
				t.Errorf("result %+v", got)
			}
			if _, err := os.Stat(filepath.Join(v.home, "pwned")); err == nil {
				t.Error("start-host ran")
			}
		})
	}
}

func TestAgent_TimeoutKillsTheProcessGroup(t *testing.T) {
	t.Parallel()
	f := newAllocator(t)
	v := newVM(t, f)
	v.cfg.SetupTimeout = 300 * time.Millisecond
	// The grandchild holds the fifo open for writing: only its death ends the reader.
	fifo := v.fifo("alive")
	v.program("start-host", `(trap "" TERM INT HUP; exec 3> "$HOME/alive"; exec sleep 600) & wait`)
	ended := make(chan error, 1)
	go func() {
		_, err := os.ReadFile(fifo)
		ended <- err
	}()
	v.start()
	next(t, f.polls, "poll").reply(delivery(1, "4/0good"))
	if got := next(t, f.results, "result"); got.Result != wire.ResultFailed || got.Reason != crd.ReasonSlow {
		t.Errorf("result %+v", got)
	}
	if err := next(t, ended, "end of the grandchild"); err != nil {
		t.Error(err)
	}
}

func TestAgent_FloodOfOutputIsStopped(t *testing.T) {
	t.Parallel()
	f := newAllocator(t)
	v := newVM(t, f)
	// Google's start-host asks for a PIN for ever when its input has ended.
	v.program("start-host", `echo "code $1"; exec yes "Enter a PIN of at least six digits: $1"`)
	v.start()
	next(t, f.polls, "poll").reply(delivery(1, "4/0flooding"))
	if got := next(t, f.results, "result"); got.Result != wire.ResultFailed || got.Reason != crd.ReasonPIN {
		t.Errorf("result %+v", got)
	}
	v.noSecrets("0flooding")
	if n := len(v.log.String()); n > 256<<10 {
		t.Errorf("the log has %d bytes", n)
	}
}

// A background process that keeps start-host's output open, as the desktop
// itself does without systemd, is neither waited for nor killed.
func TestAgent_DesktopOutlivesStartHost(t *testing.T) {
	t.Parallel()
	f := newAllocator(t)
	v := newVM(t, f)
	begin, came := v.fifo("go"), v.fifo("came")
	v.program("start-host", `(read line < "$HOME/go"; echo "$line" > "$HOME/came") & exit 0`)
	v.start()
	next(t, f.polls, "poll").reply(delivery(1, "4/0good"))
	if got := next(t, f.results, "result"); got.Result != wire.ResultConnected {
		t.Errorf("result %+v", got)
	}
	next(t, f.polls, "poll")
	if err := os.WriteFile(begin, []byte("alive\n"), 0); err != nil {
		t.Fatal(err)
	}
	if got := v.read(came); got != "alive\n" {
		t.Errorf("the background process said %q", got)
	}
}

func TestAgent_ReportIsRepeatedUntilAnswered(t *testing.T) {
	t.Parallel()
	f := newAllocator(t)
	v := newVM(t, f)
	v.start()
	f.refuseNext(wire.PathCRDResult, 500, 503, 401, 403, 404, 429)
	next(t, f.polls, "poll").reply(delivery(3, "4/0good"))
	for range 7 {
		if got := next(t, f.results, "result"); got.Result != wire.ResultConnected || got.Delivery != 3 {
			t.Errorf("result %+v", got)
		}
	}
	next(t, f.polls, "poll")
	select {
	case got := <-f.results:
		t.Errorf("reported again after a 200: %+v", got)
	default:
	}
}

func TestAgent_FinalAnswersToAReport(t *testing.T) {
	t.Parallel()
	for _, code := range []int{http.StatusConflict, http.StatusBadRequest, http.StatusUnsupportedMediaType} {
		f := newAllocator(t)
		v := newVM(t, f)
		v.start()
		f.refuseNext(wire.PathCRDResult, code)
		next(t, f.polls, "poll").reply(delivery(3, "4/0good"))
		next(t, f.results, "result")
		next(t, f.polls, "poll")
		if len(f.results) != 0 {
			t.Errorf("reported again after %d", code)
		}
	}
}
