package config

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// write puts text into a file of its own and returns its name.
func write(tb testing.TB, text string) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "config.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

// load fails the test if the configuration is refused.
func load(tb testing.TB, o Options) *Config {
	tb.Helper()
	if o.File == "" && o.Environ == nil {
		o.Environ = []string{"CONFIG_DIR=" + tb.TempDir()}
	}
	c, err := Load(o)
	if err != nil {
		tb.Fatalf("Load: %v", err)
	}
	return c
}

// problems returns the problems of a configuration, with the file's name replaced by "F".
func problems(tb testing.TB, o Options) string {
	tb.Helper()
	c, err := Load(o)
	if err == nil {
		return ""
	}
	if c != nil {
		tb.Errorf("Load returned a Config beside its error")
	}
	var e *Error
	if !errors.As(err, &e) || len(e.Problems) == 0 {
		tb.Fatalf("Load returned a %T, want *Error with problems", err)
	}
	text := err.Error()
	if o.File != "" {
		text = strings.ReplaceAll(text, o.File, "F")
	}
	return text
}

func TestLoad_Defaults(t *testing.T) {
	c := load(t, Options{})
	want := &Config{
		Listen: ":5000", DataDir: "/var/lib/lablink", Provider: ProviderNone, Environment: "prod",
		Auth:      Auth{Machines: MachineToken},
		Provision: Provision{Prefix: "lablink-client-"},
		Limits: Limits{
			MaxVMs: 200, MaxRegistered: 20000, RequestVMPerMinute: 600, RequestVMBurst: 300, BodyBytes: 128 << 10,
			VMRequestsPerMinute: 240, VMLogPostsPerMinute: 1200, LogPostsPerMinute: 60_000,
			LoginFailuresPerMinute: 10, PinFailures: 5, PinWindow: 15 * time.Minute,
		},
		Poll:  Poll{MaxWait: 168 * time.Hour, Keepalive: 25 * time.Second},
		Logs:  Logs{Retention: 168 * time.Hour, MaxLines: 1_000_000, KeepUnknown: time.Hour},
		Admin: Admin{User: "admin"},
		DB: DB{
			DBName: "lablink_db", User: "lablink", Password: "lablink", Host: "localhost", Port: 5432,
			TableName: "vms", MessageChannel: "vm_updates",
		},
		Machine: Machine{
			MachineType: "g4dn.xlarge", Image: "ghcr.io/talmolab/lablink-client-base-image:latest",
			AMIID: "ami-00c257e12d6828491", Software: "sleap", Extension: "slp",
		},
		App:           App{Region: "us-west-2"},
		AWS:           AWS{DiskGB: 80},
		DNS:           DNS{TerraformManaged: true, AppName: "lablink"},
		EIP:           EIP{Strategy: "dynamic", TagName: "lablink-eip"},
		SSL:           SSL{Provider: "none"},
		Allocator:     Allocator{ImageTag: "linux-amd64-latest"},
		StartupScript: StartupScript{OnError: "continue"},
		Monitoring: Monitoring{
			Thresholds: Thresholds{
				MaxInstancesPer5Min: 10, MaxTerminationsPer5Min: 20, MaxUnauthorizedCallsPer15Min: 5,
				MaxIAMRolesPerHour: 5, MaxSecurityGroupChangesPerHour: 10,
			},
			Budget:     Budget{MonthlyBudgetUSD: 500},
			CloudTrail: CloudTrail{RetentionDays: 90},
		},
	}
	if diff := cmp.Diff(want, c, revealed); diff != "" {
		t.Errorf("defaults (-want +got):\n%s", diff)
	}
}

// revealed lets cmp compare secrets by their values.
var revealed = cmp.Comparer(func(a, b Secret) bool { return a.Reveal() == b.Reveal() })

func TestLoad_Precedence(t *testing.T) {
	file := write(t, "listen: :1\ndata_dir: /file\nlimits:\n  max_vms: 1\n  pin_failures: 9\nprovider: local\n")
	c := load(t, Options{
		File:    file,
		Environ: []string{"LABLINK_LISTEN=:2", "LABLINK_DATA_DIR=/env", "LABLINK_LIMITS_MAX_VMS=2", "LABLINK_PROVIDER="},
		Flags:   map[string]string{"listen": ":3"},
	})
	if c.Listen != ":3" || c.DataDir != "/env" || c.Limits.MaxVMs != 2 || c.Limits.PinFailures != 9 {
		t.Errorf("got %s %s %d %d", c.Listen, c.DataDir, c.Limits.MaxVMs, c.Limits.PinFailures)
	}
	if c.Provider != ProviderLocal {
		t.Errorf("an empty variable beat the file: provider %s", c.Provider)
	}
	if c.File != file {
		t.Errorf("File = %s", c.File)
	}
}

func TestLoad_FlagMayEmptyAValue(t *testing.T) {
	c := load(t, Options{File: write(t, "database_url: postgres://x/y\n"), Flags: map[string]string{"database-url": ""}})
	if c.DatabaseURL != "" {
		t.Error("--database-url= did not beat the file")
	}
}

func TestLoad_EveryKeyByItsVariable(t *testing.T) {
	for _, k := range keys {
		t.Run(k.env(), func(t *testing.T) {
			got := problems(t, Options{File: write(t, ""), Environ: []string{k.env() + "=\x01"}})
			if want := "environment: " + k.env() + ": must be one line, without control characters"; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

func TestLoad_FindsTheFile(t *testing.T) {
	dir := t.TempDir()
	for name, port := range map[string]string{"config.yaml": "1", "other.yaml": "2", "named.txt": "3"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("listen: :"+port+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	named := filepath.Join(dir, "named.txt")
	for name, tc := range map[string]struct {
		options Options
		want    string
	}{
		"CONFIG_DIR":              {Options{Environ: []string{"CONFIG_DIR=" + dir}}, ":1"},
		"CONFIG_NAME without ext": {Options{Environ: []string{"CONFIG_DIR=" + dir, "CONFIG_NAME=other"}}, ":2"},
		"CONFIG_NAME as yaml":     {Options{Environ: []string{"CONFIG_DIR=" + dir, "CONFIG_NAME=other.yaml"}}, ":2"},
		"CONFIG_NAME as yml":      {Options{Environ: []string{"CONFIG_DIR=" + dir, "CONFIG_NAME=other.yml"}}, ":2"},
		"CONFIG_NAME is absent":   {Options{Environ: []string{"CONFIG_DIR=" + dir, "CONFIG_NAME=gone"}}, ":5000"},
		"LABLINK_CONFIG":          {Options{Environ: []string{"CONFIG_DIR=" + dir, "LABLINK_CONFIG=" + named}}, ":3"},
		"--config beats it":       {Options{Environ: []string{"LABLINK_CONFIG=/gone"}, Flags: map[string]string{"config": named}}, ":3"},
		"File beats all":          {Options{File: named, Flags: map[string]string{"config": "/gone"}}, ":3"},
	} {
		t.Run(name, func(t *testing.T) {
			if c := load(t, tc.options); c.Listen != tc.want {
				t.Errorf("listen %s, want %s", c.Listen, tc.want)
			}
		})
	}
}

func TestLoad_FilesThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	gone := filepath.Join(dir, "gone.yaml")
	for name, tc := range map[string]struct{ path, want string }{
		"absent": {gone, gone + ": no such file"},
		"folder": {dir, dir + ": cannot be read: it is a folder; name the file in it"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := problems(t, Options{Environ: []string{"LABLINK_CONFIG=" + tc.path}}); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestLoad_Lenience(t *testing.T) {
	c := load(t, Options{File: write(t, `
data_dir: 2026
db: {port: "6432"}
crd: {pin: 012345}
poll: {max_wait: 1d12h}
dns: {enabled: "Yes", domain: !!str lab.example.org}
monitoring:
  enabled: 0
  budget:
machine:
  repository: null
  software: ~
  extension: ""
server:
  trusted_proxies: "10.1.2.3/8, ::ffff:192.0.2.1,2001:db8::/32"
app:
  admin_password: |
    a long: password #1
`)})
	if c.DataDir != "2026" || c.DB.Port != 6432 || c.CRD.PIN.Reveal() != "012345" || c.Poll.MaxWait != 36*time.Hour {
		t.Errorf("got %q %d %q %v", c.DataDir, c.DB.Port, c.CRD.PIN.Reveal(), c.Poll.MaxWait)
	}
	if !c.DNS.Enabled || c.DNS.Domain != "lab.example.org" || c.Monitoring.Enabled {
		t.Errorf("got %+v %v", c.DNS, c.Monitoring.Enabled)
	}
	if c.Machine.Repository != "" || c.Machine.Software != "sleap" || c.Machine.Extension != "" {
		t.Errorf("got %+v", c.Machine)
	}
	if got := c.Admin.Password.Reveal(); got != "a long: password #1" {
		t.Errorf("password %q", got)
	}
	want := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("2001:db8::/32")}
	if diff := cmp.Diff(want, c.Server.TrustedProxies, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
}

func TestLoad_ListReplacesList(t *testing.T) {
	c := load(t, Options{
		File:    write(t, "server:\n  trusted_proxies: [10.0.0.1, 10.0.0.2]\n"),
		Environ: []string{"LABLINK_SERVER_TRUSTED_PROXIES=192.0.2.1"},
	})
	if len(c.Server.TrustedProxies) != 1 || c.Server.TrustedProxies[0].String() != "192.0.2.1/32" {
		t.Errorf("got %v", c.Server.TrustedProxies)
	}
}

func TestLoad_EmptyFiles(t *testing.T) {
	for _, text := range []string{"", "\n", "# nothing yet\n", "---\n...\n", "\ufeff", "{}", "limits:\n", "\ufeff# a\r\nlisten: :5000\r\n"} {
		if got := problems(t, Options{File: write(t, text)}); got != "" {
			t.Errorf("%q: %s", text, got)
		}
	}
}

func TestLoad_Environment(t *testing.T) {
	c := load(t, Options{File: write(t, ""), Environ: []string{
		"ENVIRONMENT= CI Test ", "ALLOCATOR_PUBLIC_IP=203.0.113.7", "ALLOCATOR_KEY_NAME=lablink-key-prod",
		"CLOUD_INIT_LOG_GROUP=lablink-cloud-init-prod", "ALLOCATOR_FQDN=https://lab.example.org",
		"LABLINK_ADMIN_USER=boss", "LABLINK_ADMIN_PASSWORD=correct horse\n", "LABLINK_APP_ADMIN_USER=boss",
		"LABLINK_TOKEN=abc", "LABLINK_SOMETHING_ELSE=1", "OTHER=1", "broken",
	}})
	got := []string{c.Environment, c.AllocatorPublicIP, c.AllocatorKeyName, c.CloudInitLogGroup, c.AllocatorFQDN, c.Admin.User, c.Admin.Password.Reveal()}
	want := []string{"ci-test", "203.0.113.7", "lablink-key-prod", "lablink-cloud-init-prod", "https://lab.example.org", "boss", "correct horse"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestLoad_OtherVariablesAreLetAlone(t *testing.T) {
	var environ []string
	for _, o := range otherVariables {
		environ = append(environ, o.name+"=x")
	}
	if got := problems(t, Options{File: write(t, ""), Environ: environ}); got != "" {
		t.Error(got)
	}
}

func TestValidateFile(t *testing.T) {
	good, bad := write(t, "listen: :1\n"), write(t, "listen: 1\n")
	environ := []string{"LABLINK_LISTEN=wrong", "LABLINK_DATADIR=x"}
	if err := ValidateFile(good, environ); err != nil {
		t.Errorf("the environment took part: %v", err)
	}
	if err := ValidateFile(bad, nil); err == nil || !strings.HasPrefix(err.Error(), bad+":1: listen: ") {
		t.Errorf("got %v", err)
	}
	if err := ValidateFile("", []string{"LABLINK_CONFIG=" + good}); err != nil {
		t.Error(err)
	}
	if err := ValidateFile("", []string{"CONFIG_DIR=" + filepath.Dir(bad)}); err == nil || !strings.Contains(err.Error(), ":1: listen: ") {
		t.Errorf("got %v", err)
	}
	if err := ValidateFile("", []string{"CONFIG_DIR=/gone"}); err == nil || err.Error() != "/gone/config.yaml: no such file" {
		t.Errorf("got %v", err)
	}
}
