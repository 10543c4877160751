package main

import (
	"context"
	"errors"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

func fromEC2(tags []ec2types.Tag) map[string]string {
	all := map[string]string{}
	for _, t := range tags {
		all[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	return all
}

func toEC2(tags map[string]string) (all []ec2types.Tag) {
	for key, value := range tags {
		all = append(all, ec2types.Tag{Key: aws.String(key), Value: aws.String(value)})
	}
	return all
}

// specify has EC2 tag what it makes, from the first moment.
func specify(r record, what ec2types.ResourceType) []ec2types.TagSpecification {
	if len(r.tags()) == 0 {
		return nil
	}
	return []ec2types.TagSpecification{{ResourceType: what, Tags: toEC2(r.tags())}}
}

// tagEC2 changes the tags of what that attribute names.
func tagEC2(id string) func(ctx context.Context, c *clients, r record, set map[string]string, remove []string) error {
	return func(ctx context.Context, c *clients, r record, set map[string]string, remove []string) error {
		ids, keys := []string{r.text(id)}, []ec2types.Tag{}
		for _, key := range remove {
			keys = append(keys, ec2types.Tag{Key: aws.String(key)})
		}
		return errors.Join(
			when(len(keys) > 0, func() error { return failure(c.ec2.DeleteTags(ctx, &ec2.DeleteTagsInput{Resources: ids, Tags: keys})) }),
			when(len(set) > 0, func() error {
				return failure(c.ec2.CreateTags(ctx, &ec2.CreateTagsInput{Resources: ids, Tags: toEC2(set)}))
			}),
		)
	}
}

// rootMapping is the order for the disk from which a machine starts, with the
// device name of the image's.
func (c *clients) rootMapping(ctx context.Context, r record) ([]ec2types.BlockDeviceMapping, error) {
	root := r.block("root_block_device")
	if root == nil {
		return nil, nil
	}
	out, err := c.ec2.DescribeImages(ctx, &ec2.DescribeImagesInput{ImageIds: []string{r.text("ami")}})
	if err != nil {
		return nil, err
	}
	return []ec2types.BlockDeviceMapping{{DeviceName: out.Images[0].RootDeviceName, Ebs: &ec2types.EbsBlockDevice{
		DeleteOnTermination: root.flag("delete_on_termination"), Encrypted: root.flag("encrypted"),
		VolumeSize: root.number("volume_size"), VolumeType: ec2types.VolumeType(root.text("volume_type")),
	}}}, nil
}

// readRoot reads that disk.
func (c *clients) readRoot(ctx context.Context, r record, i ec2types.Instance) error {
	for _, mapping := range i.BlockDeviceMappings {
		if aws.ToString(mapping.DeviceName) != aws.ToString(i.RootDeviceName) {
			continue
		}
		out, err := c.ec2.DescribeVolumes(ctx, &ec2.DescribeVolumesInput{VolumeIds: []string{aws.ToString(mapping.Ebs.VolumeId)}})
		if err != nil {
			return err
		}
		v, root := out.Volumes[0], record{"tags": r.block("root_block_device")["tags"]}
		root.tagged(fromEC2(v.Tags))
		r["root_block_device"] = []any{record{
			"delete_on_termination": aws.ToBool(mapping.Ebs.DeleteOnTermination), "device_name": aws.ToString(mapping.DeviceName),
			"encrypted": aws.ToBool(v.Encrypted), "tags": root["tags"], "volume_id": aws.ToString(v.VolumeId),
			"volume_size": int64(aws.ToInt32(v.Size)), "volume_type": string(v.VolumeType),
		}}
	}
	return nil
}

// tagRoot tags that disk, which the real provider does when the machine runs.
func (c *clients) tagRoot(ctx context.Context, r record) error {
	tags := r.block("root_block_device").tags()
	if len(tags) == 0 {
		return nil
	}
	out, err := c.ec2.DescribeVolumes(ctx, &ec2.DescribeVolumesInput{
		Filters: []ec2types.Filter{{Name: aws.String("attachment.instance-id"), Values: []string{r.text("id")}}},
	})
	if err != nil {
		return err
	}
	return tagEC2("id")(ctx, c, record{"id": aws.ToString(out.Volumes[0].VolumeId)}, tags, nil)
}
