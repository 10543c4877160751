package infra

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/terraform-config-inspect/tfconfig"

	"lablink/internal/testkit"
)

const deploy = "../../deploy"

func TestMain(m *testing.M) { testkit.Main(m) }

const usualConfig = `provider: aws
app:
  region: us-west-2
machine:
  image: registry.example.org/lablink-client:1
  # '$(id)' and ${x} remain what they are
  software: "it's \"$HOME\" %{x}"
`

// site is a copy of deploy/aws, as somebody has it who uses it.
type site struct {
	t       *testing.T
	dir     string
	environ []string
	inputs  map[string]any
	aws     *ec2.Client
}

func newSite(t *testing.T, config string) *site {
	t.Helper()
	moto := testkit.Moto(t)
	standin := testkit.AWSProvider(t, moto)
	s := &site{t: t, dir: filepath.Join(t.TempDir(), "deploy", "aws"), aws: ec2.NewFromConfig(moto.Config(t))}
	for _, pattern := range []string{"aws/*.tf", "aws/*.json", "aws/*.sh", "lablink.service"} {
		files, err := filepath.Glob(filepath.Join(deploy, pattern))
		if err != nil || len(files) == 0 {
			t.Fatal(pattern, err)
		}
		for _, file := range files {
			s.write(filepath.Join("..", strings.TrimPrefix(file, deploy)), read(t, file))
		}
	}
	s.write("config/config.yaml", config)
	s.write("config/custom-startup.sh", "#!/bin/sh\necho \"it's $HOME\"\n")
	s.write("log-arm64.zip", "PK\x05\x06"+strings.Repeat("\x00", 18)) // an empty one
	subnets, err := s.aws.DescribeSubnets(t.Context(), &ec2.DescribeSubnetsInput{
		Filters: []types.Filter{{Name: aws.String("availability-zone"), Values: []string{testkit.MotoRegion + "b"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	sum := strings.Repeat("0123456789abcdef", 4)
	s.inputs = map[string]any{
		"resource_suffix": "ci-test", "subnet_id": aws.ToString(subnets.Subnets[0].SubnetId), "log_processor": "log-arm64.zip",
		"lablink":        map[string]string{"url": "s3://releases/lablink", "sha256": sum},
		"opentofu":       map[string]string{"url": "https://releases.example.org/tofu.zip", "sha256": sum},
		"ssh_public_key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPs5fZ5TxIqPdZ0lJtB8o8ZsS0m1v8O5rJZ3X6uEJq7a organiser",
	}
	s.environ = slices.Concat([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "TF_CLI_CONFIG_FILE=" + standin.CLIConfig, "TF_IN_AUTOMATION=1",
	}, moto.Environ(), standin.Environ())
	s.must("init")
	return s
}

func (s *site) write(name, text string) {
	s.t.Helper()
	name = filepath.Join(s.dir, name)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// run runs Terraform. Its output is without the frame around errors.
func (s *site) run(args ...string) (output string, err error) {
	s.t.Helper()
	inputs, err := json.Marshal(s.inputs)
	if err != nil {
		s.t.Fatal(err)
	}
	s.write("terraform.tfvars.json", string(inputs))
	cmd := exec.CommandContext(s.t.Context(), testkit.Terraform(s.t), append(args, "-no-color")...)
	cmd.Dir, cmd.Env = s.dir, s.environ
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (s *site) must(args ...string) string {
	s.t.Helper()
	out, err := s.run(args...)
	if err != nil {
		s.t.Fatalf("terraform %s: %v\n%s", args[0], err, out)
	}
	return out
}

// resource is one of those that Terraform has made.
type resource struct {
	Address string         `json:"address"`
	Type    string         `json:"type"`
	Values  map[string]any `json:"values"`
}

// state is what Terraform has made, and its outputs.
func (s *site) state() (made map[string]resource, outputs map[string]any) {
	s.t.Helper()
	var shown struct {
		Values struct {
			Outputs map[string]struct {
				Value any `json:"value"`
			} `json:"outputs"`
			Root struct {
				Resources []resource `json:"resources"`
			} `json:"root_module"`
		} `json:"values"`
	}
	if err := json.Unmarshal([]byte(s.must("show", "-json")), &shown); err != nil {
		s.t.Fatal(err)
	}
	made, outputs = map[string]resource{}, map[string]any{}
	for _, r := range shown.Values.Root.Resources {
		made[r.Address] = r
	}
	for name, o := range shown.Values.Outputs {
		outputs[name] = o.Value
	}
	return made, outputs
}

func (r resource) text(name string) string {
	if s, ok := r.Values[name].(string); ok {
		return s
	}
	return fmt.Sprint(r.Values[name])
}

func TestFormat(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), testkit.Terraform(t), "fmt", "-check", "-diff", "-no-color")
	cmd.Dir, cmd.Env = deploy+"/aws", []string{"CHECKPOINT_DISABLE=1", "TF_CLI_CONFIG_FILE=" + os.DevNull}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("run terraform fmt deploy/aws: %v\n%s", err, out)
	}
}

// The variables and outputs that docs/aws-allocator.md and scripts know.
func TestInterface(t *testing.T) {
	t.Parallel()
	m, diags := tfconfig.LoadModule(filepath.Join(deploy, "aws"))
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	var required []string
	for name, v := range m.Variables {
		if v.Required {
			required = append(required, name)
		}
		if v.Description == "" {
			t.Errorf("the variable %s is not described", name)
		}
	}
	slices.Sort(required)
	if want := []string{"lablink", "opentofu", "subnet_id"}; !slices.Equal(required, want) {
		t.Errorf("%v must be set, want %v", required, want)
	}
	if v := m.Variables["resource_suffix"]; v == nil || v.Default != "prod" {
		t.Errorf("resource_suffix is %+v", v)
	}
	want := []string{
		"allocator_fqdn", "allocator_instance_id", "allocator_instance_type", "allocator_url", "ec2_key_name", "ec2_public_ip", "log_processor_arn",
		"undelivered_logs_url",
	}
	if got := slices.Sorted(maps.Keys(m.Outputs)); !slices.Equal(got, want) {
		t.Errorf("outputs %v, want %v", got, want)
	}
	module, diags := tfconfig.LoadModule("../provision/module/aws")
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	delete(m.RequiredProviders, "terraform") // which is built in
	if d := cmp.Diff(module.RequiredProviders, m.RequiredProviders); d != "" {
		t.Errorf("the module for VMs requires other providers (-module +this):\n%s", d)
	}
}

// All of it is made, by the names that others know, and then there is nothing more
// to do.
func TestApply(t *testing.T) {
	t.Parallel()
	s := newSite(t, usualConfig+"bucket_name: tf-state\nstartup_script: {enabled: true, path: config/custom-startup.sh}\n")
	s.must("apply", "-auto-approve")
	if out, err := s.run("plan", "-detailed-exitcode"); err != nil {
		t.Errorf("after an apply there is more to do: %v\n%s", err, out)
	}
	made, outputs := s.state()
	for address, names := range map[string]map[string]string{
		"aws_instance.lablink_allocator_server":  {"instance_type": "t3.large", "ami": "ami-0aaaaaaaaaaaaaa02", "iam_instance_profile": "lablink_instance_profile_ci-test"},
		"aws_security_group.allocator":           {"name": "allow_http_https_ci-test"},
		"aws_key_pair.allocator[0]":              {"key_name": "lablink-key-ci-test"},
		"aws_iam_role.allocator":                 {"name": "lablink_instance_role_ci-test"},
		"aws_iam_role_policy.vms":                {"name": "lablink_ec2_vm_management_ci-test", "policy": read(t, deploy+"/aws/allocator-policy.json")},
		"aws_iam_role_policy.state[0]":           {"name": "lablink_s3_backend_ci-test", "policy": strings.ReplaceAll(read(t, deploy+"/aws/state-policy.json"), "BUCKET", "tf-state")},
		"aws_iam_role_policy.downloads[0]":       {"policy": `{"Statement":[{"Action":"s3:GetObject","Effect":"Allow","Resource":["arn:aws:s3:::releases/lablink"]}],"Version":"2012-10-17"}`},
		"aws_iam_instance_profile.allocator":     {"name": "lablink_instance_profile_ci-test"},
		"aws_ebs_volume.data":                    {"availability_zone": testkit.MotoRegion + "b", "type": "gp3", "encrypted": "true", "size": "30"},
		"aws_volume_attachment.data":             {"stop_instance_before_detaching": "true"},
		"aws_eip.allocator[0]":                   {"tags": "map[Environment:ci-test Name:lablink-eip-ci-test Project:lablink]"},
		"aws_eip_association.allocator":          {},
		"aws_iam_role.log_processor":             {"name": "lablink_lambda_exec_ci-test"},
		"aws_iam_role_policy.log_processor":      {"name": "lablink_lambda_exec_ci-test"},
		"aws_cloudwatch_log_group.log_processor": {"name": "/aws/lambda/lablink_log_processor_ci-test", "retention_in_days": "14"},
		"aws_sqs_queue.undelivered":              {"name": "lablink_log_processor_ci-test_undelivered"},
		"aws_lambda_function.log_processor":      {"function_name": "lablink_log_processor_ci-test", "runtime": "provided.al2023", "architectures": "[arm64]"},
		"aws_lambda_permission.cloudwatch":       {"statement_id": "AllowExecutionFromCloudWatch", "principal": "logs.amazonaws.com"},
		"terraform_data.processor_token":         {},
		"data.aws_subnet.allocator":              {},
		"data.aws_ami.ubuntu[0]":                 {},
		"data.aws_caller_identity.current":       {},
		"data.aws_partition.current":             {},
	} {
		r, found := made[address]
		if !found {
			t.Errorf("there is no %s", address)
			continue
		}
		delete(made, address)
		for name, want := range names {
			if got := r.text(name); got != want {
				t.Errorf("%s has %s = %s, want %s", address, name, got, want)
			}
		}
		if tags, ok := r.Values["tags"].(map[string]any); ok && (tags["Environment"] != "ci-test" || tags["Name"] == "") {
			t.Errorf("%s has the tags %v", address, tags)
		}
		switch address {
		case "aws_lambda_permission.cloudwatch":
			if arn := r.text("source_arn"); !strings.HasSuffix(arn, ":log-group:lablink-cloud-init-ci-test:*") || !strings.Contains(arn, r.text("source_account")) {
				t.Errorf("CloudWatch may call the function for %s", arn)
			}
		case "aws_lambda_function.log_processor":
			environment := fmt.Sprint(r.Values["environment"])
			if !regexp.MustCompile(`API_ENDPOINT:http://[0-9.]+/api/vm-logs API_TOKEN:[0-9a-f]{64}\]`).MatchString(environment) {
				t.Errorf("the function gets %s", environment)
			}
			if want := "arn:aws:lambda:us-west-2:"; !strings.HasPrefix(fmt.Sprint(outputs["log_processor_arn"]), want) || r.text("arn") != outputs["log_processor_arn"] {
				t.Errorf("the function is %v", outputs["log_processor_arn"])
			}
		}
	}
	for address := range made {
		t.Errorf("nobody knows %s", address)
	}
	ip := fmt.Sprint(outputs["ec2_public_ip"])
	if outputs["allocator_url"] != "http://"+ip || outputs["allocator_fqdn"] != ip || outputs["ec2_key_name"] != "lablink-key-ci-test" {
		t.Errorf("the outputs are %v", outputs)
	}
	s.wantRunning(ip)
}

// wantRunning looks at the machine as EC2 has it.
func (s *site) wantRunning(ip string) {
	s.t.Helper()
	out, err := s.aws.DescribeInstances(s.t.Context(), &ec2.DescribeInstancesInput{
		Filters: []types.Filter{{Name: aws.String("instance-state-name"), Values: []string{"running"}}},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	if len(out.Reservations) != 1 {
		s.t.Fatalf("%d machines run", len(out.Reservations))
	}
	i := out.Reservations[0].Instances[0]
	if aws.ToString(i.PublicIpAddress) != ip || i.MetadataOptions.HttpTokens != "required" || len(i.BlockDeviceMappings) != 2 {
		s.t.Errorf("the machine is %+v", i)
	}
}

// Another configuration makes another machine, with the same address and data.
func TestReplace(t *testing.T) {
	t.Parallel()
	s := newSite(t, usualConfig)
	s.must("apply", "-auto-approve")
	before, outputs := s.state()
	s.write("config/config.yaml", usualConfig+"limits: {max_vms: 5}\n")
	s.must("apply", "-auto-approve")
	after, again := s.state()
	for address, changes := range map[string]bool{
		"aws_instance.lablink_allocator_server": true, "aws_volume_attachment.data": false, "aws_ebs_volume.data": false, "aws_eip.allocator[0]": false,
		"aws_lambda_function.log_processor": false, "terraform_data.processor_token": false,
	} {
		if got := before[address].text("id") != after[address].text("id"); got != changes {
			t.Errorf("%s is another one: %v", address, got)
		}
	}
	if outputs["ec2_public_ip"] != again["ec2_public_ip"] || before["terraform_data.processor_token"].text("output") != after["terraform_data.processor_token"].text("output") {
		t.Error("the address or the token has changed")
	}
	s.wantRunning(fmt.Sprint(again["ec2_public_ip"]))

	if out, err := s.run("destroy", "-auto-approve"); err == nil || !strings.Contains(out, "prevent_destroy") {
		t.Errorf("the data can be destroyed: %v\n%s", err, out)
	}
}

// An address that is there already is found by its tags, and used.
func TestPersistentAddress(t *testing.T) {
	t.Parallel()
	s := newSite(t, usualConfig+"eip: {strategy: persistent, tag_name: our-address}\nserver: {public_url: 'https://lablink.example.org/'}\n")
	if out, err := s.run("plan"); err == nil || !strings.Contains(out, "no matching EC2 EIP found") {
		t.Errorf("without an address: %v\n%s", err, out)
	}
	made, err := s.aws.AllocateAddress(t.Context(), &ec2.AllocateAddressInput{
		Domain: types.DomainTypeVpc, TagSpecifications: []types.TagSpecification{{ResourceType: types.ResourceTypeElasticIp, Tags: []types.Tag{
			{Key: aws.String("Name"), Value: aws.String("our-address-ci-test")}, {Key: aws.String("Environment"), Value: aws.String("ci-test")},
		}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.must("apply", "-auto-approve")
	state, outputs := s.state()
	if outputs["ec2_public_ip"] != aws.ToString(made.PublicIp) || outputs["allocator_url"] != "https://lablink.example.org" || outputs["allocator_fqdn"] != "lablink.example.org" {
		t.Errorf("the outputs are %v", outputs)
	}
	if environment := fmt.Sprint(state["aws_lambda_function.log_processor"].Values["environment"]); !strings.Contains(environment, "API_ENDPOINT:https://lablink.example.org/api/vm-logs") {
		t.Errorf("the function gets %s", environment)
	}
	s.wantRunning(aws.ToString(made.PublicIp))
}

// What cannot work is refused before anything is made.
func TestRefuses(t *testing.T) {
	t.Parallel()
	s := newSite(t, usualConfig)
	usual := maps.Clone(s.inputs)
	for _, c := range []struct {
		name  string
		value any
		says  string
	}{
		{"resource_suffix", "Prod & co", "use up to 25 of a-z"},
		{"lablink", map[string]string{"url": "http://x/lablink", "sha256": strings.Repeat("0", 64)}, "must begin with https:// or s3://"},
		{"opentofu", map[string]string{"url": "https://x/tofu", "sha256": strings.Repeat("0", 64)}, "end with .zip"},
		{"public_url", "lablink.example.org", "such as https://lablink.example.org"},
		{"ssh_from", []string{"everywhere"}, "ssh_from must hold networks"},
		{"web_from", []string{"10.0.0.1"}, "web_from must hold networks"},
		{"data_gb", 1, "at least 8"},
		{"log_processor", "log.zip", "lablink-logproc-arm64.zip"},
		{"ssh_public_key", "", "Nobody could log in"},
		{"config_file", "config/dns.yaml", "set public_url to the address"},
		{"config_file", "config/large.yaml", "there is room for 15360"},
	} {
		s.write("config/dns.yaml", usualConfig+"dns: {enabled: true, domain: lablink.example.org}\n")
		s.write("config/large.yaml", usualConfig+"# "+noise(20_000)+"\n")
		s.inputs = maps.Clone(usual)
		s.inputs[c.name] = c.value
		out, err := s.run("apply", "-auto-approve")
		if running, err := s.aws.DescribeAddresses(t.Context(), &ec2.DescribeAddressesInput{}); err != nil || len(running.Addresses) > 0 {
			t.Errorf("%s = %v: something was made, %v", c.name, c.value, err)
		}
		if words := strings.Join(strings.Fields(strings.ReplaceAll(out, "│", " ")), " "); err == nil || !strings.Contains(words, c.says) {
			t.Errorf("%s = %v: %v, want %q\n%s", c.name, c.value, err, c.says, out)
		}
	}
}

// noise does not compress.
func noise(size int) string {
	var b strings.Builder
	for x := uint64(1); b.Len() < size; x = x*6364136223846793005 + 1442695040888963407 {
		b.WriteByte(33 + byte(x>>33)%94)
	}
	return b.String()
}
