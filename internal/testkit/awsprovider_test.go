package testkit

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/google/go-cmp/cmp"
	"github.com/shirou/gopsutil/v4/process"
)

const (
	vm1      = `aws_instance.vm["vm-1"]`
	vm2      = `aws_instance.vm["vm-2"]`
	address1 = `aws_eip.vm["vm-1"]`
)

// each is a plan that does the same to each of these.
func each(what string, addresses ...string) map[string]string {
	all := map[string]string{}
	for _, address := range addresses {
		all[address] = what
	}
	return all
}

var (
	taggedShared = []string{
		"aws_security_group.vm", "aws_key_pair.vm", "aws_iam_role.vm", "aws_iam_instance_profile.vm", "aws_cloudwatch_log_group.vm",
	}
	untaggedShared = []string{"aws_iam_role_policy.vm", "aws_cloudwatch_log_subscription_filter.vm"}
)

func TestAWSProvider_Life(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t, "vm-1", "vm-2")
	w.apply()
	running := w.instances()
	if len(running) != 2 || aws.ToString(running[0].Placement.AvailabilityZone) != MotoRegion+"b" {
		t.Errorf("the machines are %+v", running)
	}
	for _, i := range running {
		if i.PublicIpAddress == nil || i.IamInstanceProfile == nil || aws.ToString(i.KeyName) != "lablink-key" || i.MetadataOptions.HttpTokens != "required" {
			t.Errorf("a machine is %+v", i)
		}
	}
	if got := w.id("aws_iam_role_policy.vm"); got != "lablink-role:lablink-policy" {
		t.Errorf("the id of the policy is %s", got)
	}
	if got := w.id("aws_cloudwatch_log_subscription_filter.vm"); got != "cwlsf-2144941780" {
		t.Errorf("the id of the filter is %s", got)
	}

	// These are changed in place.
	w.inputs["owner"], w.inputs["days"], w.inputs["ports"] = "two", 30, []int{22, 3389}
	changed := each("update", append(slices.Clone(taggedShared), vm1, vm2)...)
	if diff := cmp.Diff(changed, w.plan()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	w.apply()
	w.inputs["ports"] = []int{}
	w.apply()

	// One machine goes.
	w.inputs["hostnames"] = []string{"vm-2"}
	w.apply()
	if got := w.instances(); len(got) != 1 || aws.ToString(got[0].InstanceId) != w.id(vm2) {
		t.Errorf("the machines are %+v", got)
	}
	if out, code := w.run("destroy", "-auto-approve"); code != 0 {
		t.Fatalf("destroy: %s", out)
	}
	if got := w.instances(); len(got) > 0 {
		t.Errorf("after the destruction, these machines run: %+v", got)
	}
	log := w.standin.Log()
	for _, want := range []string{
		"create aws_instance vm-1", "create aws_eip vm-2", "create aws_security_group lablink-sg", "update aws_key_pair lablink-key",
		"read aws_iam_role lablink-role", "delete aws_instance vm-1", "delete aws_cloudwatch_log_group /lablink/vm",
	} {
		if !slices.Contains(log, want) {
			t.Errorf("the log lacks %q", want)
		}
	}
}

func TestAWSProvider_Import(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t, "vm-1")
	w.apply()
	ids := map[string]string{
		"aws_security_group.vm": w.id("aws_security_group.vm"), "aws_key_pair.vm": "lablink-key", "aws_iam_role.vm": "lablink-role",
		"aws_iam_role_policy.vm": "lablink-role:lablink-policy", "aws_iam_instance_profile.vm": "lablink-profile", "aws_cloudwatch_log_group.vm": "/lablink/vm",
		"aws_cloudwatch_log_subscription_filter.vm": "/lablink/vm|lablink-filter",
		vm1: w.id(vm1), address1: w.id(address1),
	}
	imports := ""
	for to, id := range ids {
		imports += fmt.Sprintf("import {\n  to = %s\n  id = %q\n}\n", to, id)
	}
	w.fresh(imports)

	// As with the real provider: the key of a key pair cannot be read, and user data is taken for the attribute that is not configured.
	want := each("import", append(slices.Concat(taggedShared, untaggedShared), address1)...)
	want["aws_key_pair.vm"], want[vm1] = "import and replace", "import and update"
	if diff := cmp.Diff(want, w.plan()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	w.inputs["replace"] = true
	want[vm1] = "import and replace"
	want[address1] = "import and update"
	if diff := cmp.Diff(want, w.plan()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}

	// Where the configuration does not count, as in LabLink's module, there is nothing to change.
	w.edit(`resource "aws_instance" "vm" {`, "resource \"aws_instance\" \"vm\" {\n  lifecycle {\n    ignore_changes = all\n  }\n")
	want[vm1], want[address1] = "import", "import"
	if diff := cmp.Diff(want, w.plan()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	w.apply()

	w.fresh("import {\n  to = aws_iam_role.vm\n  id = \"another\"\n}\n")
	if out, code := w.run("plan"); code == 0 || !strings.Contains(out, "Cannot import non-existent remote object") {
		t.Errorf("plan of what is not there: %s", out)
	}
}

func TestAWSProvider_ChangesBehindItsBack(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t, "vm-1", "vm-2")
	w.apply()
	client := ec2.NewFromConfig(w.moto.Config(t))
	if _, err := client.TerminateInstances(t.Context(), &ec2.TerminateInstancesInput{InstanceIds: []string{w.id(vm1)}}); err != nil {
		t.Fatal(err)
	}
	// A machine that is stopped has no address, which AWS gives only to new ones.
	if _, err := client.StopInstances(t.Context(), &ec2.StopInstancesInput{InstanceIds: []string{w.id(vm2)}}); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{vm1: "create", address1: "update", vm2: "replace", `aws_eip.vm["vm-2"]`: "update"}
	if diff := cmp.Diff(want, w.plan()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	w.apply()
	if got := w.instances(); len(got) != 2 {
		t.Errorf("%d machines run", len(got))
	}
}

func TestAWSProvider_Full(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t, "vm-1")
	environ := w.environ
	w.environ = append(slices.Clone(environ), "AWS_STANDIN_FULL=*@us-west-2a, t3.micro@us-west-2b")
	if out, code := w.run("apply", "-auto-approve"); code == 0 || !strings.Contains(out, "InsufficientInstanceCapacity") {
		t.Errorf("apply without capacity: %s", out)
	}
	w.environ = environ
	w.standin.Full("g4dn.xlarge@*", "*@us-west-2a", "t3.micro@"+w.subnet)
	out, code := w.run("apply", "-auto-approve")
	for _, want := range []string{
		"creating EC2 Instance: operation error EC2: RunInstances, https response error StatusCode: 500, RequestID: ",
		"api error InsufficientInstanceCapacity: We currently do not have sufficient t3.micro capacity",
		"(us-west-2b)",
	} {
		if code == 0 || !strings.Contains(strings.Join(strings.Fields(out), " "), want) {
			t.Errorf("the output lacks %q: %s", want, out)
		}
	}
	if got := w.instances(); len(got) > 0 {
		t.Errorf("these machines run: %+v", got)
	}
	w.standin.Full("*@us-west-2a", "t3.large@*")
	w.apply()
}

func TestAWSProvider_WhatExistsAlready(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t, "vm-1")
	w.apply()
	w.fresh("")
	out, code := w.run("apply", "-auto-approve")
	for _, want := range []string{"InvalidGroup.Duplicate", "InvalidKeyPair.Duplicate", "EntityAlreadyExists", "ResourceAlreadyExistsException"} {
		if code == 0 || !strings.Contains(out, want) {
			t.Errorf("the output lacks %s: %s", want, out)
		}
	}
}

func TestAWSProvider_Hold(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t, "vm-1")
	held := func() *exec.Cmd {
		apply := w.command("apply", "-auto-approve")
		if err := apply.Start(); err != nil {
			t.Fatal(err)
		}
		return apply
	}
	w.standin.Hold("aws_instance-vm-1")
	apply := held()
	w.standin.Reached("aws_instance-vm-1")
	if len(w.instances()) != 1 || len(w.providers()) == 0 {
		t.Errorf("the machines are %+v, the providers %v", w.instances(), w.providers())
	}
	w.standin.Go("aws_instance-vm-1")
	if err := apply.Wait(); err != nil || w.id(vm1) == "" {
		t.Errorf("the apply ended with %v; Terraform knows %q", err, w.id(vm1))
	}

	w.inputs["hostnames"] = []string{"vm-1", "vm-2"}
	w.standin.Hold("aws_instance-vm-2")
	apply = held()
	w.standin.Reached("aws_instance-vm-2")
	if err := apply.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := apply.Wait(); err == nil {
		t.Error("Terraform was killed and does not mind")
	}
	Eventually(t, "the end of the provider", func() bool { return len(w.providers()) == 0 })
	if got := w.instances(); len(got) != 2 || w.id(vm2) != "" {
		t.Errorf("the machines are %+v, of which Terraform knows %q", got, w.id(vm2))
	}
}

// providers are the processes that work for this workspace.
func (w *workspace) providers() (found []int32) {
	w.t.Helper()
	all, err := process.ProcessesWithContext(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	for _, p := range all {
		path, err := p.Exe()
		environ, environErr := p.Environ()
		if err == nil && environErr == nil && strings.HasPrefix(filepath.Base(path), "terraform-provider-aws_v") && slices.Contains(environ, w.standin.Environ()[0]) {
			found = append(found, p.Pid)
		}
	}
	return found
}

func TestAWSVersion(t *testing.T) {
	t.Parallel()
	for constraint, want := range map[string]string{
		"~> 6.25": "6.25.0", "~> 6.4.1": "6.4.1", ">= 5.1, < 7.0": "5.1.0", "> 6.0": "", "6.1.2": "6.1.2", "!= 6.0, >= 5.9": "5.9.0",
	} {
		dir := t.TempDir()
		text := fmt.Sprintf("terraform {\n  required_providers {\n    aws = {\n      source = \"hashicorp/aws\"\n      version = %q\n    }\n  }\n}\n", constraint)
		if err := os.WriteFile(filepath.Join(dir, "main.tf"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := awsVersion(dir); got != want || (err == nil) != (want != "") {
			t.Errorf("the lowest of %q is %q, %v; want %q", constraint, got, err, want)
		}
	}
}
