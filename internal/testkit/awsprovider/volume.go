package main

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

var volumes = kind{
	name: "aws_ebs_volume", called: "EBS Volume", gone: []string{"InvalidVolume.NotFound"},
	attributes: map[string]attribute{
		"arn":               text(computed),
		"availability_zone": text(required | replaces),
		"encrypted":         {is: types.BoolType, how: optional | computed | replaces},
		"size":              {is: types.Int64Type, how: optional | computed},
		"type":              text(optional | computed),
	},
	create: func(ctx context.Context, c *clients, r record) error {
		out, err := c.ec2.CreateVolume(ctx, &ec2.CreateVolumeInput{
			AvailabilityZone: r.optional("availability_zone"), Encrypted: r.flag("encrypted"), Size: r.number("size"),
			VolumeType: ec2types.VolumeType(r.text("type")), TagSpecifications: specify(r, ec2types.ResourceTypeVolume),
		})
		if err != nil {
			return err
		}
		r["id"] = aws.ToString(out.VolumeId)
		return nil
	},
	read: func(ctx context.Context, c *clients, r record) (bool, error) {
		out, err := c.ec2.DescribeVolumes(ctx, &ec2.DescribeVolumesInput{VolumeIds: []string{r.text("id")}})
		if err != nil || len(out.Volumes) == 0 {
			return false, err
		}
		v := out.Volumes[0]
		r["arn"], r["availability_zone"] = "arn:aws:ec2:"+c.ec2.Options().Region+"::volume/"+r.text("id"), aws.ToString(v.AvailabilityZone)
		r["encrypted"], r["size"], r["type"] = aws.ToBool(v.Encrypted), int64(aws.ToInt32(v.Size)), string(v.VolumeType)
		r.tagged(fromEC2(v.Tags))
		return true, nil
	},
	remove: func(ctx context.Context, c *clients, r record) error {
		return failure(c.ec2.DeleteVolume(ctx, &ec2.DeleteVolumeInput{VolumeId: aws.String(r.text("id"))}))
	},
	tag: tagEC2("id"),
}.complete()

var volumeAttachments = kind{
	name: "aws_volume_attachment", called: "EBS Volume Attachment", label: "volume_id", gone: []string{"InvalidVolume.NotFound"},
	attributes: map[string]attribute{
		"device_name":                    text(required | replaces),
		"instance_id":                    text(required | replaces),
		"stop_instance_before_detaching": {is: types.BoolType, how: optional},
		"volume_id":                      text(required | replaces),
	},
	create: func(ctx context.Context, c *clients, r record) error {
		return failure(c.ec2.AttachVolume(ctx, &ec2.AttachVolumeInput{
			Device: r.optional("device_name"), InstanceId: r.optional("instance_id"), VolumeId: r.optional("volume_id"),
		}))
	},
	read: func(ctx context.Context, c *clients, r record) (bool, error) {
		out, err := c.ec2.DescribeVolumes(ctx, &ec2.DescribeVolumesInput{VolumeIds: []string{r.text("volume_id")}})
		if err != nil || len(out.Volumes) == 0 {
			return false, err
		}
		for _, a := range out.Volumes[0].Attachments {
			if aws.ToString(a.InstanceId) == r.text("instance_id") {
				return true, nil
			}
		}
		return false, nil
	},
	remove: func(ctx context.Context, c *clients, r record) error {
		if r["stop_instance_before_detaching"] == true {
			ids := []string{r.text("instance_id")}
			if _, err := c.ec2.StopInstances(ctx, &ec2.StopInstancesInput{InstanceIds: ids}); err != nil {
				return err
			}
			if err := ec2.NewInstanceStoppedWaiter(c.ec2).Wait(ctx, &ec2.DescribeInstancesInput{InstanceIds: ids}, patience); err != nil {
				return err
			}
		}
		return failure(c.ec2.DetachVolume(ctx, &ec2.DetachVolumeInput{InstanceId: r.optional("instance_id"), VolumeId: r.optional("volume_id")}))
	},
}.complete()

var addressAssociations = kind{
	name: "aws_eip_association", called: "EC2 EIP Association", label: "allocation_id", gone: []string{"InvalidAllocationID.NotFound"},
	attributes: map[string]attribute{
		"allocation_id": text(required | replaces),
		"instance_id":   text(required | replaces),
	},
	create: func(ctx context.Context, c *clients, r record) error {
		out, err := c.ec2.AssociateAddress(ctx, &ec2.AssociateAddressInput{AllocationId: r.optional("allocation_id"), InstanceId: r.optional("instance_id")})
		if err != nil {
			return err
		}
		r["id"] = aws.ToString(out.AssociationId)
		return nil
	},
	read: func(ctx context.Context, c *clients, r record) (bool, error) {
		out, err := c.ec2.DescribeAddresses(ctx, &ec2.DescribeAddressesInput{AllocationIds: []string{r.text("allocation_id")}})
		return err == nil && len(out.Addresses) > 0 && aws.ToString(out.Addresses[0].InstanceId) == r.text("instance_id"), err
	},
	remove: func(ctx context.Context, c *clients, r record) error {
		return c.disassociate(ctx, record{"association_id": r["id"]})
	},
}.complete()
