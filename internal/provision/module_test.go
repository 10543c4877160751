package provision_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"lablink/internal/provision"
)

const (
	declaredVMs = `variable "vms" { type = map(object({ instance_type = string })) }` + "\n"
	declaredOut = `output "vms" { value = {} }` + "\n"
	tokensHere  = "variable \"tokens\" {\n  type = map(string)\n  sensitive = true\n}\n"
)

func TestModule_Checked(t *testing.T) {
	t.Parallel()
	const fits = declaredVMs + declaredOut + tokensHere // 6 lines
	for name, test := range map[string]struct{ text, err string }{
		"fits":             {fits, ""},
		"knows an input":   {fits + `variable "folder" {}`, ""},
		"has a default":    {fits + `variable "size" { default = 1 }`, ""},
		"a child module":   {fits + `module "x" { source = "./x" }`, ""},
		"a remote module":  {fits + `module "x" { source = "terraform-aws-modules/vpc/aws" }`, ""},
		"needs a value":    {fits + "\n" + `variable "size" {}`, `main.tf:8: LabLink knows no value for the variable "size": give it a default`},
		"no vms":           {declaredOut + tokensHere, `the module declares no variable "vms": add one of the type map(object({ instance_type = string }))`},
		"no tokens":        {declaredVMs + declaredOut, `the module declares no variable "tokens": add one of the type map(string)`},
		"tokens show":      {declaredVMs + declaredOut + "\nvariable \"tokens\" {}", `main.tf:4: variable "tokens" holds secrets: add sensitive = true`},
		"no output":        {declaredVMs + tokensHere, `the module declares no output "vms": add one that is a map from hostname to an object of id and address`},
		"hidden output":    {declaredVMs + tokensHere + "output \"vms\" {\n value = 1\n sensitive = true\n}", `main.tf:6: output "vms" must not be sensitive`},
		"a module outside": {fits + "\n\n" + `module "x" { source = "../shared/x" }`, `main.tf:9: module "x" is at ../shared/x, outside of the module's folder, which alone is copied: move it in`},
		"sneaks outside":   {fits + `module "x" { source = "./x/../../y" }`, `main.tf:7: module "x" is at ./x/../../y, outside`},
		"syntax":           {fits + "\nresource \"a\" {\n", `the module cannot be read: main.tf:8: `},
		"all of it": {"variable \"size\" {}\n", `main.tf:1: LabLink knows no value for the variable "size": give it a default` + "\n" +
			`the module declares no output "vms": add one that is a map from hostname to an object of id and address` + "\n" +
			`the module declares no variable "tokens": add one of the type map(string)` + "\n" +
			`the module declares no variable "vms": add one of the type map(object({ instance_type = string }))`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			write(t, filepath.Join(dir, "main.tf"), test.text)
			declared, err := provision.CheckModule(dir, map[string]any{"folder": "/x", "not declared": 1})
			if test.err == "" {
				if err != nil || declared["folder"] != strings.Contains(test.text, "folder") || declared["not declared"] {
					t.Errorf("declared %v, error %v", declared, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("error: %v, want %s", err, test.err)
			}
		})
	}
}

// What is in this program fits.
func TestModule_Local(t *testing.T) {
	t.Parallel()
	p := provision.Local(provision.LocalOptions{})
	w := &provision.Workspace{Dir: filepath.Join(t.TempDir(), "work"), Provider: p}
	if err := w.PlaceModule(); err != nil {
		t.Fatal(err)
	}
	declared, err := provision.CheckModule(w.Dir, p.Inputs)
	if err != nil {
		t.Fatal(err)
	}
	for name := range p.Inputs {
		if !declared[name] {
			t.Errorf("the module does not take %s", name)
		}
	}
}

func TestModule_Placed(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a", "work")
	module := fstest.MapFS{
		"main.tf":                    {Data: []byte("main")},
		"scripts/run.sh":             {Data: []byte("run"), Mode: 0o755},
		"scripts/deep/data":          {Data: []byte("data"), Mode: 0o444},
		"terraform.tfstate":          {Data: []byte("somebody else's")},
		"terraform.tfstate.backup":   {Data: []byte("somebody else's")},
		"errored.tfstate":            {Data: []byte("somebody else's")},
		".terraform/providers/x":     {Data: []byte("somebody else's")},
		"sub/.terraform/providers/x": {Data: []byte("somebody else's")},
		".git/config":                {Data: []byte("somebody else's")},
		".terraform.lock.hcl":        {Data: []byte("lock")},
		provision.Override:           {Data: []byte("somebody else's")},
	}
	w := &provision.Workspace{
		Dir: dir, Provider: provision.Provider{Name: "aws", Module: module},
		Backend: provision.Backend{PostgresURL: "postgres://lablink:pass-word@db.example/lablink"},
	}
	place := func() {
		t.Helper()
		if err := w.PlaceModule(); err != nil {
			t.Fatal(err)
		}
	}
	place()
	write(t, filepath.Join(dir, "stale.tf"), "of an earlier version of the module")
	write(t, filepath.Join(dir, "lablink.tfvars.json"), "tokens")
	write(t, filepath.Join(dir, "errored.tfstate"), "not yet saved")
	if err := os.MkdirAll(filepath.Join(dir, ".terraform", "providers"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, ".terraform", "providers", "aws"), "downloaded")
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	place()

	const backend = `{"terraform":{"backend":{"pg":{"schema_name":"terraform_aws"}}}}`
	want := map[string]string{
		"main.tf": "-rw------- main", "scripts/run.sh": "-rwx------ run", "scripts/deep/data": "-rw------- data", ".terraform.lock.hcl": "-rw------- lock",
		"errored.tfstate": "-rw------- not yet saved", ".terraform/providers/aws": "-rw------- downloaded", provision.Override: "-rw------- " + backend,
	}
	if got := tree(t, dir); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("placed\n%v\nwant\n%v", got, want)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder: %v, %v", info.Mode(), err)
	}
}

// tree are the files in a folder, with their modes.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		info, err := e.Info()
		found[strings.TrimPrefix(path, dir+"/")] = info.Mode().String() + " " + string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestModule_S3(t *testing.T) {
	t.Parallel()
	w := &provision.Workspace{
		Dir: t.TempDir(), Provider: provision.Provider{Name: "aws", Module: files(nil)},
		Backend: provision.Backend{S3: &provision.S3{Bucket: "lab-state", Region: "us-west-2", Key: "prod/client/terraform.tfstate"}},
	}
	if err := w.PlaceModule(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(w.Dir, provision.Override))
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Terraform struct {
			Backend map[string]map[string]any `json:"backend"`
		} `json:"terraform"`
	}
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]map[string]any{"s3": {
		"bucket": "lab-state", "region": "us-west-2", "key": "prod/client/terraform.tfstate", "dynamodb_table": "lock-table", "encrypt": true,
	}}
	if fmt.Sprint(got.Terraform.Backend) != fmt.Sprint(want) {
		t.Errorf("backend %v, want %v", got.Terraform.Backend, want)
	}
}

// A mistake in the configuration must not cost anybody their files.
func TestModule_NotOurFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "main.tf"), declaredVMs+declaredOut+tokensHere)
	w := &provision.Workspace{Dir: dir, Provider: provision.Provider{Name: "aws", Module: provision.ModuleFolder(dir)}}
	if err := w.PlaceModule(); err == nil || !strings.Contains(err.Error(), "holds files that are not LabLink's: move them away") {
		t.Errorf("error: %v", err)
	}
	if got := tree(t, dir); len(got) != 1 {
		t.Errorf("the folder holds %v", got)
	}
}

// A user's own folder may hold links, and what is no file at all.
func TestModule_Folder(t *testing.T) {
	t.Parallel()
	shared, dir := t.TempDir(), t.TempDir()
	write(t, filepath.Join(shared, "shared.tf"), "shared")
	w := &provision.Workspace{Dir: filepath.Join(t.TempDir(), "work"), Provider: provision.Provider{Name: "aws", Module: provision.ModuleFolder(dir)}}
	link := func(target, name string) {
		t.Helper()
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	link(filepath.Join(shared, "shared.tf"), "shared.tf")
	if err := w.PlaceModule(); err != nil {
		t.Fatal(err)
	}
	if got := tree(t, w.Dir)["shared.tf"]; got != "-rw------- shared" {
		t.Errorf("the linked file is %q", got)
	}
	link(shared, "modules")
	if err := w.PlaceModule(); err == nil || err.Error() != "copy the module: modules is neither a file nor a folder: put a copy in its place" {
		t.Errorf("error: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, "modules")); err != nil {
		t.Fatal(err)
	}
	link("/nowhere", "broken.tf")
	if err := w.PlaceModule(); err == nil || !strings.Contains(err.Error(), "broken.tf") {
		t.Errorf("error: %v", err)
	}
	w.Provider.Module = provision.ModuleFolder("/nowhere")
	if err := w.PlaceModule(); err == nil || !strings.Contains(err.Error(), "copy the module") {
		t.Errorf("error: %v", err)
	}
}
