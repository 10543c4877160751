package awsfleet_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/jackc/pgx/v5"

	"lablink/internal/awsaccount"
	"lablink/internal/config"
	"lablink/internal/server"
	"lablink/internal/testkit"
)

// lab is an allocator whose machines are in an emulated AWS.
type lab struct {
	*testkit.Allocator

	t        *testing.T
	moto     *testkit.MotoServer
	provider *testkit.Standin
	account  *awsaccount.Account
	ec2      *ec2.Client
	dataDir  string
}

func newLab(t *testing.T, change func(*config.Config)) *lab {
	t.Helper()
	l := &lab{t: t, moto: testkit.Moto(t)}
	l.provider = testkit.AWSProvider(t, l.moto)
	l.ec2 = ec2.NewFromConfig(l.moto.Config(t))
	l.serve("", change)
	return l
}

// serve starts an allocator, in place of one that has stopped if there is a
// database already.
func (l *lab) serve(databaseURL string, change func(*config.Config)) {
	l.t.Helper()
	account, err := awsaccount.Open(l.t.Context(), awsaccount.Options{Region: testkit.MotoRegion, Endpoint: l.moto.URL})
	if err != nil {
		l.t.Fatal(err)
	}
	keys, err := l.moto.Config(l.t).Credentials.Retrieve(l.t.Context())
	if err != nil {
		l.t.Fatal(err)
	}
	if _, err := account.Enter(l.t.Context(), awsaccount.Keys{AccessKeyID: keys.AccessKeyID, SecretAccessKey: keys.SecretAccessKey}); err != nil {
		l.t.Fatal(err)
	}
	l.account = account
	l.Allocator = testkit.Serve(l.t, testkit.ServeOptions{
		DatabaseURL: databaseURL,
		Configure: func(c *config.Config) {
			l.dataDir = c.DataDir
			c.Provider, c.Environment, c.App.Region, c.AWS.Endpoint = config.ProviderAWS, "ci-test", testkit.MotoRegion, l.moto.URL
			c.Machine.Image, c.Machine.AMIID, c.Machine.MachineType = "registry.example.org/lablink-client:1", config.AutoImage, "t3.large"
			c.Server.PublicURL, c.Provision.Terraform = "https://lablink.example.org", l.terraform()
			if change != nil {
				change(c)
			}
		},
		Adjust: func(s *server.Server) { s.AWS, s.TerraformGrace = account, time.Second },
	})
}

// terraform is the real one, in the environment of this test: that of the process
// belongs to all of them.
func (l *lab) terraform() string {
	path := filepath.Join(l.t.TempDir(), "terraform")
	script := "#!/bin/sh\n"
	for _, entry := range append(l.provider.Environ(), "TF_CLI_CONFIG_FILE="+l.provider.CLIConfig) {
		name, value, _ := strings.Cut(entry, "=")
		script += fmt.Sprintf("export %s='%s'\n", name, value)
	}
	if err := os.WriteFile(path, []byte(script+"exec "+testkit.Terraform(l.t)+` "$@"`+"\n"), 0o700); err != nil {
		l.t.Fatal(err)
	}
	return path
}

// machines are the instances by hostname, of any state that costs money.
func (l *lab) machines() map[string][]types.Instance {
	l.t.Helper()
	out, err := l.ec2.DescribeInstances(l.t.Context(), &ec2.DescribeInstancesInput{Filters: []types.Filter{
		{Name: aws.String("instance-state-name"), Values: []string{"pending", "running", "stopping", "stopped"}},
	}})
	if err != nil {
		l.t.Fatal(err)
	}
	found := map[string][]types.Instance{}
	for _, r := range out.Reservations {
		for _, i := range r.Instances {
			hostname := tag(i.Tags, "lablink:hostname")
			found[hostname] = append(found[hostname], i)
		}
	}
	return found
}

func tag(tags []types.Tag, key string) string {
	for _, t := range tags {
		if *t.Key == key {
			return *t.Value
		}
	}
	return ""
}

// has fails unless there is one machine for each of these numbers, and no other.
func (l *lab) has(numbers ...int) map[string][]types.Instance {
	l.t.Helper()
	var want, got []string
	for _, n := range numbers {
		want = append(want, fmt.Sprintf("lablink-client-%d", n))
	}
	found := l.machines()
	for hostname, instances := range found {
		for range instances {
			got = append(got, hostname)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		l.t.Errorf("machines of %v, want %v", got, want)
	}
	return found
}

// ends waits for an operation, which is to end so.
func (l *lab) ends(op testkit.Operation, state string) testkit.Operation {
	l.t.Helper()
	op = l.Ended(op.ID)
	if op.State != state {
		var b strings.Builder
		_ = l.Store.Output(l.t.Context(), op.ID, 0, &b) // as far as there is some
		l.t.Fatalf("operation: %+v\n%s", op, b.String())
	}
	return op
}

// retry tries the failed VMs of an operation again.
func (l *lab) retry(id int64) (op testkit.Operation) {
	l.t.Helper()
	r := l.Do(l.t.Context(), testkit.Request{Path: fmt.Sprintf("/api/operations/%d/retry", id), Admin: true, JSON: struct{}{}})
	r.JSON(l.t, &op)
	return op
}

func (l *lab) strays() []string {
	l.t.Helper()
	strays, err := l.Store.Strays(l.t.Context(), "aws")
	if err != nil {
		l.t.Fatal(err)
	}
	return strays
}

// id returns what the row of a VM says of its machine.
func (l *lab) id(hostname string) string {
	l.t.Helper()
	rows, err := l.Store.LiveVMs(l.t.Context(), "aws")
	if err != nil {
		l.t.Fatal(err)
	}
	return rows[hostname].Machine
}

// A fleet is launched, grows, and goes again; an older machine never changes.
func TestAWS_LaunchAndDestroy(t *testing.T) {
	t.Parallel()
	l := newLab(t, func(c *config.Config) { c.AWS.ElasticIPs = true })
	op := l.ends(l.Launch(3), "succeeded")
	machines := l.has(1, 2, 3)
	zones := map[string]bool{}
	for hostname, m := range machines {
		i := m[0]
		zones[*i.Placement.AvailabilityZone] = true
		for key, want := range map[string]string{
			"Name": hostname, "Environment": "ci-test", "lablink:environment": "ci-test", "lablink:operation": fmt.Sprint(op.ID),
		} {
			if got := tag(i.Tags, key); got != want {
				t.Errorf("tag %s of %s is %q", key, hostname, got)
			}
		}
		if l.id(hostname) != *i.InstanceId {
			t.Errorf("the row of %s knows %q, it is %s", hostname, l.id(hostname), *i.InstanceId)
		}
	}
	if len(zones) != 3 {
		t.Errorf("three machines are in %v", zones)
	}
	addresses, err := l.ec2.DescribeAddresses(t.Context(), &ec2.DescribeAddressesInput{})
	if err != nil || len(addresses.Addresses) != 3 {
		t.Errorf("%d Elastic IPs, %v", len(addresses.Addresses), err)
	}

	l.ends(l.Launch(2), "succeeded")
	for hostname, m := range l.has(1, 2, 3, 4, 5) {
		if was := machines[hostname]; len(was) > 0 && *was[0].InstanceId != *m[0].InstanceId {
			t.Errorf("%s is another machine", hostname)
		}
	}
	for _, line := range l.provider.Log() {
		if strings.HasPrefix(line, "update") || strings.HasPrefix(line, "delete") {
			t.Errorf("a launch did this: %s", line)
		}
	}
	l.ends(l.Destroy("lablink-client-2"), "succeeded")
	l.has(1, 3, 4, 5)
	l.ends(l.DestroyAll(4), "succeeded")
	l.has()
	if addresses, err = l.ec2.DescribeAddresses(t.Context(), &ec2.DescribeAddressesInput{}); err != nil || len(addresses.Addresses) > 0 {
		t.Errorf("%d Elastic IPs are left, %v", len(addresses.Addresses), err)
	}
	l.ends(l.Launch(1), "succeeded") // what is shared is there already
	l.has(6)
}

// What AWS has beyond Terraform's state ends, or is listed.
func TestAWS_Strays(t *testing.T) {
	t.Parallel()
	l := newLab(t, nil)
	l.ends(l.Launch(2), "succeeded")
	l.ends(l.Destroy("lablink-client-2"), "succeeded")
	installation, err := l.Store.Installation(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, ec2: l.ec2}
	keep := *l.machines()["lablink-client-1"][0].InstanceId
	double := s.machine("ci-test", installation, "lablink-client-1")
	destroyed := s.machine("ci-test", installation, "lablink-client-2")
	unknown := s.machine("ci-test", installation, "lablink-client-77")
	foreign := s.machine("ci-test", "another database", "lablink-client-1")
	l.ends(l.Launch(1), "succeeded")
	var left []string
	for _, m := range l.machines() {
		for _, i := range m {
			left = append(left, *i.InstanceId)
		}
	}
	for id, want := range map[string]bool{keep: true, double: false, destroyed: false, unknown: true, foreign: true} {
		if slices.Contains(left, id) != want {
			t.Errorf("instance %s is there: %v; keep %s, double %s, destroyed %s, unknown %s, foreign %s", id, !want, keep, double, destroyed, unknown, foreign)
		}
	}
	if got, want := l.strays(), []string{"lablink-client-1 (instance " + foreign + " of another LabLink)", "lablink-client-77"}; !slices.Equal(got, want) {
		t.Errorf("strays %v, want %v", got, want)
	}
}

// Where there is no room, the next zone and then the next type is tried, and each
// VM tells what EC2 said.
func TestAWS_NoRoom(t *testing.T) {
	t.Parallel()
	l := newLab(t, func(c *config.Config) {
		c.AWS.Zones, c.AWS.InstanceTypes = []string{"us-west-2a", "us-west-2b"}, []string{"t3.medium"}
	})
	l.provider.Full("t3.large@us-west-2a")
	op := l.ends(l.Launch(2), "succeeded")
	for _, m := range l.has(1, 2) {
		if *m[0].Placement.AvailabilityZone != "us-west-2b" || m[0].InstanceType != "t3.large" {
			t.Errorf("a %s in %s", m[0].InstanceType, *m[0].Placement.AvailabilityZone)
		}
	}
	if a, b := op.VMs[0].Message, op.VMs[1].Message; !strings.HasPrefix(a, "Made as t3.large in us-west-2b, because others had no room.\nt3.large in us-west-2a: ") ||
		!strings.Contains(a, "InsufficientInstanceCapacity") || b != "" {
		t.Errorf("it says %q and %q", a, b)
	}
	l.provider.Full("t3.large@*", "t3.medium@us-west-2a")
	op = l.ends(l.Launch(1), "succeeded")
	if m := l.has(1, 2, 3)["lablink-client-3"][0]; *m.Placement.AvailabilityZone != "us-west-2b" || m.InstanceType != "t3.medium" {
		t.Errorf("a %s in %s: %+v", m.InstanceType, *m.Placement.AvailabilityZone, op.VMs)
	}
	if rows, err := l.Store.LiveVMs(t.Context(), "aws"); err != nil || rows["lablink-client-3"].InstanceType != "t3.medium" {
		t.Errorf("the row says %+v, %v", rows["lablink-client-3"], err)
	}
	l.provider.Full("*@*")
	op = l.ends(l.Launch(1), "failed")
	if m := op.VMs[0].Message; op.VMs[0].State != "failed" || !strings.Contains(m, "no room anywhere") || strings.Count(m, "InsufficientInstanceCapacity") != 4 {
		t.Errorf("%+v", op)
	}
	l.has(1, 2, 3)

	// Tried again, it is made afresh: nobody knows the token of what is left of it.
	installation, err := l.Store.Installation(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	left := (&site{t: t, ec2: l.ec2}).machine("ci-test", installation, "lablink-client-4")
	l.provider.Full()
	l.ends(l.retry(op.ID), "succeeded")
	if m := l.has(1, 2, 3, 4)["lablink-client-4"][0]; *m.InstanceId == left {
		t.Error("what was left of the VM was taken for it")
	}
}

// What concerns all VMs is said before anything is changed.
func TestAWS_Refused(t *testing.T) {
	t.Parallel()
	configure := func(c *config.Config) { c.AWS.ElasticIPs = true }
	l := newLab(t, nil)
	l.ends(l.Launch(1), "succeeded")
	l.Stop()
	l.serve(l.DatabaseURL, configure)
	op := l.ends(l.Launch(1), "failed")
	if !strings.Contains(op.Error, "Terraform would change, destroy or replace lablink-client-1, which this operation did not ask for") {
		t.Errorf("error: %s", op.Error)
	}
	l.has(1)
}

// Names that are somebody else's are said before anything is changed.
func TestAWS_Foreign(t *testing.T) {
	t.Parallel()
	l := newLab(t, nil)
	roles := iam.NewFromConfig(l.moto.Config(t))
	role := aws.String("lablink_cloud_watch_agent_role_ci-test")
	if _, err := roles.CreateRole(t.Context(), &iam.CreateRoleInput{RoleName: role, AssumeRolePolicyDocument: aws.String("{}")}); err != nil {
		t.Fatal(err)
	}
	op := l.ends(l.Launch(1), "failed")
	if !strings.Contains(op.Error, "there already is the IAM role "+*role+", which this LabLink has not made") || !strings.Contains(op.Error, "ENVIRONMENT") {
		t.Errorf("error: %s", op.Error)
	}
	l.has()
	if log := l.provider.Log(); slices.ContainsFunc(log, func(line string) bool { return strings.HasPrefix(line, "create") }) {
		t.Errorf("it did: %v", log)
	}
	if _, err := roles.DeleteRole(t.Context(), &iam.DeleteRoleInput{RoleName: role}); err != nil {
		t.Fatal(err)
	}
	l.ends(l.Launch(1), "succeeded")
	l.has(2)
}

// Without credentials an operation says so, and can be tried again with them.
func TestAWS_Credentials(t *testing.T) {
	t.Parallel()
	l := newLab(t, nil)
	keys, err := l.account.Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	l.account.Forget()
	op := l.ends(l.Launch(1), "failed")
	if !strings.Contains(op.Error, "enter the credentials") || !strings.Contains(op.Error, "then retry") {
		t.Errorf("error: %s", op.Error)
	}
	if _, err := l.account.Enter(t.Context(), awsaccount.Keys{AccessKeyID: keys.AccessKeyID, SecretAccessKey: keys.SecretAccessKey}); err != nil {
		t.Fatal(err)
	}
	again := l.ends(l.retry(op.ID), "succeeded")
	l.has(1)
	if strings.Contains(l.Log.String(), keys.SecretAccessKey) {
		t.Error("the secret key is in the log")
	}
	var b strings.Builder
	if err := l.Store.Output(t.Context(), again.ID, 0, &b); err != nil || strings.Contains(b.String(), keys.SecretAccessKey) {
		t.Errorf("the secret key is in the output, or %v", err)
	}
	if found := grep(t, l.dataDir, keys.SecretAccessKey); len(found) > 0 {
		t.Errorf("the secret key is in %v", found)
	}
}

// With the credentials of another account, nothing would be found, and every VM
// would count as gone.
func TestAWS_OtherAccount(t *testing.T) {
	t.Parallel()
	l := newLab(t, nil)
	l.ends(l.Launch(1), "succeeded")
	enter := func(m *testkit.MotoServer) {
		t.Helper()
		keys, err := m.Config(t).Credentials.Retrieve(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.account.Enter(t.Context(), awsaccount.Keys{AccessKeyID: keys.AccessKeyID, SecretAccessKey: keys.SecretAccessKey}); err != nil {
			t.Fatal(err)
		}
	}
	other := testkit.Moto(t)
	enter(other)
	op := l.ends(l.DestroyAll(1), "failed")
	if !strings.Contains(op.Error, "the VMs are in the AWS account "+l.moto.Account+", and these credentials are of "+other.Account) {
		t.Errorf("error: %s", op.Error)
	}
	l.has(1)
	enter(l.moto)
	l.ends(l.retry(op.ID), "succeeded")
	l.has()
	enter(other) // where there is none left, another one will do
	if op = l.Ended(l.Launch(1).ID); strings.Contains(op.Error, "the VMs are in the AWS account") {
		t.Errorf("error: %s", op.Error)
	}
}

// The environment has another name, and with it Terraform's state is another one:
// VMs are found by their own tags.
func TestAWS_OtherEnvironment(t *testing.T) {
	t.Parallel()
	l := newLab(t, func(c *config.Config) { c.AWS.ElasticIPs = true })
	l.ends(l.Launch(1), "succeeded")
	l.Stop()
	conn, err := pgx.Connect(t.Context(), l.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }() // only used here
	if _, err := conn.Exec(t.Context(), `DROP SCHEMA terraform_aws CASCADE`); err != nil {
		t.Fatal(err)
	}
	l.serve(l.DatabaseURL, func(c *config.Config) { c.Environment, c.AWS.ElasticIPs = "renamed", true })
	l.ends(l.DestroyAll(1), "succeeded")
	l.has()
	addresses, err := l.ec2.DescribeAddresses(t.Context(), &ec2.DescribeAddressesInput{})
	if err != nil || len(addresses.Addresses) > 0 {
		t.Errorf("%d Elastic IPs are left, %v", len(addresses.Addresses), err)
	}
}

// A database that was restored from an older copy does not know all machines. They
// are nobody else's, and stay.
func TestAWS_OlderDatabase(t *testing.T) {
	t.Parallel()
	l := newLab(t, nil)
	installation, err := l.Store.Installation(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	(&site{t: t, ec2: l.ec2}).machine("ci-test", installation, "lablink-client-2")
	if op := l.ends(l.Launch(2), "failed"); !strings.Contains(op.Error, "already holds lablink-client-2") {
		t.Errorf("error: %s", op.Error)
	}
	l.has(2)
	l.ends(l.Launch(1), "succeeded")
	l.has(2, 3)
	l.ends(l.DestroyAll(1), "succeeded")
	l.has(2)
	if got := l.strays(); !slices.Equal(got, []string{"lablink-client-2"}) {
		t.Errorf("strays: %v", got)
	}
}

// grep returns the files in a folder that hold a text.
func grep(t *testing.T, dir, text string) (found []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if strings.Contains(string(data), text) {
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
