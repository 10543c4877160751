package crd

import (
	"context"
	"errors"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// sandbox is a Host whose programs are shell scripts.
func sandbox(t *testing.T, cfg Config, programs map[string]string) *Host {
	t.Helper()
	dir := t.TempDir()
	for name, body := range programs {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+body+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cfg.StartHost = filepath.Join(dir, "start-host")
	if cfg.Systemctl == "" {
		cfg.Systemctl = filepath.Join(dir, "systemctl")
	}
	if cfg.Home == "" {
		cfg.Home = filepath.Join(dir, "home")
		if err := os.Mkdir(cfg.Home, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if cfg.SystemdDir == "" {
		cfg.SystemdDir = filepath.Join(dir, "no-systemd")
	}
	return New(cfg)
}

var request = Request{Code: "4/0secretcode", PIN: "123456", Name: "vm-1"}

func TestReady(t *testing.T) {
	t.Parallel()
	if err := sandbox(t, Config{}, map[string]string{"start-host": ""}).Ready(); err != nil {
		t.Errorf("ready: %v", err)
	}
	h := sandbox(t, Config{}, nil)
	for what, prepare := range map[string]func() error{
		"install Chrome Remote Desktop": func() error { return os.RemoveAll(h.cfg.StartHost) },
		"not an executable file":        func() error { return os.WriteFile(h.cfg.StartHost, nil, 0o600) },
		"is not an executable":          func() error { return errors.Join(os.RemoveAll(h.cfg.StartHost), os.Mkdir(h.cfg.StartHost, 0o755)) },
	} {
		if err := prepare(); err != nil {
			t.Fatal(err)
		}
		if err := h.Ready(); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%v lacks %q", err, what)
		}
	}
	if err := New(Config{User: "no-such-user-here"}).Ready(); err == nil || !strings.Contains(err.Error(), "--user") {
		t.Errorf("unknown user: %v", err)
	}
}

// Google's start-host refuses root, so a VM whose desktop would be root's must
// not go to a participant.
func TestReady_Root(t *testing.T) {
	t.Parallel()
	h := sandbox(t, Config{}, map[string]string{"start-host": ""})
	root := account{name: "toor", home: h.cfg.Home, root: true}
	h.account = func() (account, error) { return root, nil }
	if err := errors.Join(h.Ready(), h.CheckUser()); err != nil {
		t.Errorf("a script: %v", err)
	}
	if err := os.WriteFile(h.cfg.StartHost, []byte("\x7fELF"), 0o755); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{"Ready": h.Ready(), "CheckUser": h.CheckUser()} {
		if !errors.Is(err, errRoot) {
			t.Errorf("%s: %v, want %v", what, err, errRoot)
		}
	}
	h.account = func() (account, error) { return account{name: "ada", home: h.cfg.Home}, nil }
	if err := errors.Join(h.Ready(), h.CheckUser()); err != nil {
		t.Errorf("another user: %v", err)
	}
	h.account = func() (account, error) { return account{}, errors.New("not there yet") }
	if err := h.CheckUser(); err != nil {
		t.Errorf("CheckUser without the user: %v", err)
	}
}

func TestAccount_Root(t *testing.T) {
	t.Parallel()
	me, root := os.Geteuid(), os.Geteuid() == 0
	for _, name := range []string{"", "root", "nobody"} {
		a, err := lookup(name, "/somewhere")
		if err != nil {
			if root {
				t.Errorf("lookup(%q): %v", name, err)
			}
			continue // only root can be another user
		}
		if want := root && name != "nobody"; a.root != want {
			t.Errorf("as user %d, lookup(%q).root = %v", me, name, a.root)
		}
	}
}

// As root, start-host runs as the chosen user, with its groups and home; as
// anybody else, another user is refused.
func TestSetup_AsAnotherUser(t *testing.T) {
	t.Parallel()
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	h := sandbox(t, Config{User: "nobody", Timeout: time.Minute}, map[string]string{
		"start-host": `echo "uid=$(id -u) gid=$(id -g) groups=$(id -G) home=$HOME user=$USER display=<$DISPLAY> dir=$(pwd) path=$PATH"; exit 3`,
	})
	for dir := filepath.Dir(h.cfg.StartHost); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil { // the test's folders are private
			t.Fatal(err)
		}
	}
	if os.Geteuid() != 0 {
		h.cfg.User = "root"
		h = New(h.cfg)
		if err := h.Ready(); err == nil || !strings.Contains(err.Error(), "only root") {
			t.Errorf("Ready: %v", err)
		}
		return
	}
	as, err := h.account()
	if err != nil {
		t.Fatal(err)
	}
	r := call{path: h.cfg.StartHost, limit: time.Minute, as: as}.run(t.Context())
	ids, err := nobody.GroupIds()
	if err != nil {
		t.Fatal(err)
	}
	want := "uid=" + nobody.Uid + " gid=" + nobody.Gid + " groups=" + strings.Join(ids, " ") + " home=" + nobody.HomeDir +
		" user=nobody display=<> dir=/ path=" + defaultPath
	if strings.TrimSpace(r.output) != want || r.code != 3 {
		t.Errorf("exit code %d (%v)\n got %s\nwant %s", r.code, r.err, r.output, want)
	}
}

// asRoot makes h believe that it is root on a machine with systemd, and that
// the desktop is ada's.
func asRoot(t *testing.T, h *Host) {
	t.Helper()
	h.root = true
	h.cfg.SystemdDir = t.TempDir()
	home := h.cfg.Home
	h.account = func() (account, error) { return account{name: "ada", home: home}, nil }
}

const (
	registers = `d="$HOME/.config/chrome-remote-desktop"; mkdir -p "$d"; echo $$ > "$d/host#1.json"; `
	noted     = `echo "$@" >> "$(dirname "$0")/calls"; `
)

func calls(t *testing.T, h *Host) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(filepath.Dir(h.cfg.StartHost), "calls"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(data)
}

// Start-host may register the host and then fail to start its service, because
// sudo asks for a password: as root the agent does that itself.
func TestSetup_FinishedBySystemctl(t *testing.T) {
	t.Parallel()
	const enable = "enable --now chrome-remote-desktop@ada\n"
	for name, tc := range map[string]struct {
		startHost, systemctl string
		root                 bool
		reason, calls        string
	}{
		"registered, and it works":     {registers + `echo "Couldn't start host."; exit 1`, "exit 0", true, "", enable},
		"registered, but it does not":  {registers + `echo "Couldn't start host."; exit 1`, "exit 1", true, ReasonService, enable},
		"registered, then it hangs":    {registers + "exec sleep 600", "exit 0", true, "", enable},
		"not registered":               {`echo "Couldn't start host."; exit 1`, "exit 0", true, ReasonService, ""},
		"registered, but not root":     {registers + `echo "Couldn't start host."; exit 1`, "exit 0", false, ReasonService, ""},
		"nothing left to be done here": {registers + "exit 0", "exit 0", true, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := sandbox(t, Config{Timeout: 5 * time.Second}, map[string]string{"start-host": tc.startHost, "systemctl": noted + tc.systemctl})
			asRoot(t, h)
			h.root = tc.root
			reason := ""
			if f, ok := errors.AsType[*Error](h.Setup(t.Context(), request, nil)); ok {
				reason = f.Reason
			}
			if got := calls(t, h); reason != tc.reason || got != tc.calls {
				t.Errorf("reason %q, want %q; systemctl was called with %q, want %q", reason, tc.reason, got, tc.calls)
			}
		})
	}
}

// The service is disabled before the programs are stopped, or systemd would
// start them again. What is left decides, not what systemctl says: a machine
// that never had a desktop has no such service.
func TestRelease_Systemd(t *testing.T) {
	t.Parallel()
	for _, systemctl := range []string{"exit 0", "echo no such unit; exit 1"} {
		h := sandbox(t, Config{}, map[string]string{
			"start-host": registers, "systemctl": noted + systemctl, "chrome-remote-desktop": noted + "exit 0",
		})
		asRoot(t, h)
		if err := h.Setup(t.Context(), request, nil); err != nil {
			t.Fatal(err)
		}
		if err := h.Release(t.Context()); err != nil {
			t.Errorf("%s: %v", systemctl, err)
		}
		if got := calls(t, h); got != "disable --now chrome-remote-desktop@ada\n--stop\n--get-status\n" {
			t.Errorf("%s: called were\n%s", systemctl, got)
		}
		if h.Snapshot() != "" {
			t.Errorf("%s: the host configuration is still there", systemctl)
		}
	}
}

func TestSystemd_NotForRootsDesktop(t *testing.T) {
	t.Parallel()
	h := sandbox(t, Config{}, nil)
	asRoot(t, h)
	for name, want := range map[string]bool{"ada": true, "root": false, "": false} {
		if got := h.systemd(account{name: name}); got != want {
			t.Errorf("systemd(%q) = %v", name, got)
		}
	}
}

func TestSetup_Failures(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ script, reason string }{
		"silent":               {"exit 1", ReasonOther},
		"killed":               {"kill -9 $$", ReasonOther},
		"old version, code":    {`echo "Failed to exchange the authorization_code due to an OAuth error." >&2; exit 1`, ReasonCode},
		"sudo":                 {`echo "sudo: a password is required"; echo "Couldn't start host."; exit 1`, ReasonService},
		"as root":              {`echo "At least one of the following args must be provided:"; exit 1`, ReasonService},
		"arguments":            {`echo "Please visit https://remotedesktop.google.com/headless"; exit 1`, ReasonIncomplete},
		"the last word counts": {`echo "due to an OAuth error"; echo "Couldn't start host: network error."; exit 1`, ReasonNetwork},
		"success that is none": {`echo "Host started successfully."; exit 1`, ReasonOther},
		"prints its arguments": {`echo "$@"; cat; exit 1`, ReasonOther},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := sandbox(t, Config{}, map[string]string{"start-host": tc.script})
			err := h.Setup(t.Context(), request, nil)
			f, ok := errors.AsType[*Error](err)
			if !ok || f.Reason != tc.reason {
				t.Fatalf("%v, want the reason %q", err, tc.reason)
			}
			if s := f.Error(); strings.Contains(s, "secretcode") || strings.Contains(s, request.PIN) {
				t.Errorf("a secret is in %q", s)
			}
			if len(f.Reason) > 500 {
				t.Errorf("the reason has %d characters", len(f.Reason))
			}
		})
	}
}

func TestSetup_Interrupted(t *testing.T) {
	t.Parallel()
	h := sandbox(t, Config{}, map[string]string{"start-host": "exec sleep 600"})
	ctx, cancel := context.WithCancel(t.Context())
	if err := h.Setup(ctx, request, func(int) { cancel() }); !errors.Is(err, context.Canceled) {
		t.Errorf("Setup: %v", err)
	}
}

func TestRedactor(t *testing.T) {
	t.Parallel()
	r := redactor("4/0Ab%2Fc-d_e~f.g", "123456")
	for in, want := range map[string]string{
		"code 4/0Ab%2Fc-d_e~f.g, pin 123456.":                 "code [code], pin [pin].",
		"code=4%2F0Ab%252Fc-d_e~f.g&x":                        "code=[code]&x",
		"plain 4/0Ab/c-d_e~f.g":                               "plain [code]",
		"rest 0Ab%2Fc-d_e~f.g":                                "rest [code]",
		"nothing to hide":                                     "nothing to hide",
		"4/0Ab%2Fc-d_e~f.g4/0Ab%2Fc-d_e~f.g 123456123456 4/0": "[code][code] [pin][pin] 4/0",
	} {
		if got := r.Replace(in); got != want {
			t.Errorf("Replace(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestPrintable(t *testing.T) {
	t.Parallel()
	got := printable("\n a\x1b[31mb\tc \n\n"+strings.Repeat("é", 2000)+"\n"+strings.Repeat("x\n", 500), redactor("", ""))
	if got[0] != "a [31mb c" || len(got[1]) > maxLineSize+3 || len(got) != maxLines+1 {
		t.Errorf("%d lines, %q, second of %d bytes", len(got), got[0], len(got[1]))
	}
}

// Half a secret at the beginning of what is kept must not be shown.
func TestTail(t *testing.T) {
	t.Parallel()
	var out tail
	for range keptOutput {
		if _, err := out.Write([]byte("secret\n")); err != nil {
			break
		}
	}
	s := out.String()
	if len(s) > keptOutput || !strings.HasPrefix(s, "secret\n") || !strings.HasSuffix(s, "secret\n") || out.runaway {
		t.Errorf("%d bytes, %q ... %q", len(s), s[:10], s[len(s)-10:])
	}
}
