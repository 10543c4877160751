package provision_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"lablink/internal/provision"
)

// Values travel in a file that only we can read, and that is gone afterwards.
func TestPlan_Variables(t *testing.T) {
	t.Parallel()
	seen := filepath.Join(t.TempDir(), "seen")
	w, _ := fake(t, map[string]string{
		"plan.sh": `{ stat -c %a lablink.tfvars.json; cat lablink.tfvars.json; echo; tr '\0' ' ' </proc/$$/cmdline; } >>` + seen,
		"show.sh": `echo '{"format_version":"1.2"}'`,
		"more.tf": "variable \"folder\" {}\nvariable \"size\" { default = 1 }\n",
	})
	w.Provider.Inputs = map[string]any{"folder": "/a folder", "unknown to the module": 1}
	open(t, w)
	plan(t, w) // nothing is never null: for_each would not take it
	if _, err := w.Plan(t.Context(), nil, nil, isVM); err != nil {
		t.Fatal(err)
	}
	vms, tokens := want(1)
	if _, err := w.Plan(t.Context(), vms, tokens, isVM); err == nil || !strings.Contains(err.Error(), "the module makes nothing for vm-1") {
		t.Errorf("error: %v", err)
	}
	data, err := os.ReadFile(seen)
	if err != nil {
		t.Fatal(err)
	}
	args := w.Binary + " plan -no-color -input=false -detailed-exitcode -lock-timeout=0s -out=lablink.tfplan " +
		"-var-file=lablink.tfvars.json -lock=true -parallelism=10 -refresh=true -json "
	none := `600` + "\n" + `{"folder":"/a folder","tokens":{},"vms":{}}` + "\n/bin/sh " + args
	one := `600` + "\n" + `{"folder":"/a folder","tokens":{"vm-1":"` + token + `-1"},"vms":{"vm-1":{"instance_type":"small"}}}` + "\n/bin/sh " + args
	if got := string(data); got != none+none+one {
		t.Errorf("Terraform saw\n%s\nwant\n%s", got, none+none+one)
	}
	if exists(filepath.Join(w.Dir, "lablink.tfvars.json")) {
		t.Error("the variables are still there")
	}
}

// The child's environment is an allow-list.
func TestWorkspace_Environment(t *testing.T) {
	for name, value := range map[string]string{
		"LABLINK_ADMIN_PASSWORD": "x", "LABLINK_DATABASE_URL": "x", "PGPASSWORD": "x", "TF_VAR_tokens": "x", "TF_LOG": "TRACE", "TF_CLI_ARGS": "-help",
		"TF_CLI_CONFIG_FILE": "/nowhere/terraformrc", "AWS_PROFILE": "mine", "AWS_SECRET_ACCESS_KEY": "x", "LANG": "C", "MY_OWN": "mine", "MY_OTHER": "x",
		"HOME_ADDRESS": "x", "MY_OWN_TOO": "x",
	} {
		t.Setenv(name, value)
	}
	seen := filepath.Join(t.TempDir(), "seen")
	w, _ := fake(t, map[string]string{"init.sh": `tr '\0' '\n' </proc/$$/environ >` + seen})
	w.Provider.Env = []string{"MY_OWN"}
	open(t, w)
	got := environ(t, seen)
	for name, value := range map[string]string{
		"PATH": os.Getenv("PATH"), "HOME": os.Getenv("HOME"), "LANG": "C", "MY_OWN": "mine", "CHECKPOINT_DISABLE": "1", "TF_CLI_CONFIG_FILE": os.DevNull,
		"PG_CONN_STR": w.Backend.PostgresURL, "LABLINK_WORKSPACE": w.Dir, "TF_IN_AUTOMATION": "1", "TF_LOG": "", "TF_LOG_CORE": "", "TF_LOG_PATH": "", "TF_LOG_PROVIDER": "",
	} {
		if v, ok := got[name]; !ok || v != value {
			t.Errorf("%s = %q, want %q", name, v, value)
		}
		delete(got, name)
	}
	for _, name := range []string{
		"TMPDIR", "LC_ALL", "TZ", "TF_APPEND_USER_AGENT", "TF_PLUGIN_CACHE_DIR", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
		"SSL_CERT_FILE", "SSL_CERT_DIR",
	} {
		delete(got, name)
	}
	if len(got) > 0 {
		t.Errorf("Terraform sees too much: %v", got)
	}
	// The bucket's keys, whatever the provider, and no database.
	w.Backend = provision.Backend{S3: &provision.S3{Bucket: "b", Region: "r", Key: "test/client/terraform.tfstate"}}
	open(t, w)
	if got := environ(t, seen); got["AWS_PROFILE"] != "mine" || got["AWS_SECRET_ACCESS_KEY"] != "x" || got["PG_CONN_STR"] != "" {
		t.Errorf("Terraform with a bucket sees %v", got)
	}
}

func environ(t *testing.T, path string) map[string]string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	env := map[string]string{}
	for line := range strings.Lines(string(data)) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		env[name] = value
	}
	return env
}

func TestSecretsIn(t *testing.T) {
	t.Parallel()
	got := provision.SecretsIn(map[string]string{
		"PG_CONN_STR": "postgres://me:p%40ss@h/d", "AWS_SECRET_ACCESS_KEY": "aws", "AWS_ACCESS_KEY_ID": "id", "HTTPS_PROXY": "http://u:proxy@h:1", "PATH": "/bin",
	})
	slices.Sort(got)
	if want := []string{"aws", "p@ss", "postgres://me:p%40ss@h/d", "proxy"}; !slices.Equal(got, want) {
		t.Errorf("secrets: %q, want %q", got, want)
	}
}

// What an earlier process has left ends before Terraform begins.
func TestOpen_EndsAnEarlierRun(t *testing.T) {
	t.Parallel()
	w, out, p := planned(t, `setsid sh -c 'sleep 1000; :' >/dev/null 2>&1 & exit 0`)
	apply(t, w, p) // as a module may
	if len(marked(t, w.Dir)) == 0 {
		t.Fatalf("nothing was left, so that this tests nothing:\n%s", out.text())
	}
	open(t, w)
	if left := marked(t, w.Dir); len(left) > 0 {
		t.Errorf("processes are left: %v", left)
	}
}

func TestOpen_Version(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ script, err string }{
		"old":               {`echo '{"terraform_version": "1.5.7"}'`, "is version 1.5.7, LabLink needs 1.6.0 or newer"},
		"old, before JSON":  {`if [ $# = 1 ]; then echo 'Terraform v0.12.1'; else echo no >&2; exit 1; fi`, "does not tell its version: no"},
		"no Terraform":      {`echo hello`, "does not tell its version"},
		"cannot be started": {`exit 126`, "does not tell its version: exit status 126"},
		"a new one":         {`echo '{"terraform_version": "2.0.0-dev"}'`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, out := fake(t, map[string]string{"version.sh": test.script})
			err := w.Open(t.Context())
			if err == nil != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Errorf("error: %v, want %s", err, test.err)
			}
			if strings.Contains(out.text(), "version") {
				t.Errorf("logged: %s", out.text())
			}
		})
	}
}

func TestOpen_InitFails(t *testing.T) {
	t.Parallel()
	w, _ := fake(t, map[string]string{"init.sh": `echo "Initializing..."; echo "Error: no such host" >&2; exit 1`})
	if err := w.Open(t.Context()); err == nil || err.Error() != "terraform init: Error: no such host" {
		t.Errorf("error: %v", err)
	}
	w.Binary = "/nowhere/tofu"
	if err := w.Open(t.Context()); err == nil || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error: %v", err)
	}
	w.Provider.Module = fstest.MapFS{}
	if err := w.Open(t.Context()); err == nil || !strings.Contains(err.Error(), "the module does not fit") {
		t.Errorf("error: %v", err)
	}
}
