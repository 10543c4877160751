package main

import (
	"context"
	"encoding/base64"
	"maps"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

var instances = kind{
	name: "aws_instance", called: "EC2 Instance", gone: []string{"InvalidInstanceID.NotFound"},
	attributes: map[string]attribute{
		"ami":                          text(optional | computed | replaces),
		"arn":                          text(computed),
		"associate_public_ip_address":  {is: types.BoolType, how: optional | computed | replaces},
		"availability_zone":            text(optional | computed | replaces),
		"iam_instance_profile":         text(optional | computed),
		"instance_state":               text(computed),
		"instance_type":                text(optional | computed),
		"key_name":                     text(optional | computed | replaces),
		"primary_network_interface_id": text(computed),
		"private_dns":                  text(computed),
		"private_ip":                   text(optional | computed | replaces),
		"public_dns":                   text(computed),
		"public_ip":                    text(computed),
		"subnet_id":                    text(optional | computed | replaces),
		"user_data":                    text(optional),
		"user_data_base64":             text(optional | computed),
		"user_data_replace_on_change":  {is: types.BoolType, how: optional, initial: false},
		"vpc_security_group_ids":       {is: types.SetType{ElemType: types.StringType}, how: optional | computed},
	},
	blocks: map[string]map[string]attribute{
		"metadata_options": {
			"http_endpoint":               {is: types.StringType, how: optional, initial: "enabled"},
			"http_put_response_hop_limit": {is: types.Int64Type, how: optional | computed},
			"http_tokens":                 text(optional | computed),
			"instance_metadata_tags":      text(optional | computed),
		},
		"root_block_device": {
			"delete_on_termination": {is: types.BoolType, how: optional, initial: true},
			"device_name":           text(computed),
			"encrypted":             {is: types.BoolType, how: optional | computed | replaces},
			"tags":                  {is: stringMap, how: optional},
			"volume_id":             text(computed),
			"volume_size":           {is: types.Int64Type, how: optional | computed},
			"volume_type":           text(optional | computed),
		},
	},
	create: createInstance, read: readInstance, remove: removeInstance, tag: tagEC2("id"),
	inPlace: []string{"user_data_replace_on_change"}, // which AWS does not know
	update:  func(context.Context, *clients, record) error { return nil },
	replaced: func(old, r record, name string) bool {
		return strings.HasPrefix(name, "user_data") && !same(old[name], r[name]) && r["user_data_replace_on_change"] == true && name != "user_data_replace_on_change"
	},
}.complete()

// patience bounds the wait for a machine, which moto has, and ends, at once.
const patience = 2 * time.Minute

func createInstance(ctx context.Context, c *clients, r record) error {
	zone := r.text("availability_zone")
	if subnet := r.text("subnet_id"); subnet != "" {
		out, err := c.ec2.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{SubnetIds: []string{subnet}})
		if err != nil {
			return err
		}
		zone = aws.ToString(out.Subnets[0].AvailabilityZone)
	}
	if err := c.trouble.capacity(r.text("instance_type"), zone, r.text("subnet_id")); err != nil {
		return err
	}
	root, err := c.rootMapping(ctx, r)
	if err != nil {
		return err
	}
	in := &ec2.RunInstancesInput{
		ImageId: r.optional("ami"), InstanceType: ec2types.InstanceType(r.text("instance_type")), MinCount: aws.Int32(1), MaxCount: aws.Int32(1),
		KeyName: r.optional("key_name"), UserData: r.optional("user_data_base64"), BlockDeviceMappings: root,
		TagSpecifications: specify(r, ec2types.ResourceTypeInstance),
	}
	if data := r.text("user_data"); data != "" {
		in.UserData = aws.String(base64.StdEncoding.EncodeToString([]byte(data)))
	}
	if zone := r.optional("availability_zone"); zone != nil {
		in.Placement = &ec2types.Placement{AvailabilityZone: zone}
	}
	if name := r.optional("iam_instance_profile"); name != nil {
		in.IamInstanceProfile = &ec2types.IamInstanceProfileSpecification{Name: name}
	}
	groups, subnet, address := r.texts("vpc_security_group_ids"), r.optional("subnet_id"), r.optional("private_ip")
	if public := r.flag("associate_public_ip_address"); public != nil && subnet != nil {
		in.NetworkInterfaces = []ec2types.InstanceNetworkInterfaceSpecification{{
			DeviceIndex: aws.Int32(0), SubnetId: subnet, Groups: groups, PrivateIpAddress: address, AssociatePublicIpAddress: public,
		}}
	} else {
		in.SubnetId, in.SecurityGroupIds, in.PrivateIpAddress = subnet, groups, address
	}
	if o := r.block("metadata_options"); o != nil {
		in.MetadataOptions = &ec2types.InstanceMetadataOptionsRequest{
			HttpEndpoint: ec2types.InstanceMetadataEndpointState(o.text("http_endpoint")), HttpTokens: ec2types.HttpTokensState(o.text("http_tokens")),
			HttpPutResponseHopLimit: o.number("http_put_response_hop_limit"),
			InstanceMetadataTags:    ec2types.InstanceMetadataTagsState(o.text("instance_metadata_tags")),
		}
	}
	out, err := c.ec2.RunInstances(ctx, in)
	if err != nil {
		return err
	}
	id := aws.ToString(out.Instances[0].InstanceId)
	r["id"] = id
	if err := ec2.NewInstanceRunningWaiter(c.ec2).Wait(ctx, &ec2.DescribeInstancesInput{InstanceIds: []string{id}}, patience); err != nil {
		return err
	}
	return c.tagRoot(ctx, r)
}

func readInstance(ctx context.Context, c *clients, r record) (bool, error) {
	out, err := c.ec2.DescribeInstances(ctx, &ec2.DescribeInstancesInput{InstanceIds: []string{r.text("id")}})
	if err != nil || len(out.Reservations) == 0 {
		return false, err
	}
	owner, i := aws.ToString(out.Reservations[0].OwnerId), out.Reservations[0].Instances[0]
	if i.State.Name == ec2types.InstanceStateNameTerminated {
		return false, nil
	}
	isImport := r["ami"] == nil
	profile := ""
	if p := i.IamInstanceProfile; p != nil {
		profile = aws.ToString(p.Arn)
		profile = profile[strings.LastIndex(profile, "/")+1:]
	}
	// So a machine that is stopped, or has an Elastic IP but shall have no address, is to be replaced, as with the real one.
	public, first, groups := i.PublicIpAddress != nil, "", i.SecurityGroups
	if n := i.NetworkInterfaces; len(n) > 0 { // moto has the security groups only here, if they came with the interface
		public, first, groups = n[0].Association != nil && n[0].Association.PublicIp != nil, aws.ToString(n[0].NetworkInterfaceId), n[0].Groups
	}
	ids := []any{}
	for _, g := range groups {
		ids = append(ids, aws.ToString(g.GroupId))
	}
	maps.Copy(r, record{
		"ami": aws.ToString(i.ImageId), "arn": "arn:aws:ec2:" + c.ec2.Options().Region + ":" + owner + ":instance/" + r.text("id"),
		"associate_public_ip_address": public, "availability_zone": aws.ToString(i.Placement.AvailabilityZone),
		"iam_instance_profile": profile, "instance_state": string(i.State.Name), "instance_type": string(i.InstanceType),
		"key_name": aws.ToString(i.KeyName), "primary_network_interface_id": first, "private_dns": aws.ToString(i.PrivateDnsName),
		"private_ip": aws.ToString(i.PrivateIpAddress), "public_dns": aws.ToString(i.PublicDnsName), "public_ip": aws.ToString(i.PublicIpAddress),
		"subnet_id": aws.ToString(i.SubnetId), "vpc_security_group_ids": ids,
	})
	r.tagged(fromEC2(i.Tags))
	if o := i.MetadataOptions; o != nil && (isImport || r.block("metadata_options") != nil) {
		r["metadata_options"] = []any{record{
			"http_endpoint": string(o.HttpEndpoint), "http_put_response_hop_limit": int64(aws.ToInt32(o.HttpPutResponseHopLimit)),
			"http_tokens": string(o.HttpTokens), "instance_metadata_tags": string(o.InstanceMetadataTags),
		}}
	}
	if isImport || r.block("root_block_device") != nil {
		if err := c.readRoot(ctx, r, i); err != nil {
			return false, err
		}
	}
	return true, c.readUserData(ctx, r)
}

// readUserData reads it into the one of both attributes that the state has: after
// an import that is user_data, as with the real one, whatever is configured.
func (c *clients) readUserData(ctx context.Context, r record) error {
	out, err := c.ec2.DescribeInstanceAttribute(ctx, &ec2.DescribeInstanceAttributeInput{
		InstanceId: aws.String(r.text("id")), Attribute: ec2types.InstanceAttributeNameUserData,
	})
	if err != nil {
		return err
	}
	encoded := ""
	if out.UserData != nil {
		encoded = aws.ToString(out.UserData.Value)
	}
	if r.text("user_data_base64") != "" {
		r["user_data_base64"] = encoded
		return nil
	}
	r["user_data_base64"] = nil
	if encoded != "" || r["user_data"] != nil {
		data, err := base64.StdEncoding.DecodeString(encoded)
		r["user_data"] = string(data)
		return err
	}
	return nil
}

func removeInstance(ctx context.Context, c *clients, r record) error {
	ids := []string{r.text("id")}
	if _, err := c.ec2.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: ids}); err != nil {
		return err
	}
	return ec2.NewInstanceTerminatedWaiter(c.ec2).Wait(ctx, &ec2.DescribeInstancesInput{InstanceIds: ids}, patience)
}
