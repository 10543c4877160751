package provision_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"lablink/internal/testkit"
)

// bootToken is of the kind that tests look for in places where no token belongs.
const bootToken = "boot-token-0123456789abcdef"

// settings are the inputs of module/aws/boot.
type settings map[string]any

// with returns the settings with others in their place.
func (s settings) with(more settings) settings {
	s = maps.Clone(s)
	maps.Copy(s, more)
	return s
}

func usual(allocator string) settings {
	return settings{
		"hostname": "lablink-vm-1", "token": bootToken, "allocator_url": allocator, "image": "example.org/client:1", "repository": "",
		"software": "sleap", "gpu": false, "region": "us-west-2", "log_group": "lablink-cloud-init-test", "ship_logs": false, "startup_script": "",
		"startup_on_error": "continue",
	}
}

// terraform runs Terraform in a folder.
func terraform(t *testing.T, dir string, args ...string) (output string, err error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), testkit.Terraform(t), args...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "CHECKPOINT_DISABLE=1", "TF_CLI_CONFIG_FILE=" + os.DevNull}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// render has Terraform render the user data, as a text and as EC2 gets it.
func render(t *testing.T, s settings) (text, encoded, trouble string) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"main.tf", "boot.sh"} {
		data, err := os.ReadFile(filepath.Join("module", "aws", "boot", name))
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name), string(data))
	}
	values, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "terraform.tfvars.json"), string(values))
	if out, err := terraform(t, dir, "init", "-input=false", "-no-color"); err != nil {
		t.Fatalf("init: %v\n%s", err, out)
	}
	if out, err := terraform(t, dir, "apply", "-input=false", "-no-color", "-auto-approve"); err != nil {
		return "", "", out
	}
	out, err := terraform(t, dir, "output", "-json")
	if err != nil {
		t.Fatalf("output: %v\n%s", err, out)
	}
	var outputs map[string]struct {
		Value     string `json:"value"`
		Sensitive bool   `json:"sensitive"`
	}
	if err := json.Unmarshal([]byte(out), &outputs); err != nil {
		t.Fatal(err)
	}
	for name, o := range outputs {
		if !o.Sensitive {
			t.Errorf("the output %s, which holds the token, is not sensitive", name)
		}
	}
	return outputs["user_data"].Value, outputs["user_data_base64"].Value, ""
}

// userData is what the VM runs: what EC2 got, unpacked.
func userData(t *testing.T, s settings) string {
	t.Helper()
	_, encoded, trouble := render(t, s)
	if trouble != "" {
		t.Fatal(trouble)
	}
	packed, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		t.Fatal(err)
	}
	unpack, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(unpack)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// vm is a machine at its first boot, in a folder of the test. Its programs are
// stubs, see testdata/boot/stub.
type vm struct {
	t    *testing.T
	dir  string
	root string // of its files
}

// tools are programs that boot.sh, or a stub, runs for real.
var tools = []string{
	"base64", "bash", "cat", "chmod", "curl", "dirname", "env", "gzip", "head", "iconv", "ln", "mkdir", "sed", "setsid", "sleep", "tail", "timeout",
	"tr", "wc",
}

// newVM is a VM with Docker and, if it has a GPU, all that this needs.
func newVM(t *testing.T, gpu bool) *vm {
	t.Helper()
	v := &vm{t: t, dir: t.TempDir()}
	v.root = filepath.Join(v.dir, "root")
	for _, sub := range []string{"bin", "real", "fail", "say", "hang", "root/dev"} {
		v.mkdir(sub)
	}
	stub, err := filepath.Abs("testdata/boot/stub")
	if err != nil {
		t.Fatal(err)
	}
	v.link(stub, "stub")
	for _, name := range tools {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Fatalf("this test needs %s: %v", name, err)
		}
		if name != "sleep" {
			v.link(stub, "bin/"+name)
		}
		v.link(path, "real/"+name)
	}
	stubs := []string{"apt-get", "docker", "sleep", "systemctl"}
	if gpu {
		stubs = append(stubs, "nvidia-ctk", "nvidia-modprobe", "nvidia-smi")
		v.link(os.DevNull, "root/dev/nvidia0")
		v.mkdir("root/dev/nvidia-caps")
	}
	for _, name := range stubs {
		v.link(stub, "bin/"+name)
	}
	v.write("inspect", "running 0 starting\nrunning 0 healthy\n")
	v.write("logs", "")
	v.write("calls", "")
	return v
}

func (v *vm) mkdir(name string) {
	v.t.Helper()
	if err := os.MkdirAll(filepath.Join(v.dir, name), 0o755); err != nil {
		v.t.Fatal(err)
	}
}

func (v *vm) link(to, name string) {
	v.t.Helper()
	if err := os.Symlink(to, filepath.Join(v.dir, name)); err != nil {
		v.t.Fatal(err)
	}
}

func (v *vm) write(name, text string) { v.t.Helper(); write(v.t, filepath.Join(v.dir, name), text) }

func (v *vm) remove(name string) {
	v.t.Helper()
	if err := os.Remove(filepath.Join(v.dir, name)); err != nil {
		v.t.Fatal(err)
	}
}

func (v *vm) read(name string) string {
	v.t.Helper()
	data, err := os.ReadFile(filepath.Join(v.dir, name))
	if err != nil {
		v.t.Fatal(err)
	}
	return string(data)
}

// start begins the boot.
func (v *vm) start(script string) (cmd *exec.Cmd, output *bytes.Buffer) {
	v.t.Helper()
	v.write("user-data", script)
	cmd = exec.CommandContext(v.t.Context(), "/bin/bash", filepath.Join(v.dir, "user-data"))
	cmd.Dir = v.dir
	cmd.Env = []string{"PATH=" + filepath.Join(v.dir, "bin"), "BOOT_ROOT=" + v.root, "BOOT_TEST=" + v.dir}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	output = &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Start(); err != nil {
		v.t.Fatal(err)
	}
	return cmd, output
}

// boot runs the user data to its end. The token may be in no output, and in no
// argument of any program.
func (v *vm) boot(s settings) (output string, code int) {
	v.t.Helper()
	cmd, out := v.start(userData(v.t, s))
	err := cmd.Wait()
	exit, ok := errors.AsType[*exec.ExitError](err)
	if err != nil && !ok {
		v.t.Fatal(err)
	}
	if ok {
		code = exit.ExitCode()
	}
	for where, text := range map[string]string{"the output": out.String(), "the arguments": v.read("calls")} {
		if token, _ := s["token"].(string); strings.Contains(text, token) {
			v.t.Errorf("the token is in %s:\n%s", where, text)
		}
	}
	return out.String(), code
}

// calls are the arguments of the calls of a program, such as "docker run".
func (v *vm) calls(program string) (found [][]string) {
	v.t.Helper()
	words := strings.Fields(program)
	all := strings.Split(v.read("calls"), "\x00")
	for len(all) > 1 {
		n, err := strconv.Atoi(all[0])
		if err != nil || n >= len(all) {
			v.t.Fatalf("the calls cannot be read: %v, %q", err, all)
		}
		call := all[1 : n+1]
		all = all[n+1:]
		if len(call) >= len(words) && slices.Equal(call[:len(words)], words) {
			found = append(found, call)
		}
	}
	return found
}
