package awsfleet

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"

	"lablink/internal/provision"
)

// shared lists what all machines have in common, as far as the module would make
// it. A killed Terraform may have made it, and would fail to make it again: its
// names can exist only once.
func (f *Fleet) shared(ctx context.Context) (things []provision.Thing, err error) {
	for _, look := range []func(context.Context) ([]provision.Thing, error){f.sharedEC2, f.sharedIAM, f.sharedLogs} {
		more, err := look(ctx)
		if err != nil {
			return nil, err
		}
		things = append(things, more...)
	}
	return things, nil
}

func (f *Fleet) sharedEC2(ctx context.Context) (things []provision.Thing, err error) {
	groups, err := f.securityGroups(ctx)
	if err != nil {
		return nil, err
	}
	vpc, err := f.network(ctx)
	if err != nil {
		return nil, err
	}
	for _, g := range groups {
		if aws.ToString(g.VpcId) != vpc {
			continue // there, it is in nobody's way
		}
		foreign := tagOf(g.Tags, tagFleet) != f.Installation
		things = append(things, provision.Thing{
			What: "the security group " + f.groupName(), ID: aws.ToString(g.GroupId), Address: "aws_security_group.lablink", Foreign: foreign,
		})
	}
	if f.Config.AWS.SSHPublicKey == "" {
		return things, nil
	}
	pairs, err := f.ec2.DescribeKeyPairs(ctx, &ec2.DescribeKeyPairsInput{Filters: []ec2types.Filter{filter("key-name", f.keyName())}})
	if err != nil {
		return nil, said("look for the key pair", err)
	}
	for _, p := range pairs.KeyPairs {
		things = append(things, provision.Thing{
			What: "the key pair " + f.keyName(), ID: f.keyName(), Address: "aws_key_pair.lablink[0]", Foreign: tagOf(p.Tags, tagFleet) != f.Installation,
		})
	}
	return things, nil
}

// securityGroups returns those of the fleet's name. Each VPC may have one.
func (f *Fleet) securityGroups(ctx context.Context) ([]ec2types.SecurityGroup, error) {
	out, err := f.ec2.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{Filters: []ec2types.Filter{filter("group-name", f.groupName())}})
	if err != nil {
		return nil, said("look for the security group", err)
	}
	return out.SecurityGroups, nil
}

func (f *Fleet) sharedIAM(ctx context.Context) (things []provision.Thing, err error) {
	role, err := f.iam.GetRole(ctx, &iam.GetRoleInput{RoleName: aws.String(f.roleName())})
	if err == nil {
		foreign := tagOfRole(role.Role.Tags) != f.Installation
		things = append(things, provision.Thing{
			What: "the IAM role " + f.roleName(), ID: f.roleName(), Address: "aws_iam_role.lablink", Foreign: foreign,
		})
		_, err = f.iam.GetRolePolicy(ctx, &iam.GetRolePolicyInput{RoleName: aws.String(f.roleName()), PolicyName: aws.String(f.roleName())})
		if err == nil {
			things = append(things, provision.Thing{
				What: "the policy of the IAM role " + f.roleName(), ID: f.roleName() + ":" + f.roleName(), Address: "aws_iam_role_policy.lablink", Foreign: foreign,
			})
		}
	}
	if err != nil && !isCode(err, "NoSuchEntity") {
		return nil, said("look for the IAM role", err)
	}
	profile, err := f.iam.GetInstanceProfile(ctx, &iam.GetInstanceProfileInput{InstanceProfileName: aws.String(f.profileName())})
	if err == nil {
		things = append(things, provision.Thing{
			What: "the instance profile " + f.profileName(), ID: f.profileName(), Address: "aws_iam_instance_profile.lablink",
			Foreign: tagOfRole(profile.InstanceProfile.Tags) != f.Installation,
		})
	} else if !isCode(err, "NoSuchEntity") {
		return nil, said("look for the instance profile", err)
	}
	return things, nil
}

// tagOfRole returns which fleet IAM says that something is of.
func tagOfRole(tags []iamtypes.Tag) string {
	for _, t := range tags {
		if aws.ToString(t.Key) == tagFleet {
			return aws.ToString(t.Value)
		}
	}
	return ""
}

func (f *Fleet) sharedLogs(ctx context.Context) (things []provision.Thing, err error) {
	if !f.makesLogGroup() {
		return nil, nil
	}
	group, err := f.findLogGroup(ctx)
	if err != nil || group == nil {
		return nil, err
	}
	things = append(things, *group)
	if f.Config.AWS.LogProcessorARN == "" {
		return things, nil
	}
	out, err := f.logs.DescribeSubscriptionFilters(ctx, &cloudwatchlogs.DescribeSubscriptionFiltersInput{
		LogGroupName: aws.String(f.logGroup()), FilterNamePrefix: aws.String(f.filterName()),
	})
	if err != nil {
		return nil, said("look for the subscription of "+f.logGroup(), err)
	}
	for _, s := range out.SubscriptionFilters {
		if aws.ToString(s.FilterName) == f.filterName() {
			things = append(things, provision.Thing{ // it has no tags of its own
				What: "the subscription " + f.filterName(), ID: f.logGroup() + "|" + f.filterName(),
				Address: "aws_cloudwatch_log_subscription_filter.lablink[0]", Foreign: group.Foreign,
			})
		}
	}
	return things, nil
}

// findLogGroup returns the fleet's log group, nil if there is none.
func (f *Fleet) findLogGroup(ctx context.Context) (*provision.Thing, error) {
	out, err := f.logs.DescribeLogGroups(ctx, &cloudwatchlogs.DescribeLogGroupsInput{LogGroupNamePrefix: aws.String(f.logGroup())})
	if err != nil {
		return nil, said("look for the log group", err)
	}
	for _, g := range out.LogGroups {
		if aws.ToString(g.LogGroupName) != f.logGroup() {
			continue
		}
		tags, err := f.logs.ListTagsForResource(ctx, &cloudwatchlogs.ListTagsForResourceInput{ResourceArn: g.LogGroupArn})
		if err != nil {
			return nil, said("read the tags of "+f.logGroup(), err)
		}
		return &provision.Thing{
			What: "the log group " + f.logGroup(), ID: f.logGroup(), Address: "aws_cloudwatch_log_group.lablink[0]",
			Foreign: tags.Tags[tagFleet] != f.Installation,
		}, nil
	}
	return nil, nil //nolint:nilnil // none is no error
}
