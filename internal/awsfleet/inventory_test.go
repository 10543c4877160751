package awsfleet_test

import (
	"cmp"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	diff "github.com/google/go-cmp/cmp"

	"lablink/internal/awsfleet"
	"lablink/internal/config"
	"lablink/internal/provision"
)

// tags are those of a thing of a VM.
func tags(kind types.ResourceType, environment, fleet, hostname string) []types.TagSpecification {
	spec := types.TagSpecification{ResourceType: kind}
	for k, v := range map[string]string{"lablink:environment": environment, "lablink:fleet": fleet, "lablink:hostname": hostname} {
		spec.Tags = append(spec.Tags, types.Tag{Key: aws.String(k), Value: aws.String(v)})
	}
	return []types.TagSpecification{spec}
}

// machine runs an instance.
func (s *site) machine(environment, fleet, hostname string) string {
	s.t.Helper()
	out, err := s.ec2.RunInstances(s.t.Context(), &ec2.RunInstancesInput{
		ImageId: aws.String(s.image("ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-amd64")), InstanceType: "t3.large",
		MinCount: aws.Int32(1), MaxCount: aws.Int32(1), TagSpecifications: tags(types.ResourceTypeInstance, environment, fleet, hostname),
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return *out.Instances[0].InstanceId
}

func (s *site) address(fleet, hostname string) (id, ip string) {
	s.t.Helper()
	out, err := s.ec2.AllocateAddress(s.t.Context(), &ec2.AllocateAddressInput{TagSpecifications: tags(types.ResourceTypeElasticIp, "ci-test", fleet, hostname)})
	if err != nil {
		s.t.Fatal(err)
	}
	return *out.AllocationId, *out.PublicIp
}

func inventory(t *testing.T, f *awsfleet.Fleet) []provision.Thing {
	t.Helper()
	things, err := f.Inventory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(things, func(a, b provision.Thing) int {
		return cmp.Or(cmp.Compare(a.Address, b.Address), cmp.Compare(a.ID, b.ID))
	})
	return things
}

// Machines are found by their tags, those of another database as foreign, and
// end when they are to.
func TestInventory_Machines(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(c *config.Config) { c.AWS.ElasticIPs = true })
	if got := inventory(t, s.Fleet); len(got) > 0 {
		t.Errorf("in an empty account: %+v", got)
	}
	one, two := s.machine("ci-test", installation, "lablink-client-1"), s.machine("ci-test", "another database", "lablink-client-2")
	three := s.machine("prod", installation, "lablink-client-3") // ENVIRONMENT had another name
	s.machine("prod", "another database", "lablink-client-5")
	gone := s.machine("ci-test", installation, "lablink-client-4")
	if _, err := s.ec2.TerminateInstances(t.Context(), &ec2.TerminateInstancesInput{InstanceIds: []string{gone}}); err != nil {
		t.Fatal(err)
	}
	id, ip := s.address(installation, "lablink-client-1")
	if _, err := s.ec2.AssociateAddress(t.Context(), &ec2.AssociateAddressInput{AllocationId: aws.String(id), InstanceId: aws.String(one)}); err != nil {
		t.Fatal(err)
	}
	alone, aloneIP := s.address(installation, "lablink-client-2")
	want := []provision.Thing{
		{Hostname: "lablink-client-1", What: "Elastic IP " + ip, ID: id, Address: `aws_eip.lablink_vm["lablink-client-1"]`},
		{Hostname: "lablink-client-2", What: "Elastic IP " + aloneIP, ID: alone, Address: `aws_eip.lablink_vm["lablink-client-2"]`, Useless: true},
		{Hostname: "lablink-client-1", What: "instance " + one, ID: one, Address: `aws_instance.lablink_vm["lablink-client-1"]`},
		{Hostname: "lablink-client-2", What: "instance " + two, ID: two, Address: `aws_instance.lablink_vm["lablink-client-2"]`, Foreign: true},
		{Hostname: "lablink-client-3", What: "instance " + three, ID: three, Address: `aws_instance.lablink_vm["lablink-client-3"]`},
	}
	got := inventory(t, s.Fleet)
	if d := diff.Diff(want, got); d != "" {
		t.Fatal(d)
	}
	for _, thing := range append(got[:3:3], got[4]) {
		for range 2 { // what has ended already has ended
			if err := s.End(t.Context(), thing); err != nil {
				t.Errorf("%s: %v", thing.What, err)
			}
		}
	}
	if got := inventory(t, s.Fleet); len(got) != 1 || got[0].ID != two {
		t.Errorf("left: %+v", got)
	}
	err := s.End(t.Context(), provision.Thing{What: "the log group x", Address: "aws_cloudwatch_log_group.lablink[0]", ID: "x"})
	refused(t, err, "the log group x is shared by all VMs")
}

// What all machines share is found by the names that the module gives it, and
// only where the module would make it.
func TestInventory_Shared(t *testing.T) {
	t.Parallel()
	var c *config.Config
	s := newSite(t, func(cfg *config.Config) { c = cfg })
	ctx := t.Context()
	const pair = "lablink_key_pair_client_ci-test_9de8a231"
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	subnets, err := s.ec2.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{})
	must(subnets, err)
	group, err := s.ec2.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{
		GroupName: aws.String("lablink_client_ci-test_sg"), Description: aws.String("x"), VpcId: subnets.Subnets[0].VpcId,
		TagSpecifications: tags(types.ResourceTypeSecurityGroup, "ci-test", installation, ""),
	})
	must(group, err)
	must(s.ec2.CreateKeyPair(ctx, &ec2.CreateKeyPairInput{KeyName: aws.String(pair)})) // somebody else's
	roles, logs := iam.NewFromConfig(s.aws), cloudwatchlogs.NewFromConfig(s.aws)
	const role, profile = "lablink_cloud_watch_agent_role_ci-test", "lablink_client_instance_profile_ci-test"
	mine := []iamtypes.Tag{{Key: aws.String("lablink:fleet"), Value: aws.String(installation)}}
	must(roles.CreateRole(ctx, &iam.CreateRoleInput{RoleName: aws.String(role), AssumeRolePolicyDocument: aws.String("{}"), Tags: mine}))
	must(roles.CreateInstanceProfile(ctx, &iam.CreateInstanceProfileInput{InstanceProfileName: aws.String(profile)}))
	must(logs.CreateLogGroup(ctx, &cloudwatchlogs.CreateLogGroupInput{
		LogGroupName: aws.String("lablink-cloud-init-ci-test"), Tags: map[string]string{"lablink:fleet": installation},
	}))
	must(logs.CreateLogGroup(ctx, &cloudwatchlogs.CreateLogGroupInput{LogGroupName: aws.String("lablink-cloud-init-ci-test-2")}))

	want := []provision.Thing{
		{What: "the log group lablink-cloud-init-ci-test", ID: "lablink-cloud-init-ci-test", Address: "aws_cloudwatch_log_group.lablink[0]"},
		{What: "the instance profile " + profile, ID: profile, Address: "aws_iam_instance_profile.lablink", Foreign: true},
		{What: "the IAM role " + role, ID: role, Address: "aws_iam_role.lablink"},
		{What: "the security group lablink_client_ci-test_sg", ID: *group.GroupId, Address: "aws_security_group.lablink"},
	}
	if d := diff.Diff(want, inventory(t, s.Fleet)); d != "" {
		t.Error(d)
	}

	must(roles.PutRolePolicy(ctx, &iam.PutRolePolicyInput{
		RoleName: aws.String(role), PolicyName: aws.String(role),
		PolicyDocument: aws.String(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"logs:PutLogEvents","Resource":"*"}]}`),
	}))
	c.AWS.SSHPublicKey = "ssh-ed25519 AAAA"
	c.CloudInitLogGroup = "lablink-cloud-init-ci-test" // now it is the infrastructure's
	want = []provision.Thing{
		{What: "the instance profile " + profile, ID: profile, Address: "aws_iam_instance_profile.lablink", Foreign: true},
		{What: "the IAM role " + role, ID: role, Address: "aws_iam_role.lablink"},
		{What: "the policy of the IAM role " + role, ID: role + ":" + role, Address: "aws_iam_role_policy.lablink"},
		{What: "the key pair " + pair, ID: pair, Address: "aws_key_pair.lablink[0]", Foreign: true},
		{What: "the security group lablink_client_ci-test_sg", ID: *group.GroupId, Address: "aws_security_group.lablink"},
	}
	if d := diff.Diff(want, inventory(t, s.Fleet)); d != "" {
		t.Error(d)
	}

	// Machines can be destroyed whatever has become of the subnets.
	c.AWS.Subnets = []string{"subnet-0123456789abcdef0"}
	_, inputs, err := s.Prepare(ctx)
	if err != nil || inputs["vpc_id"] != *subnets.Subnets[0].VpcId {
		t.Errorf("inputs %v, error %v", inputs, err)
	}
	must(s.ec2.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: group.GroupId}))
	_, _, err = s.Prepare(ctx)
	refused(t, err, "subnet-0123456789abcdef0")
}

func TestNew_Refused(t *testing.T) {
	t.Parallel()
	for words, change := range map[string]func(*config.Config){
		`ENVIRONMENT: "über" becomes part of names on AWS`: func(c *config.Config) { c.Environment = "über" },
		"set server.public_url":                            func(c *config.Config) { c.Server.PublicURL = "" },
	} {
		_, err := awsfleet.New(awsfleet.Options{Account: account{aws.Config{}}, Config: settings(t, change)})
		refused(t, err, words)
	}
}
