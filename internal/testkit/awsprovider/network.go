package main

import (
	"context"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

// addresses are Elastic IPs.
var addresses = kind{
	name: "aws_eip", called: "EC2 EIP", gone: []string{"InvalidAllocationID.NotFound", "InvalidAddress.NotFound"},
	attributes: map[string]attribute{
		"allocation_id":     text(computed),
		"association_id":    text(computed),
		"domain":            text(optional | computed | replaces),
		"instance":          text(optional | computed),
		"network_interface": text(computed),
		"private_ip":        text(computed),
		"public_ip":         text(computed),
	},
	create: func(ctx context.Context, c *clients, r record) error {
		out, err := c.ec2.AllocateAddress(ctx, &ec2.AllocateAddressInput{
			Domain: ec2types.DomainType(r.text("domain")), TagSpecifications: specify(r, ec2types.ResourceTypeElasticIp),
		})
		if err != nil {
			return err
		}
		r["id"] = aws.ToString(out.AllocationId)
		return c.associate(ctx, r)
	},
	read: func(ctx context.Context, c *clients, r record) (bool, error) {
		out, err := c.ec2.DescribeAddresses(ctx, &ec2.DescribeAddressesInput{AllocationIds: []string{r.text("id")}})
		if err != nil || len(out.Addresses) == 0 {
			return false, err
		}
		a := out.Addresses[0]
		r["allocation_id"], r["association_id"], r["domain"] = aws.ToString(a.AllocationId), aws.ToString(a.AssociationId), string(a.Domain)
		r["instance"], r["network_interface"] = aws.ToString(a.InstanceId), aws.ToString(a.NetworkInterfaceId)
		r["private_ip"], r["public_ip"] = aws.ToString(a.PrivateIpAddress), aws.ToString(a.PublicIp)
		r.tagged(fromEC2(a.Tags))
		return true, nil
	},
	inPlace: []string{"instance"},
	update: func(ctx context.Context, c *clients, r record) error {
		if err := c.disassociate(ctx, r); err != nil {
			return err
		}
		return c.associate(ctx, r)
	},
	remove: func(ctx context.Context, c *clients, r record) error {
		if err := c.disassociate(ctx, r); err != nil {
			return err
		}
		return failure(c.ec2.ReleaseAddress(ctx, &ec2.ReleaseAddressInput{AllocationId: aws.String(r.text("id"))}))
	},
	tag: tagEC2("id"),
}.complete()

func (c *clients) associate(ctx context.Context, r record) error {
	if r.text("instance") == "" {
		return nil
	}
	return failure(c.ec2.AssociateAddress(ctx, &ec2.AssociateAddressInput{AllocationId: aws.String(r.text("id")), InstanceId: r.optional("instance")}))
}

func (c *clients) disassociate(ctx context.Context, r record) error {
	if r.text("association_id") == "" {
		return nil
	}
	_, err := c.ec2.DisassociateAddress(ctx, &ec2.DisassociateAddressInput{AssociationId: r.optional("association_id")})
	if answered(err, []string{"InvalidAssociationID.NotFound"}) {
		return nil
	}
	return err
}

var keyPairs = kind{
	name: "aws_key_pair", called: "EC2 Key Pair", label: "key_name", gone: []string{"InvalidKeyPair.NotFound"},
	attributes: map[string]attribute{
		"fingerprint": text(computed),
		"key_name":    text(optional | computed | replaces),
		"key_pair_id": text(computed),
		"public_key":  text(required | replaces),
	},
	create: func(ctx context.Context, c *clients, r record) error {
		return failure(c.ec2.ImportKeyPair(ctx, &ec2.ImportKeyPairInput{
			KeyName: r.optional("key_name"), PublicKeyMaterial: []byte(r.text("public_key")), TagSpecifications: specify(r, ec2types.ResourceTypeKeyPair),
		}))
	},
	// The real one does not read the key either: after an import there is none, and the pair is to be replaced.
	read: func(ctx context.Context, c *clients, r record) (bool, error) {
		out, err := c.ec2.DescribeKeyPairs(ctx, &ec2.DescribeKeyPairsInput{KeyNames: []string{r.text("id")}})
		if err != nil {
			return false, err
		}
		k := out.KeyPairs[0]
		r["fingerprint"], r["key_name"], r["key_pair_id"] = aws.ToString(k.KeyFingerprint), aws.ToString(k.KeyName), aws.ToString(k.KeyPairId)
		r.tagged(fromEC2(k.Tags))
		return true, nil
	},
	remove: func(ctx context.Context, c *clients, r record) error {
		return failure(c.ec2.DeleteKeyPair(ctx, &ec2.DeleteKeyPairInput{KeyName: aws.String(r.text("id"))}))
	},
	tag: tagEC2("key_pair_id"),
}.complete()

var securityGroups = kind{
	name: "aws_security_group", called: "Security Group", label: "name", gone: []string{"InvalidGroup.NotFound"},
	attributes: map[string]attribute{
		"arn":         text(computed),
		"description": {is: types.StringType, how: optional | replaces, initial: "Managed by Terraform"},
		"egress":      {is: types.SetType{ElemType: ruleType}, how: optional | computed},
		"ingress":     {is: types.SetType{ElemType: ruleType}, how: optional | computed},
		"name":        text(optional | computed | replaces),
		"owner_id":    text(computed),
		"vpc_id":      text(optional | computed | replaces),
	},
	create: func(ctx context.Context, c *clients, r record) error {
		out, err := c.ec2.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{
			GroupName: r.optional("name"), Description: r.optional("description"), VpcId: r.optional("vpc_id"),
			TagSpecifications: specify(r, ec2types.ResourceTypeSecurityGroup),
		})
		if err != nil {
			return err
		}
		r["id"] = aws.ToString(out.GroupId)
		// AWS lets everything out of a new group, Terraform what is configured.
		return c.changeRules(ctx, r)
	},
	read: func(ctx context.Context, c *clients, r record) (bool, error) {
		out, err := c.ec2.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{GroupIds: []string{r.text("id")}})
		if err != nil || len(out.SecurityGroups) == 0 {
			return false, err
		}
		g := out.SecurityGroups[0]
		r["description"], r["name"], r["vpc_id"] = aws.ToString(g.Description), aws.ToString(g.GroupName), aws.ToString(g.VpcId)
		r["owner_id"] = aws.ToString(g.OwnerId)
		r["arn"] = strings.Join([]string{"arn:aws:ec2", c.ec2.Options().Region, r.text("owner_id"), "security-group/" + r.text("id")}, ":")
		r["ingress"], r["egress"] = rules(r, g.IpPermissions), rules(r, g.IpPermissionsEgress)
		r.tagged(fromEC2(g.Tags))
		return true, nil
	},
	inPlace: []string{"ingress", "egress"},
	meaning: func(r record, direction string) any { return configured(r, direction) },
	update:  func(ctx context.Context, c *clients, r record) error { return c.changeRules(ctx, r) },
	remove: func(ctx context.Context, c *clients, r record) error {
		return failure(c.ec2.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: aws.String(r.text("id"))}))
	},
	tag: tagEC2("id"),
}.complete()
