package awsfleet

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go"

	"lablink/internal/provision"
)

// Resources of the module that belong to single VMs.
const (
	instanceResource = "aws_instance.lablink_vm"
	addressResource  = "aws_eip.lablink_vm"
)

// Inventory implements provision.Cloud.
func (f *Fleet) Inventory(ctx context.Context) ([]provision.Thing, error) {
	instances, err := f.instances(ctx)
	if err != nil {
		return nil, err
	}
	addresses, err := f.addresses(ctx)
	if err != nil {
		return nil, err
	}
	shared, err := f.shared(ctx)
	if err != nil {
		return nil, err
	}
	return append(append(instances, addresses...), shared...), nil
}

// owned are the filters that find what may be in a VM's way: what this LabLink has
// made, under whatever name of the environment, and what others have made in this
// one. A filter cannot say "or".
func (f *Fleet) owned() [][]types.Filter {
	return [][]types.Filter{
		{filter("tag:"+tagFleet, f.Installation), filter("tag-key", tagHostname)},
		{filter("tag:"+tagEnvironment, f.Config.Environment), filter("tag-key", tagHostname)},
	}
}

// instances are all that run, or may again.
func (f *Fleet) instances(ctx context.Context) (things []provision.Thing, err error) {
	seen := map[string]bool{}
	for _, owned := range f.owned() {
		in := &ec2.DescribeInstancesInput{Filters: append(owned, filter("instance-state-name", "pending", "running", "stopping", "stopped"))}
		for pages := ec2.NewDescribeInstancesPaginator(f.ec2, in); pages.HasMorePages(); {
			page, err := pages.NextPage(ctx)
			if err != nil {
				return nil, said("list the instances", err)
			}
			for _, r := range page.Reservations {
				for _, i := range r.Instances {
					if id := aws.ToString(i.InstanceId); !seen[id] {
						seen[id] = true
						things = append(things, f.thing(i.Tags, "instance "+id, id, instanceResource))
					}
				}
			}
		}
	}
	return things, nil
}

// addresses are the Elastic IPs.
func (f *Fleet) addresses(ctx context.Context) (things []provision.Thing, err error) {
	seen := map[string]bool{}
	for _, owned := range f.owned() {
		out, err := f.ec2.DescribeAddresses(ctx, &ec2.DescribeAddressesInput{Filters: owned})
		if err != nil {
			return nil, said("list the Elastic IPs", err)
		}
		for _, a := range out.Addresses {
			id := aws.ToString(a.AllocationId)
			if seen[id] {
				continue
			}
			seen[id] = true
			t := f.thing(a.Tags, "Elastic IP "+aws.ToString(a.PublicIp), id, addressResource)
			// Terraform would leave one that it has not given to its machine as it is.
			t.Useless = a.AssociationId == nil || !f.Config.AWS.ElasticIPs
			things = append(things, t)
		}
	}
	return things, nil
}

// thing is one of a VM's.
func (f *Fleet) thing(tags []types.Tag, what, id, resource string) provision.Thing {
	hostname := tagOf(tags, tagHostname)
	return provision.Thing{
		Hostname: hostname, What: what, ID: id, Address: fmt.Sprintf("%s[%q]", resource, hostname),
		Foreign: tagOf(tags, tagFleet) != f.Installation,
	}
}

func tagOf(tags []types.Tag, key string) string {
	for _, t := range tags {
		if aws.ToString(t.Key) == key {
			return aws.ToString(t.Value)
		}
	}
	return ""
}

// End implements provision.Cloud.
func (f *Fleet) End(ctx context.Context, t provision.Thing) error {
	var err error
	switch {
	case strings.HasPrefix(t.Address, instanceResource+"["):
		_, err = f.ec2.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: []string{t.ID}})
	case strings.HasPrefix(t.Address, addressResource+"["):
		err = f.release(ctx, t.ID)
	default:
		return fmt.Errorf("%s is shared by all VMs", t.What)
	}
	if err != nil && !isCode(err, "InvalidInstanceID.NotFound", "InvalidAllocationID.NotFound") {
		return said("end "+t.What+" of "+t.Hostname, err)
	}
	return nil
}

// release gives an Elastic IP back, after taking it from whatever has it.
func (f *Fleet) release(ctx context.Context, id string) error {
	out, err := f.ec2.DescribeAddresses(ctx, &ec2.DescribeAddressesInput{AllocationIds: []string{id}})
	if err != nil {
		return err
	}
	for _, a := range out.Addresses {
		if a.AssociationId == nil {
			continue
		}
		_, err := f.ec2.DisassociateAddress(ctx, &ec2.DisassociateAddressInput{AssociationId: a.AssociationId})
		if err != nil && !isCode(err, "InvalidAssociationID.NotFound") {
			return err
		}
	}
	_, err = f.ec2.ReleaseAddress(ctx, &ec2.ReleaseAddressInput{AllocationId: aws.String(id)})
	return err
}

// isCode reports whether AWS has answered with one of these codes.
func isCode(err error, codes ...string) bool {
	answer, ok := errors.AsType[smithy.APIError](err)
	if !ok {
		return false
	}
	for _, code := range codes {
		if answer.ErrorCode() == code {
			return true
		}
	}
	return false
}

// said says what AWS answered, in a line and without what only a developer of
// the SDK can use.
func said(what string, err error) error {
	answer, ok := errors.AsType[smithy.APIError](err)
	if !ok {
		return fmt.Errorf("%s: %w", what, err)
	}
	hint := ""
	switch {
	case isCode(err, "UnauthorizedOperation", "AccessDenied", "AccessDeniedException"):
		hint = " (docs/aws.md lists the rights that LabLink needs)"
	case isCode(err, "ExpiredToken", "ExpiredTokenException", "RequestExpired", "AuthFailure", "InvalidClientTokenId", "UnrecognizedClientException"):
		hint = " (enter the credentials on the page AWS, /admin/aws, then retry)"
	}
	return &answerError{fmt.Sprintf("%s: AWS says %s: %s%s", what, answer.ErrorCode(), answer.ErrorMessage(), hint), err}
}

// answerError is an error in words for people.
type answerError struct {
	text string
	err  error
}

// Error implements error.
func (e *answerError) Error() string { return e.text }

// Unwrap returns the SDK's error.
func (e *answerError) Unwrap() error { return e.err }
