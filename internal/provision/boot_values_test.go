package provision_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What the client container is run with.
func TestBoot_DockerRun(t *testing.T) {
	t.Parallel()
	rec := newRecorder(t, nil)
	v := newVM(t, false)
	s := usual(rec.URL).with(settings{"repository": "https://example.org/tutorial.git", "startup_script": "echo hello\n", "startup_on_error": "fail"})
	if out, code := v.boot(s); code != 0 {
		t.Fatalf("exit code %d\n%s", code, out)
	}
	want := strings.Join([]string{
		"docker run --detach --name lablink-client --restart unless-stopped --network host --shm-size 1g",
		"--log-driver awslogs --log-opt awslogs-region=us-west-2 --log-opt awslogs-group=lablink-cloud-init-test",
		"--log-opt awslogs-stream=lablink-vm-1 --log-opt awslogs-create-group=false --log-opt mode=non-blocking --log-opt max-buffer-size=4m",
		"--mount type=bind,source=" + v.root + "/etc/lablink/docker_scripts,target=/docker_scripts,readonly",
		"--mount type=bind,source=" + v.root + "/etc/lablink/agent-token,target=/etc/lablink/agent-token,readonly",
		"--mount type=bind,source=" + v.root + "/var/lib/lablink-agent,target=/var/lib/lablink-agent",
		"--env LABLINK_TOKEN_FILE=/etc/lablink/agent-token",
		"--env ALLOCATOR_URL=" + rec.URL + " --env ALLOCATOR_HOST=127.0.0.1 --env VM_NAME=lablink-vm-1 --env SUBJECT_SOFTWARE=sleap",
		"--env TUTORIAL_REPO_TO_CLONE=https://example.org/tutorial.git --env CLOUD_INIT_LOG_GROUP=lablink-cloud-init-test",
		"--env AWS_REGION=us-west-2 --env LABLINK_SHIP_LOGS=false --env STARTUP_ON_ERROR=fail example.org/client:1",
	}, " ")
	if run := v.calls("docker run"); len(run) != 1 || strings.Join(run[0], " ") != want {
		t.Errorf("docker is called with\n%s\nwant\n%s", run, want)
	}
	for path, want := range map[string]string{
		"etc/lablink":                                  "drwxr-xr-x",
		"etc/lablink/agent-token":                      "-rw------- " + bootToken + "\n",
		"etc/lablink/docker_scripts":                   "drwxr-xr-x",
		"etc/lablink/docker_scripts/custom-startup.sh": "-rwxr-xr-x echo hello\n",
		"var/lib/lablink-agent":                        "drwx------",
	} {
		info, err := os.Stat(filepath.Join(v.root, path))
		if err != nil {
			t.Fatal(err)
		}
		got := info.Mode().String()
		if info.Mode().IsRegular() {
			got += " " + v.read("root/"+path)
		}
		if got != want {
			t.Errorf("%s is %q, want %q", path, got, want)
		}
	}
	var files []string
	err := filepath.WalkDir(v.root, func(path string, _ fs.DirEntry, err error) error {
		if data, _ := os.ReadFile(path); bytes.Contains(data, []byte(bootToken)) {
			files = append(files, strings.TrimPrefix(path, v.root))
		}
		return err
	})
	if err != nil || len(files) != 1 {
		t.Errorf("the token is in %v, %v", files, err)
	}

	// By hand, once more: the older container makes room.
	if out, code := v.boot(s); code != 0 {
		t.Fatalf("again: exit code %d\n%s", code, out)
	}
	if got := len(v.calls("docker rm --force lablink-client")); got != 2 {
		t.Errorf("an older container was removed %d times", got)
	}
}

// The container gets a GPU where the VM has one that works.
func TestBoot_GPU(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		wanted         bool
		remove         string // what the machine image lacks
		flags, says    string
		configured, on bool
	}{
		"works":      {wanted: true, flags: "--gpus all --device ROOT/dev/nvidia0", configured: true, on: true},
		"no toolkit": {wanted: true, remove: "nvidia-ctk", flags: "--gpus all --device ROOT/dev/nvidia0", says: "installing the NVIDIA container toolkit", configured: true, on: true},
		"no driver":  {wanted: true, remove: "nvidia-smi", says: "no driver for the GPU here (nvidia-smi): going on without the GPU"},
		"not wanted": {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rec := newRecorder(t, nil)
			v := newVM(t, true)
			if test.remove != "" {
				v.remove("bin/" + test.remove)
			}
			out, code := v.boot(usual(rec.URL).with(settings{"gpu": test.wanted}))
			if code != 0 || !strings.Contains(out, test.says) {
				t.Fatalf("exit code %d\n%s", code, out)
			}
			run := strings.Join(v.calls("docker run")[0], " ")
			_, flags, _ := strings.Cut(run, "--shm-size 1g ")
			flags, _, _ = strings.Cut(flags, "--log-driver")
			if want := strings.ReplaceAll(test.flags, "ROOT", v.root); strings.TrimSpace(flags) != want {
				t.Errorf("docker run gets %q, want %q", flags, want)
			}
			configured := len(v.calls("nvidia-ctk runtime configure --runtime=docker")) == 1 && len(v.calls("systemctl restart docker")) == 1
			if on := len(v.calls("nvidia-smi -pm 1")) == 1; configured != test.configured || on != test.on {
				t.Errorf("Docker configured %v, persistence mode %v", configured, on)
			}
		})
	}
}

// hostile are texts that a shell would make something of, if it were let.
var hostile = map[string]string{
	"quotes":        `it's "quoted" \'`,
	"substitutions": "$HOME ${HOME} $(touch pwned) `touch pwned` $((1+1)) !! ~ *",
	"operators":     "; touch pwned & | > pwned < /etc/passwd #",
	"end of a file": "a\nEOF\n'EOF'\n\"\nb",
	"lines":         "\n\n leading and trailing\t\r\n\n",
	"unicode":       "héllo wörld 日本語 🎉",
	"templates":     "${jsonencode(1)} %{if true}x%{endif} $${x} %%{y}",
	"a quote":       "'",
	"backslashes":   `\n \\ \`,
}

// Whatever is in a setting arrives unchanged, where it is to go.
func TestBoot_HostileValues(t *testing.T) {
	t.Parallel()
	for name, text := range hostile {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rec := newRecorder(t, nil)
			v := newVM(t, false)
			out, code := v.boot(usual(rec.URL).with(settings{
				"image": text, "repository": text, "software": text, "region": text, "log_group": text, "startup_script": text, "startup_on_error": text,
			}))
			if code != 0 || rec.words() != "initializing running times" {
				t.Fatalf("exit code %d, reports %q\n%s", code, rec.words(), out)
			}
			run := v.calls("docker run")[0]
			for _, want := range []string{
				text, "TUTORIAL_REPO_TO_CLONE=" + text, "SUBJECT_SOFTWARE=" + text, "AWS_REGION=" + text, "CLOUD_INIT_LOG_GROUP=" + text,
				"awslogs-group=" + text, "awslogs-region=" + text, "STARTUP_ON_ERROR=" + text,
			} {
				if !slices.Contains(run, want) {
					t.Errorf("docker run does not get %q:\n%q", want, run)
				}
			}
			if got := v.read("root/etc/lablink/docker_scripts/custom-startup.sh"); got != text {
				t.Errorf("the startup script is %q", got)
			}
			if pull := v.calls("docker pull"); !slices.Equal(pull[0], []string{"docker", "pull", "--quiet", text}) {
				t.Errorf("it pulls %q", pull)
			}
			if exists(filepath.Join(v.dir, "pwned")) {
				t.Error("a command in it was run")
			}
		})
	}
}

// The settings that cannot take any text in a boot are only read.
func TestBoot_HostileSettings(t *testing.T) {
	t.Parallel()
	for name, text := range hostile {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			script := userData(t, usual(text).with(settings{"hostname": text, "token": `'"$(x)` + "`y`" + `\;&`}))
			head, _, found := strings.Cut(script, "\n#!/bin/bash\n# Makes a fresh cloud VM")
			if !found || !strings.HasPrefix(head, "#!/bin/bash\n") {
				t.Fatalf("the user data is\n%s", script)
			}
			cmd := exec.CommandContext(t.Context(), "bash", "-euc", head+"\n"+`printf '%s\0' "$BOOT_HOSTNAME" "$BOOT_ALLOCATOR" "$BOOT_TOKEN"`)
			cmd.Dir = t.TempDir()
			out, err := cmd.CombinedOutput()
			if want := text + "\x00" + text + "\x00" + `'"$(x)` + "`y`" + `\;&` + "\x00"; err != nil || string(out) != want {
				t.Errorf("%v, %q, want %q", err, out, want)
			}
		})
	}
}

// What is a token, and what cannot be one.
func TestBoot_Token(t *testing.T) {
	t.Parallel()
	for _, token := range []string{"", "two words", "a\nX-Other: header", "é"} {
		if _, _, trouble := render(t, usual("http://127.0.0.1").with(settings{"token": token})); !strings.Contains(trouble, "A token is a word") {
			t.Errorf("%q: %s", token, trouble)
		}
	}
}

// EC2 takes 16 KiB. What does not fit is refused beforehand, in words that help;
// what fits is the same packed and unpacked.
func TestBoot_Size(t *testing.T) {
	t.Parallel()
	script := func(size int) string {
		var b strings.Builder
		for b.Len() < size {
			fmt.Fprintf(&b, "echo %d\n", rand.Uint64())
		}
		return b.String()
	}
	fits, tooMuch := usual("http://127.0.0.1").with(settings{"startup_script": script(15_000)}), script(40_000)
	text, encoded, trouble := render(t, fits)
	if trouble != "" || len(encoded)*3/4 > 16<<10 || userData(t, fits) != text {
		t.Errorf("%d bytes, %s", len(encoded)*3/4, trouble)
	}
	_, _, trouble = render(t, fits.with(settings{"startup_script": tooMuch}))
	words := strings.Join(strings.Fields(strings.ReplaceAll(trouble, "│", " ")), " ")
	for _, want := range []string{
		"The user data of lablink-vm-1 takes", "and EC2 takes 16384, compressed",
		fmt.Sprintf("The startup script (startup_script.path) has %d characters: shorten it", len(tooMuch)),
	} {
		if !strings.Contains(words, want) {
			t.Errorf("it lacks %q:\n%s", want, trouble)
		}
	}
	if strings.Contains(trouble, bootToken) {
		t.Errorf("the token is in it:\n%s", trouble)
	}
}

// The user data as a whole is what boot.sh alone is.
func TestBoot_Shellcheck(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("shellcheck"); err != nil {
		t.Fatal("shellcheck is not installed: make deps installs it")
	}
	path := filepath.Join(t.TempDir(), "user-data")
	write(t, path, userData(t, usual("http://127.0.0.1").with(settings{"software": "it's", "startup_script": "echo"})))
	if out, err := exec.CommandContext(t.Context(), "shellcheck", path).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
