package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lablink/internal/agent/simhost"
	"lablink/internal/wire"
)

// cleanEnv takes the agent's variables out of the environment of this test.
func cleanEnv(t *testing.T) {
	t.Helper()
	for _, kv := range os.Environ() {
		key, _, _ := strings.Cut(kv, "=")
		if strings.HasPrefix(key, "LABLINK_") || key == "ALLOCATOR_URL" || key == "VM_NAME" || key == "SUBJECT_SOFTWARE" {
			t.Setenv(key, "")
		}
	}
	t.Setenv("LABLINK_TOKEN", "")
	t.Setenv("STATE_DIRECTORY", t.TempDir())
}

// firstPoll runs the agent until it polls, and stops it as a signal would.
func firstPoll(t *testing.T, stdin string, args ...string) (body wire.StartupRequest, header http.Header, log string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == wire.PathStartup && header == nil {
			if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
				t.Error(err)
			}
			header = r.Header
			cancel()
		}
	}))
	defer server.Close()
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], "ALLOCATOR", server.URL)
	}
	for _, key := range []string{"LABLINK_ALLOCATOR", "ALLOCATOR_URL"} {
		if os.Getenv(key) == "ALLOCATOR" {
			t.Setenv(key, server.URL+"/")
		}
	}
	var out, errs bytes.Buffer
	if code := Main(ctx, append([]string{"agent"}, args...), strings.NewReader(stdin), &out, &errs); code != 0 {
		t.Fatalf("exit code %d:\n%s", code, errs.String())
	}
	server.Close()
	return body, header, errs.String()
}

func TestAgent_Flags(t *testing.T) {
	cleanEnv(t)
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("secret-of-the-file\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("LABLINK_TOKEN", "secret-of-the-environment")
	t.Setenv("VM_NAME", "not-this")
	body, header, log := firstPoll(t, "", "--allocator", "ALLOCATOR/", "--hostname", "vm-3", "--token-file", file, "--log-format", "text")
	if body.Hostname != "vm-3" || header.Get("Authorization") != "Bearer secret-of-the-file" {
		t.Errorf("poll %+v, %v", body, header)
	}
	if !strings.Contains(log, "chmod 600") || strings.Contains(log, "secret-of") {
		t.Errorf("log:\n%s", log)
	}
}

func TestAgent_Environment(t *testing.T) {
	cleanEnv(t)
	t.Setenv("ALLOCATOR_URL", "ALLOCATOR")
	t.Setenv("VM_NAME", "vm-4")
	t.Setenv("LABLINK_TOKEN", "secret-of-the-environment")
	body, header, log := firstPoll(t, "")
	if body.Hostname != "vm-4" || header.Get("Authorization") != "Bearer secret-of-the-environment" {
		t.Errorf("poll %+v, %v", body, header)
	}
	if !strings.HasPrefix(log, "{") {
		t.Errorf("the log of a machine is not JSON:\n%s", log)
	}
	if os.Getenv("LABLINK_TOKEN") != "" {
		t.Error("the token is still in the environment, where children find it")
	}
}

func TestAgent_StandardInput(t *testing.T) {
	cleanEnv(t)
	t.Setenv("LABLINK_ALLOCATOR", "ALLOCATOR")
	t.Setenv("ALLOCATOR_URL", "https://not-this.example.org")
	t.Setenv("LABLINK_HOSTNAME", "vm-5")
	body, header, _ := firstPoll(t, "secret-of-stdin\n", "--token-file", "-")
	if body.Hostname != "vm-5" || header.Get("Authorization") != "Bearer secret-of-stdin" {
		t.Errorf("poll %+v, %v", body, header)
	}
}

// Whichever way root becomes the desktop's user, the log warns of it, except
// where start-host is simulated.
func TestAgent_RootsDesktop(t *testing.T) {
	cleanEnv(t)
	simulated, err := simhost.Install(t.TempDir(), "lablink")
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		user, startHost string
		warns           bool
	}{
		{"", "/nonexistent/start-host", os.Geteuid() == 0},
		{"root", "/nonexistent/start-host", os.Geteuid() == 0},
		{"nobody", "/nonexistent/start-host", false},
		{"no-such-user-here", "/nonexistent/start-host", false},
		{"root", simulated, false},
	} {
		_, _, log := firstPoll(t, "", "--allocator", "ALLOCATOR", "--hostname", "vm-6", "--user", tc.user, "--start-host", tc.startHost)
		if got := strings.Contains(log, "start-host refuses"); got != tc.warns {
			t.Errorf("user %q, %s: warns %v, want %v:\n%s", tc.user, tc.startHost, got, tc.warns, log)
		}
	}
}

func TestAgent_UsageErrors(t *testing.T) {
	cleanEnv(t)
	run := func(stdin string, args ...string) string {
		t.Helper()
		var out, errs bytes.Buffer
		if code := Main(t.Context(), append([]string{"agent"}, args...), strings.NewReader(stdin), &out, &errs); code != 2 {
			t.Errorf("%v: exit code %d", args, code)
		}
		return errs.String()
	}
	got := run("", "--allocator", "lab.example.org", "--hostname", "Not_OK", "--token-file", "/nonexistent/token",
		"--log-format", "xml", "--setup-timeout", "1ms")
	for _, want := range []string{"--allocator: ", "--hostname: ", "--token-file: ", "--log-format: ", "--setup-timeout: "} {
		if strings.Count(got, want) != 1 {
			t.Errorf("want %q once in:\n%s", want, got)
		}
	}
	for want, args := range map[string][]string{
		"address is missing":                      {"--hostname", "vm-1"},
		`"x" is not of the form NAME=PATH`:        {"--allocator", "https://x.org", "--log-file", "x"},
		`"X=/x" is not of the form`:               {"--allocator", "https://x.org", "--log-file", "a=/a,X=/x"},
		"boot is the name of another log already": {"--allocator", "https://x.org", "--log-file", "boot=/x"},
		"is not a token":                          {"--allocator", "https://x.org", "--hostname", "vm-1", "--token-file", "-"},
		"unknown flag: --token":                   {"--token", "secret"},
		`unknown command "extra"`:                 {"extra"},
	} {
		if got := run("two words", args...); !strings.Contains(got, want) {
			t.Errorf("%v: want %q in:\n%s", args, want, got)
		}
	}
	if got := run("\n", "--allocator", "https://x.org", "--hostname", "vm-1", "--token-file", "-"); !strings.Contains(got, "there is no token in standard input") {
		t.Errorf("empty standard input:\n%s", got)
	}
	t.Setenv("LABLINK_SETUP_TIMEOUT", "soon")
	if got := run("", "--allocator", "https://x.org", "--hostname", "vm-1"); !strings.Contains(got, "LABLINK_SETUP_TIMEOUT") {
		t.Errorf("a bad variable is not named:\n%s", got)
	}
}

func TestStartHost_Hidden(t *testing.T) {
	t.Parallel()
	var out, errs bytes.Buffer
	if code := Main(t.Context(), []string{"start-host", "--help"}, strings.NewReader(""), &out, &errs); code != 1 ||
		!strings.HasPrefix(out.String(), "SIMULATED") || strings.Contains(errs.String(), "exit status") {
		t.Errorf("exit code %d: %s%s", code, out.String(), errs.String())
	}
	if code := Main(t.Context(), []string{"chrome-remote-desktop", "--dance"}, strings.NewReader(""), &out, &errs); code != 2 {
		t.Errorf("exit code %d", code)
	}
	out.Reset()
	if code := Main(t.Context(), []string{"--help"}, strings.NewReader(""), &out, &errs); code != 0 || strings.Contains(out.String(), "start-host") {
		t.Errorf("the help shows a hidden command:\n%s", out.String())
	}
}
