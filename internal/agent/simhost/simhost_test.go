package simhost_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"lablink/internal/agent/simhost"
	"lablink/internal/fleet"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "start-host":
			os.Exit(simhost.StartHost(context.Background(), os.Args[2:], os.Stdin, os.Stdout, os.Stderr))
		case "chrome-remote-desktop":
			os.Exit(simhost.Script(os.Args[2:], os.Stdout, os.Stderr))
		}
	}
	os.Exit(m.Run())
}

// machine is a home with simulated programs, in a folder whose name is hard on
// shells.
type machine struct {
	t         *testing.T
	home, sim string
	env       []string
}

func newMachine(t *testing.T) machine {
	t.Helper()
	dir := filepath.Join(t.TempDir(), `it's "$HOME" }`)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	m := machine{t: t, home: filepath.Join(dir, "home"), sim: filepath.Join(dir, "crd")}
	startHost, err := simhost.Install(m.sim, self)
	if err != nil {
		t.Fatal(err)
	}
	if startHost != filepath.Join(m.sim, "start-host") {
		t.Errorf("start-host is at %s", startHost)
	}
	m.env = []string{"HOME=" + m.home, "PATH=" + os.Getenv("PATH"), "LABLINK_SIM_SLOW=1ms"}
	return m
}

func (m machine) run(input, program string, args ...string) (output string, code int) {
	m.t.Helper()
	// By way of a shell: a program just written may be busy for an instant.
	cmd := exec.CommandContext(m.t.Context(), "sh", append([]string{filepath.Join(m.sim, program)}, args...)...)
	var out bytes.Buffer
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = m.env, strings.NewReader(input), &out, &out
	_ = cmd.Run()
	return out.String(), cmd.ProcessState.ExitCode()
}

const twice = "123456\n123456\n"

func flags(code string) []string {
	return []string{"--code=" + code, "--redirect-url=" + fleet.RedirectURL, "--name=vm-1"}
}

func TestStartHost(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		args  []string
		input string
		want  string
		code  int
	}{
		"good":                    {flags("4/0good"), twice, "Host started successfully.", 0},
		"slow":                    {flags("4/0slow"), twice, "Host started successfully.", 0},
		"mended PIN":              {flags("4/0good"), "123\n12345a\n123456\n654321\n" + twice, "Host started successfully.", 0},
		"asked for the name":      {flags("4/0good")[:2], "vm-1\n" + twice, "Enter a name for this computer: ", 0},
		"short PIN":               {flags("4/0good"), "12345\n12345\n", "Please provide a numeric PIN consisting of at least six digits.", 1},
		"different PINs":          {flags("4/0good"), "123456\n123457\n", "You entered different PINs.", 1},
		"no input":                {flags("4/0good"), "", "Enter a PIN of at least six digits: ", 1},
		"wrong code":              {flags("4/0wrong"), twice, "Couldn't start host: OAuth error.", 1},
		"no code of Google's":     {flags("0good"), twice, "Couldn't start host: OAuth error.", 1},
		"expired code":            {flags("4/0expired"), twice, "Couldn't start host: OAuth error.", 1},
		"network":                 {flags("4/0network"), twice, "Couldn't start host: network error.", 1},
		"denied":                  {flags("4/0denied"), twice, "Couldn't start host: Permission denied.", 1},
		"unregistered":            {flags("4/0unregistered"), twice, "Couldn't start host: Registration error.", 1},
		"no service":              {flags("4/0nostart"), twice, "Couldn't start host.\n", 1},
		"another redirect":        {[]string{"--code=4/0good", "--redirect-url=https://example.org", "--name=x"}, twice, "OAuth error", 1},
		"no code":                 {flags("4/0good")[1:], twice, "Please visit https://remotedesktop.google.com/headless", 1},
		"no redirect":             {flags("4/0good")[:1], twice, "Please visit https://remotedesktop.google.com/headless", 1},
		"value as a word":         {[]string{"--code", "4/0good"}, twice, "Please visit https://remotedesktop.google.com/headless", 1},
		"argument without a flag": {append(flags("4/0good"), "x"), twice, "Please visit https://remotedesktop.google.com/headless", 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			out, code := m.run(tc.input, "start-host", tc.args...)
			if code != tc.code || !strings.Contains(out, tc.want) || !strings.HasPrefix(out, "SIMULATED") {
				t.Errorf("exit code %d, want %d, and %q in:\n%s", code, tc.code, tc.want, out)
			}
			configs, _ := filepath.Glob(filepath.Join(m.home, ".config", "chrome-remote-desktop", "host#*.json"))
			if want := code == 0 || name == "no service"; (len(configs) == 1) != want {
				t.Fatalf("host configurations: %v", configs)
			}
			for _, path := range configs {
				data, err := os.ReadFile(path)
				var config map[string]any
				if err != nil || json.Unmarshal(data, &config) != nil || config["host_name"] != "vm-1" || config["simulated"] != true {
					t.Errorf("host configuration %s, %v", data, err)
				}
				if strings.Contains(string(data), "123456") {
					t.Error("the PIN is in the host configuration")
				}
			}
		})
	}
}

func TestStartHost_CodeIsGoodOnce(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	codes := make(chan int, 8)
	var group sync.WaitGroup
	for range cap(codes) {
		group.Go(func() {
			_, code := m.run(twice, "start-host", flags("4/0once")...)
			codes <- code
		})
	}
	group.Wait()
	close(codes)
	good := 0
	for code := range codes {
		if code == 0 {
			good++
		}
	}
	if good != 1 {
		t.Errorf("%d of %d got through with one code", good, cap(codes))
	}
}

func TestStartHost_Hangs(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	var out bytes.Buffer
	if code := simhost.StartHost(ctx, flags("4/0hang"), strings.NewReader(twice), &out, &out); code != 1 || ctx.Err() == nil {
		t.Errorf("exit code %d before the end: %s", code, out.String())
	}
}

func TestScript(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	expect := func(want string, wantCode int, args ...string) {
		t.Helper()
		if out, code := m.run("", "chrome-remote-desktop", args...); code != wantCode || !strings.Contains(out, want) {
			t.Errorf("%v: exit code %d, want %d, and %q in:\n%s", args, code, wantCode, want, out)
		}
	}
	expect("STOPPED", 0, "--get-status")
	expect("The daemon is not currently running", 0, "--stop")
	m.run(twice, "start-host", flags("4/0good")...)
	expect("STARTED", 0, "--get-status")
	expect("Killing process", 0, "--stop")
	expect("STOPPED", 0, "--get-status")
	expect("usage", 2, "--dance")
}
