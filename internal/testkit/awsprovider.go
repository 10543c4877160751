package testkit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/go-version"
	"github.com/hashicorp/terraform-config-inspect/tfconfig"
)

// Standin is a stand-in for Terraform's provider hashicorp/aws, and how a test
// makes trouble with it.
type Standin struct {
	CLIConfig string // for TF_CLI_CONFIG_FILE

	t      testing.TB
	isReal bool
	gate   string
}

// realProvider tells whether tests shall use the real provider.
func realProvider() bool { return os.Getenv("LABLINK_TEST_AWS_PROVIDER") == "real" }

// AWSProvider returns the provider with which Terraform is to work on an emulated
// AWS. With LABLINK_TEST_AWS_PROVIDER=real it is the real one, from wherever the
// user's Terraform has it; tests that use the methods of Standin are skipped then.
func AWSProvider(t testing.TB, _ *MotoServer) *Standin {
	t.Helper()
	if realProvider() {
		return &Standin{CLIConfig: os.Getenv("TF_CLI_CONFIG_FILE"), t: t, isReal: true}
	}
	config, err := mirror()
	if err != nil {
		t.Fatalf("testkit.AWSProvider: %v", err)
	}
	return &Standin{CLIConfig: config, t: t, gate: t.TempDir()}
}

// mirror makes a mirror of providers that holds the stand-in, once per test
// process, and returns Terraform's configuration for it.
var mirror = sync.OnceValues(func() (string, error) {
	moto, err := startMoto()
	if err != nil {
		return "", err
	}
	top, err := root()
	if err != nil {
		return "", err
	}
	pinned, err := awsVersion(filepath.Join(top, "internal", "provision", "module", "aws"))
	if err != nil {
		return "", err
	}
	packages := filepath.Join(moto.dir, "package")
	program := filepath.Join(packages, "terraform-provider-aws_v"+pinned)
	cmd := exec.CommandContext(context.Background(), "go", "build", "-ldflags", "-s -w", "-o", program, "lablink/internal/testkit/awsprovider")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	for _, registry := range []string{"registry.terraform.io", "registry.opentofu.org"} {
		dir := filepath.Join(moto.dir, "mirror", registry, "hashicorp", "aws", pinned)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return "", err
		}
		if err := os.Symlink(packages, filepath.Join(dir, runtime.GOOS+"_"+runtime.GOARCH)); err != nil {
			return "", err
		}
	}
	config := filepath.Join(moto.dir, "terraformrc")
	text := fmt.Sprintf("disable_checkpoint = true\nprovider_installation {\n  filesystem_mirror {\n    path = %q\n  }\n}\n", filepath.Join(moto.dir, "mirror"))
	return config, os.WriteFile(config, []byte(text), 0o600)
})

// awsVersion returns the lowest version of the provider that a module allows.
func awsVersion(module string) (string, error) {
	m, diags := tfconfig.LoadModule(module)
	if diags.HasErrors() {
		return "", diags.Err()
	}
	aws := m.RequiredProviders["aws"]
	if aws == nil || len(aws.VersionConstraints) == 0 {
		return "", fmt.Errorf("%s does not say which versions of the provider aws it is for", module)
	}
	text := strings.Join(aws.VersionConstraints, ", ")
	constraints, err := version.NewConstraint(text)
	if err != nil {
		return "", err
	}
	var named []*version.Version
	for _, number := range regexp.MustCompile(`[0-9]+(\.[0-9]+)*`).FindAllString(text, -1) {
		v, err := version.NewVersion(number)
		if err != nil {
			return "", err
		}
		named = append(named, v)
	}
	slices.SortFunc(named, (*version.Version).Compare)
	for _, v := range named {
		if constraints.Check(v) {
			return v.String(), nil
		}
	}
	return "", fmt.Errorf("%s: no version that is named in %q is allowed by it", module, text)
}

// Environ returns what Terraform needs in its environment so that the test can use
// the methods of Standin.
func (s *Standin) Environ() []string {
	if s.isReal {
		return nil
	}
	return []string{"AWS_STANDIN_GATE=" + s.gate, "AWS_STANDIN_LOG=" + filepath.Join(s.gate, "log")}
}

// only skips the test if the provider is the real one.
func (s *Standin) only() {
	s.t.Helper()
	if s.isReal {
		s.t.Skip("this test needs the stand-in for the provider hashicorp/aws, which makes trouble on demand")
	}
}

// Full says where there is no capacity for new instances from now on, as TYPE@ZONE
// or TYPE@SUBNET with * for any: nowhere, if it is called without arguments.
func (s *Standin) Full(places ...string) {
	s.t.Helper()
	s.only()
	name := filepath.Join(s.gate, "full")
	// The provider may read it at this moment.
	err := errors.Join(os.WriteFile(name+".new", []byte(strings.Join(places, ",")), 0o600), os.Rename(name+".new", name))
	if err != nil {
		s.t.Fatal(err)
	}
}

// Hold has the provider wait each time a resource was created before it tells
// Terraform, until Go. The name is TYPE-NAME: NAME is the hostname of the machine
// to which the resource belongs, else its own name with _ for /.
func (s *Standin) Hold(name string) {
	s.t.Helper()
	s.only()
	Order(s.t, s.gate, name+".hold")
}

// Reached waits until that resource was created, even if it was not held there.
func (s *Standin) Reached(name string) {
	s.t.Helper()
	s.only()
	Eventually(s.t, "the creation of "+name, func() bool { return Ordered(s.gate, name+".reached") })
}

// Go has the provider tell Terraform of that resource.
func (s *Standin) Go(name string) {
	s.t.Helper()
	s.only()
	Order(s.t, s.gate, name+".go")
}

// Log returns what was asked of the provider so far, such as "create aws_instance
// lablink-client-1". The operations are create, read, update, delete and import;
// what belongs to a machine is named by its hostname.
func (s *Standin) Log() []string {
	s.t.Helper()
	s.only()
	text, err := os.ReadFile(filepath.Join(s.gate, "log"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		s.t.Fatal(err)
	}
	return strings.FieldsFunc(string(text), func(r rune) bool { return r == '\n' })
}
