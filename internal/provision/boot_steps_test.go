package provision_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"unicode/utf8"

	"lablink/internal/testkit"
)

// Each step fails once, alone and together with all others: the VM works all the
// same.
func TestBoot_StepFailsOnce(t *testing.T) {
	t.Parallel()
	steps := []string{
		"apt-get update", "apt-get install", "systemctl enable", "systemctl start", "systemctl restart", "docker version",
		"nvidia-smi", "nvidia-ctk", "docker pull", "docker run", "docker inspect", "timeout", "gzip",
		"nvidia-smi -pm", "nvidia-modprobe", // which may fail for good
	}
	cases := map[string][]string{"all": steps}
	for _, step := range steps {
		cases[step] = []string{step}
	}
	for name, fails := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rec := newRecorder(t, nil)
			v := newVM(t, true)
			v.remove("bin/docker")
			for _, step := range fails {
				v.write("fail/"+step, "1")
			}
			out, code := v.boot(usual(rec.URL).with(settings{"gpu": true}))
			if got := rec.words(); code != 0 || got != "initializing running times" {
				t.Errorf("exit code %d, reports %q\n%s", code, got, out)
			}
			if run := v.calls("docker run"); len(run) == 0 || !strings.Contains(strings.Join(run[0], " "), "--gpus all") {
				t.Errorf("docker run: %q", run)
			}
			for _, step := range fails {
				if left := v.read("fail/" + step); strings.TrimSpace(left) != "0" {
					t.Errorf("%s did not come to fail", step)
				}
			}
		})
	}
}

// So do the reports.
func TestBoot_ReportFailsOnce(t *testing.T) {
	t.Parallel()
	codes := []int{http.StatusServiceUnavailable, http.StatusUnauthorized, http.StatusTooManyRequests}
	rec := newRecorder(t, func(_ report, before int) int {
		if before < len(codes) {
			return codes[before]
		}
		return http.StatusNoContent
	})
	v := newVM(t, false)
	out, code := v.boot(usual(rec.URL))
	want := strings.TrimSpace(strings.Repeat("initializing ", 4) + strings.Repeat("running ", 4) + strings.Repeat("times ", 4))
	if got := rec.words(); code != 0 || got != want {
		t.Errorf("exit code %d, reports %q\n%s", code, got, out)
	}
	for _, r := range rec.all() {
		if r.Token != bootToken || r.ContentType != "application/json" {
			t.Errorf("%s has the token %q and the type %q", r.Path, r.Token, r.ContentType)
		}
		switch r.Path {
		case "/api/vm-status":
			if want := `{"hostname":"lablink-vm-1","status":"` + r.Status + `"}`; r.Body != want {
				t.Errorf("it reports %s, want %s", r.Body, want)
			}
		case "/api/vm-metrics/lablink-vm-1":
			start, end, took := r.Start, r.End, r.Took
			if start == nil || end == nil || took == nil || *start < 1_700_000_000 || *end < *start || *took != *end-*start {
				t.Errorf("it reports %s", r.Body)
			}
		default:
			t.Errorf("it posts to %s", r.Path)
		}
	}
}

// Each step fails for good: the VM is in error, and says why.
func TestBoot_StepFails(t *testing.T) {
	t.Parallel()
	const nasty = "first\nsecond\n\x1b[1;31mE:\x1b[0m no \"room\" \\ left\tin É\xc3\x28 " + bootToken + " $(id) `id`\r\x00\x07\n\n"
	for step, want := range map[string]string{
		"apt-get update":    "Docker could not be installed: apt-get update is broken",
		"apt-get install":   "Docker could not be installed: apt-get install is broken",
		"systemctl enable":  "Docker does not start: systemctl enable is broken",
		"systemctl start":   "Docker does not start: systemctl start is broken",
		"docker version":    "Docker does not start: docker version is broken",
		"nvidia-smi":        "the driver of the GPU does not work: nvidia-smi is broken",
		"nvidia-ctk":        "Docker could not be prepared for the GPU: nvidia-ctk is broken",
		"systemctl restart": "Docker does not start: systemctl restart is broken",
		"docker pull":       "the image example.org/client:1 could not be pulled: docker pull is broken",
		"gzip":              "the client's files could not be written: gzip is broken",
		"docker run":        `the client container could not be started: first second E: no "room" \ left in É( [token] $(id) ` + "`id`",
		"sleep":             "the boot script ended unexpectedly while waiting for the client container",
	} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			rec := newRecorder(t, nil)
			v := newVM(t, true)
			v.remove("bin/docker")
			v.write("fail/"+step, "ever")
			if step == "docker run" {
				v.write("say/docker run", nasty)
			}
			out, code := v.boot(usual(rec.URL).with(settings{"gpu": true}))
			if code == 0 {
				t.Errorf("it succeeds:\n%s", out)
			}
			reports := rec.all()
			last := reports[len(reports)-1]
			if got := rec.words(); got != "initializing error" || strings.TrimSpace(last.Reason) != want {
				t.Errorf("reports %q with the reason\n%s\nwant\n%s\n%s", got, last.Reason, want, out)
			}
			if !strings.Contains(out, want) {
				t.Errorf("the reason is not in the output:\n%s", out)
			}
		})
	}
}

var control = regexp.MustCompile(`[[:cntrl:]]`)

// However much a program prints, the reason is a line that fits.
func TestBoot_LongReason(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"long lines": strings.Repeat("é", 5000), "many lines": strings.Repeat("a line\n", 5000), "binary": strings.Repeat("\xff\x80\x01", 5000),
		"the token at the edge": strings.Repeat("x", 1000) + bootToken + strings.Repeat("x", 392), "nothing": "",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rec := newRecorder(t, nil)
			v := newVM(t, false)
			v.write("fail/docker pull", "ever")
			v.write("say/docker pull", text)
			out, _ := v.boot(usual(rec.URL))
			reports := rec.all()
			reason := reports[len(reports)-1].Reason
			if len(reason) < 50 || utf8.RuneCountInString(reason) > 500 || !utf8.ValidString(reason) || control.MatchString(reason) {
				t.Errorf("the reason has %d characters: %q\n%s", utf8.RuneCountInString(reason), reason, out)
			}
			if strings.Contains(reason, bootToken[len(bootToken)-8:]) {
				t.Errorf("half of the token is in %q", reason)
			}
		})
	}
}

// What becomes of the container decides.
func TestBoot_Container(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		inspect, reports, reason string
	}{
		"healthy in the end":     {"created 0 starting\n" + strings.Repeat("running 0 starting\n", 20) + "running 0 healthy\n", "running times", ""},
		"cannot tell, and stays": {"running 0 \n", "running times", ""},
		"cannot tell, and ends":  {"running 0 \nrunning 0 \nexited 0 \n", "error", "the client container has ended with code 3: last words"},
		"ends at once":           {"exited 0 starting\n", "error", "the client container has ended with code 3: last words"},
		"starts again":           {"running 0 starting\nrestarting 1 starting\n", "error", "the client container has ended with code 3: last words"},
		"started again":          {"running 1 healthy\n", "error", "the client container has ended with code 3: last words"},
		"is unhealthy":           {"running 0 starting\nrunning 0 unhealthy\n", "error", "the client container is unhealthy: last words"},
		"takes for ever":         {"running 0 starting\n", "error", "the client container did not work within half an hour (running 0 starting): last words"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rec := newRecorder(t, nil)
			v := newVM(t, false)
			v.write("inspect", test.inspect)
			v.write("logs", "last\nwords\n")
			out, code := v.boot(usual(rec.URL))
			reports := rec.all()
			if got := rec.words(); got != "initializing "+test.reports || (code == 0) != (test.reason == "") {
				t.Errorf("exit code %d, reports %q\n%s", code, got, out)
			}
			if got := reports[len(reports)-1].Reason; got != test.reason {
				t.Errorf("the reason is %q", got)
			}
			// Its agent would report later that the VM works.
			if stopped := len(v.calls("docker stop")) > 0; stopped != (name == "is unhealthy") {
				t.Errorf("docker stop: %v", stopped)
			}
		})
	}
}

// An allocator that redirects is not followed: the token would go elsewhere. A VM
// that works is not in error because nobody listens.
func TestBoot_Redirected(t *testing.T) {
	t.Parallel()
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("%s %s went elsewhere", r.Method, r.URL)
	}))
	defer elsewhere.Close()
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.URL+r.URL.Path, http.StatusPermanentRedirect)
	}))
	defer front.Close()
	v := newVM(t, false)
	out, code := v.boot(usual(front.URL))
	if code == 0 || !strings.Contains(out, "a redirect to "+elsewhere.URL+"/api/vm-status: server.public_url must be") ||
		!strings.Contains(out, "try 25 of 25") || !strings.Contains(out, "does not know that this VM works") || strings.Contains(out, "error:") {
		t.Errorf("exit code %d\n%s", code, out)
	}
}

// What waits between the tries of a report adds up to ten minutes, and varies.
func TestBoot_Patience(t *testing.T) {
	t.Parallel()
	rec := newRecorder(t, func(r report, _ int) int {
		if r.Status == "running" {
			return http.StatusBadGateway
		}
		return http.StatusOK
	})
	v := newVM(t, false)
	v.boot(usual(rec.URL))
	total, different := 0, map[string]bool{}
	for _, call := range v.calls("sleep") {
		seconds := 0
		for _, digit := range call[1] {
			seconds = 10*seconds + int(digit-'0')
		}
		total += seconds
		different[call[1]] = true
	}
	if total < 600 || total > 1300 || len(different) < 6 {
		t.Errorf("it waits for %d seconds in all, in pieces of %v", total, different)
	}
	if got := rec.words(); got != "initializing"+strings.Repeat(" running", 25) {
		t.Errorf("reports %q", got)
	}
}

// The VM is shut down in the middle.
func TestBoot_Terminated(t *testing.T) {
	t.Parallel()
	rec := newRecorder(t, nil)
	v := newVM(t, false)
	pipe := filepath.Join(v.dir, "hang", "docker pull")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd, out := v.start(userData(t, usual(rec.URL)))
	// It opens when the program that hangs does.
	end, err := os.OpenFile(pipe, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer end.Close()
	if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	err = cmd.Wait()
	if _, ended := errors.AsType[*exec.ExitError](err); !ended {
		t.Errorf("it ends with %v\n%s", err, out)
	}
	reports := rec.all()
	const want = "the boot script ended unexpectedly while pulling the image"
	if got := reports[len(reports)-1]; got.Status != "error" || got.Reason != want {
		t.Errorf("it reports %s\n%s", got.Body, out)
	}
	testkit.Eventually(t, "the end of the programs", func() bool { return syscall.Kill(-cmd.Process.Pid, 0) != nil })
}
