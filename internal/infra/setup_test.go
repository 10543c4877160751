package infra

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"lablink/internal/testkit"
)

const secretKey = "secret-key-0123456789"

// outside is what the machine of an allocator reaches: the metadata service, S3,
// a web server with releases, and LabLink itself.
type outside struct {
	lablink, opentofu []byte
	plain, secure     *httptest.Server
	trouble           atomic.Int64 // so many requests for files fail
}

func newOutside(t *testing.T) *outside {
	t.Helper()
	program, err := os.ReadFile(testkit.Program(t))
	if err != nil {
		t.Fatal(err)
	}
	o := &outside{lablink: program, opentofu: []byte("#!/bin/sh\necho OpenTofu\n")}
	mux := http.NewServeMux()
	const role = "/latest/meta-data/iam/security-credentials/"
	metadata := func(answer string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet && r.Header.Get("X-aws-ec2-metadata-token") != "metadata-token" {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			_, _ = io.WriteString(w, answer)
		}
	}
	file := func(content *[]byte, allowed func(r *http.Request) bool) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			switch {
			case o.trouble.Add(-1) >= 0:
				w.WriteHeader(http.StatusServiceUnavailable)
			case !allowed(r):
				w.WriteHeader(http.StatusForbidden)
			default:
				_, _ = w.Write(*content)
			}
		}
	}
	mux.HandleFunc("PUT /latest/api/token", metadata("metadata-token"))
	mux.HandleFunc("GET "+role+"{$}", metadata("lablink_instance_role_ci-test"))
	mux.HandleFunc("GET "+role+"lablink_instance_role_ci-test", metadata(`{
  "Code" : "Success",
  "AccessKeyId" : "ASIAEXAMPLE",
  "SecretAccessKey" : "`+secretKey+`",
  "Token" : "session/token=="
}`))
	mux.HandleFunc("GET /releases/lablink", file(&o.lablink, func(r *http.Request) bool {
		signature := r.Header.Get("Authorization")
		return strings.HasPrefix(signature, "AWS4-HMAC-SHA256 Credential=ASIAEXAMPLE/") && strings.Contains(signature, "/us-west-2/s3/aws4_request") &&
			strings.Contains(signature, "x-amz-security-token") && r.Header.Get("X-Amz-Security-Token") == "session/token=="
	}))
	mux.HandleFunc("GET /tofu.zip", file(&o.opentofu, func(r *http.Request) bool { return r.TLS != nil }))
	mux.HandleFunc("GET /readyz", func(http.ResponseWriter, *http.Request) {})
	o.plain, o.secure = httptest.NewServer(mux), httptest.NewTLSServer(mux)
	t.Cleanup(o.plain.Close)
	t.Cleanup(o.secure.Close)
	return o
}

func sum(data []byte) string {
	h := sha256.Sum256(data)
	return hex.EncodeToString(h[:])
}

// settings are what allocator.tf puts in front of setup.sh.
func (o *outside) settings() map[string]string {
	return map[string]string{
		"VOLUME": "vol-0123456789abcdef0", "REGION": "us-west-2", "LISTEN": strings.TrimPrefix(o.plain.URL, "http://"),
		"LABLINK_URL": "s3://releases/lablink", "LABLINK_SHA256": sum(o.lablink),
		"OPENTOFU_URL": o.secure.URL + "/tofu.zip", "OPENTOFU_SHA256": sum(o.opentofu),
		"UNIT": "[Unit]", "CONFIG": usualConfig, "STARTUP_SCRIPT": "", "ENVIRONMENT": "ENVIRONMENT=ci-test\n",
	}
}

// machine is a fresh one, in a folder of the test. Programs that change the system
// are stubs; those that look at a volume, or make a file system, are real.
type machine struct {
	t         *testing.T
	dir, root string
	o         *outside
}

func newMachine(t *testing.T, o *outside) *machine {
	t.Helper()
	m := &machine{t: t, dir: t.TempDir(), o: o}
	m.root = filepath.Join(m.dir, "root")
	for _, sub := range []string{"bin", "real", "fail", "root/etc", "root/dev/disk/by-id", "root/etc/systemd/system"} {
		if err := os.MkdirAll(filepath.Join(m.dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	stub, err := filepath.Abs("testdata/stub")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"bash", "blkid", "cat", "chmod", "cmp", "cp", "curl", "grep", "install", "mkdir", "mkfs.ext4", "mktemp", "mv", "readlink", "rm", "sed", "sha256sum",
		"apt-get", "systemctl", "mount", "mountpoint", "resize2fs", "groupadd", "useradd", "getent", "unzip", "sleep",
	} {
		m.link(stub, "bin/"+name)
		for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/sbin") {
			if path := filepath.Join(dir, name); isFile(path) {
				m.link(path, "real/"+name)
				break
			}
		}
	}
	m.link("/dev/zero", "root/dev/zero")
	m.write("root/etc/fstab", "LABEL=cloudimg-rootfs / ext4 defaults 0 1\n")
	m.write("calls", "")
	m.write("ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: o.secure.Certificate().Raw})))
	return m
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && !info.IsDir()
}

func (m *machine) link(to, name string) {
	m.t.Helper()
	if err := os.Symlink(to, filepath.Join(m.dir, name)); err != nil && !errors.Is(err, os.ErrExist) {
		m.t.Fatal(err)
	}
}

func (m *machine) write(name, text string) {
	m.t.Helper()
	if err := os.WriteFile(filepath.Join(m.dir, name), []byte(text), 0o600); err != nil {
		m.t.Fatal(err)
	}
}

// volume makes the volume, with that at its beginning.
func (m *machine) volume(id, name, beginning string) (path string) {
	m.t.Helper()
	path = filepath.Join(m.dir, "volume")
	m.write("volume", beginning)
	if err := os.Truncate(path, 16<<20); err != nil {
		m.t.Fatal(err)
	}
	if name == "" {
		name = "root/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_" + strings.ReplaceAll(id, "-", "")
	}
	m.link(path, name)
	return path
}

// usualVolume is a new one, as EC2 makes it.
func (m *machine) usualVolume() string { return m.volume(m.o.settings()["VOLUME"], "", "") }

// setUp runs the script behind settings.
func (m *machine) setUp(settings map[string]string) (output string, err error) {
	m.t.Helper()
	script := "#!/bin/bash\n"
	for name, value := range settings {
		script += "SETUP_" + name + "='" + strings.ReplaceAll(value, "'", `'\''`) + "'\n"
	}
	return m.run(script + read(m.t, deploy+"/aws/setup.sh"))
}

func (m *machine) run(script string) (output string, err error) {
	m.t.Helper()
	m.write("user-data", script)
	cmd := exec.CommandContext(m.t.Context(), "/bin/bash", filepath.Join(m.dir, "user-data"))
	cmd.Dir = m.dir
	cmd.Env = []string{
		"PATH=" + filepath.Join(m.dir, "bin"), "SETUP_TEST=" + m.dir, "SETUP_ROOT=" + m.root, "SETUP_METADATA=" + m.o.plain.URL, "SETUP_S3=" + m.o.plain.URL,
		"CURL_CA_BUNDLE=" + filepath.Join(m.dir, "ca.pem"), "TMPDIR=" + m.dir,
	}
	out, err := cmd.CombinedOutput()
	for where, text := range map[string]string{"output": string(out), "arguments": m.calls()} {
		for _, secret := range []string{secretKey, "session/token"} {
			if strings.Contains(text, secret) {
				m.t.Errorf("%q is in the %s:\n%s", secret, where, text)
			}
		}
	}
	return string(out), err
}

func (m *machine) calls() string { m.t.Helper(); return read(m.t, filepath.Join(m.dir, "calls")) }

func (m *machine) wantFile(name, want string, mode os.FileMode) {
	m.t.Helper()
	path := filepath.Join(m.root, name)
	if got := read(m.t, path); strings.TrimRight(got, "\n") != strings.TrimRight(want, "\n") {
		m.t.Errorf("%s is\n%s\nwant\n%s", name, got, want)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != mode {
		m.t.Errorf("%s has the mode %v, %v", name, info.Mode(), err)
	}
}

// blkid tells about a volume.
func blkid(t *testing.T, volume string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", `PATH=$PATH:/usr/sbin:/sbin; exec blkid --probe --output export "$0"`, volume)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("blkid: %v", err)
	}
	return string(out)
}

func uuid(t *testing.T, volume string) string {
	t.Helper()
	for line := range strings.Lines(blkid(t, volume)) {
		if id, ok := strings.CutPrefix(line, "UUID="); ok {
			return strings.TrimSpace(id)
		}
	}
	t.Fatalf("%s has no file system", volume)
	return ""
}

// From Terraform's files to a machine on which LabLink runs: what EC2 was given is
// what runs here.
func TestSetUp(t *testing.T) {
	t.Parallel()
	o := newOutside(t)
	config := usualConfig + "listen: " + strings.TrimPrefix(o.plain.URL, "http://") + "\nstartup_script: {enabled: true, path: config/custom-startup.sh}\n"
	s := newSite(t, config)
	s.inputs["lablink"] = map[string]string{"url": "s3://releases/lablink", "sha256": sum(o.lablink)}
	s.inputs["opentofu"] = map[string]string{"url": o.secure.URL + "/tofu.zip", "sha256": sum(o.opentofu)}
	s.must("apply", "-auto-approve")
	state, outputs := s.state()
	attribute, err := s.aws.DescribeInstanceAttribute(t.Context(), &ec2.DescribeInstanceAttributeInput{
		InstanceId: aws.String(fmt.Sprint(outputs["allocator_instance_id"])), Attribute: types.InstanceAttributeNameUserData,
	})
	if err != nil {
		t.Fatal(err)
	}
	packed, err := base64.StdEncoding.DecodeString(aws.ToString(attribute.UserData.Value))
	if err != nil {
		t.Fatal(err)
	}
	unpack, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	script, err := io.ReadAll(unpack)
	if err != nil {
		t.Fatal(err)
	}
	if len(packed) > 12_000 {
		t.Errorf("the script takes %d bytes, which leaves little for a configuration", len(packed))
	}

	m := newMachine(t, o)
	volume := m.volume(state["aws_ebs_volume.data"].text("id"), "", "")
	out, err := m.run(string(script))
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, m.calls())
	}
	if token := state["terraform_data.processor_token"].text("output"); len(token) != 64 || strings.Contains(out+m.calls(), token) {
		t.Errorf("the token is in the output:\n%s", out)
	}
	m.wantFile("etc/lablink/config.yaml", config, 0o640)
	m.wantFile("etc/lablink/custom-startup.sh", "#!/bin/sh\necho \"it's $HOME\"", 0o640)
	m.wantFile("etc/lablink/serve.env", strings.Join([]string{
		"ALLOCATOR_PUBLIC_IP=" + fmt.Sprint(outputs["ec2_public_ip"]), "AWS_REGION=us-west-2", "ENVIRONMENT=ci-test", "LABLINK_APP_REGION=us-west-2",
		"LABLINK_AWS_LOG_PROCESSOR_ARN=" + fmt.Sprint(outputs["log_processor_arn"]), "LABLINK_LISTEN=" + strings.TrimPrefix(o.plain.URL, "http://"),
		"LABLINK_LOGS_PROCESSOR_TOKEN=" + state["terraform_data.processor_token"].text("output"), "LABLINK_PROVIDER=aws",
		"LABLINK_SERVER_PUBLIC_URL=http://" + fmt.Sprint(outputs["ec2_public_ip"]),
	}, "\n"), 0o600)
	m.wantFile("etc/systemd/system/lablink.service", read(t, deploy+"/lablink.service"), 0o644)
	m.wantFile("etc/systemd/system/lablink.service.d/aws.conf", "# Not without the volume, and port 80 may be its own.\n[Unit]\n"+
		"RequiresMountsFor=/var/lib/lablink\nConditionPathIsMountPoint=/var/lib/lablink\n\n[Service]\nAmbientCapabilities=CAP_NET_BIND_SERVICE", 0o644)
	m.wantFile("usr/local/bin/lablink", string(o.lablink), 0o755)
	m.wantFile("usr/local/bin/tofu", string(o.opentofu), 0o755)
	m.wantFile("etc/fstab", "LABEL=cloudimg-rootfs / ext4 defaults 0 1\nUUID="+uuid(t, volume)+" /var/lib/lablink ext4 defaults,nofail 0 2", 0o600)
	for _, call := range []string{
		"mkfs.ext4 -q -L lablink " + volume, "mount " + m.root + "/var/lib/lablink", "useradd --system --uid 900 --gid lablink", "systemctl enable lablink",
		"systemctl restart lablink",
	} {
		if !strings.Contains(m.calls(), call) {
			t.Errorf("it does not call %s:\n%s", call, m.calls())
		}
	}

	// The environment is one that LabLink takes.
	serve := exec.CommandContext(t.Context(), m.root+"/usr/local/bin/lablink", "migrate")
	serve.Env = append(strings.Split(strings.TrimSpace(read(t, m.root+"/etc/lablink/serve.env")), "\n"),
		"CONFIG_DIR="+m.root+"/etc/lablink", "LABLINK_DATABASE_URL="+testkit.DB(t))
	if out, err := serve.CombinedOutput(); err != nil {
		t.Errorf("LabLink does not take what it is given: %v\n%s", err, out)
	}
}

// A volume that has been used stays what it is, whatever is on it.
func TestSetUp_UsedVolume(t *testing.T) {
	t.Parallel()
	o := newOutside(t)
	m := newMachine(t, o)
	volume := m.usualVolume()
	if out, err := m.setUp(o.settings()); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	before := read(t, volume)
	// Another machine, which gets the volume under an older name, and late.
	next := newMachine(t, o)
	next.link(volume, "late")
	for range 2 { // and once more, as if somebody had run it by hand
		if out, err := next.setUp(o.settings()); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	if strings.Contains(next.calls(), "mkfs") || read(t, volume) != before {
		t.Error("the volume was changed")
	}
	if fstab := read(t, next.root+"/etc/fstab"); strings.Count(fstab, uuid(t, volume)) != 1 {
		t.Errorf("fstab is\n%s", fstab)
	}

	sector := strings.Repeat("\x00", 446) + "\x00\x02\x03\x00\x83\x04\x05\x00\x01\x00\x00\x00\xff\x0f\x00\x00" + strings.Repeat("\x00", 48) + "\x55\xaa"
	for name, c := range map[string]struct{ beginning, says string }{
		"something":         {strings.Repeat("\x00", 512<<10) + "what is this?", "there is something on"},
		"a partition table": {sector, "is no file system"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t, o)
			volume := m.volume(o.settings()["VOLUME"], "", c.beginning)
			before := read(t, volume)
			out, err := m.setUp(o.settings())
			if err == nil || !strings.Contains(out, c.says) {
				t.Errorf("%v, want %q:\n%s", err, c.says, out)
			}
			if read(t, volume) != before || strings.Contains(m.calls(), "mkfs") || strings.Contains(m.calls(), "lablink") && strings.Contains(m.calls(), "systemctl restart") {
				t.Errorf("it goes on:\n%s", m.calls())
			}
		})
	}
}

// What fails for a moment is tried again.
func TestSetUp_FailsOnce(t *testing.T) {
	t.Parallel()
	o := newOutside(t)
	for _, name := range []string{"apt-get", "curl"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t, o)
			m.usualVolume()
			m.write("fail/"+name, "2")
			o.trouble.Store(2)
			if out, err := m.setUp(o.settings()); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// What fails for good is said, and LabLink is not started.
func TestSetUp_Fails(t *testing.T) {
	t.Parallel()
	o := newOutside(t)
	other := strings.Repeat("0", 64)
	for name, c := range map[string]struct {
		fails    string
		settings map[string]string
		says     string
	}{
		"packages":      {"apt-get", nil, "the packages could not be installed"},
		"no volume":     {"", map[string]string{"VOLUME": "vol-other"}, "the volume vol-other is not attached"},
		"mkfs":          {"mkfs.ext4", nil, "mkfs.ext4 is broken"},
		"mount":         {"mount", nil, "mount is broken"},
		"S3":            {"", map[string]string{"LABLINK_URL": "s3://releases/other"}, "s3://releases/other could not be fetched"},
		"other lablink": {"", map[string]string{"LABLINK_SHA256": other}, "is another file than expected: its SHA-256 is " + sum(o.lablink)},
		"other tofu":    {"", map[string]string{"OPENTOFU_SHA256": other}, "is another file than expected"},
		"configuration": {"", map[string]string{"CONFIG": "limits: {max_vm: 1}"}, "did you mean limits.max_vms?"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t, o)
			m.usualVolume()
			if c.fails != "" {
				m.write("fail/"+c.fails, "ever")
			}
			settings := o.settings()
			maps.Copy(settings, c.settings)
			out, err := m.setUp(settings)
			if err == nil || !strings.Contains(out, c.says) || !strings.Contains(out, "the set-up has failed") {
				t.Errorf("%v, want %q:\n%s", err, c.says, out)
			}
			if strings.Contains(m.calls(), "systemctl restart") {
				t.Error("it starts LabLink")
			}
		})
	}
}
