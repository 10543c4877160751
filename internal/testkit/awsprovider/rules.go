package main

import (
	"context"
	"errors"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

// ruleType is what a security group's ingress and egress consist of. As these are
// attributes, and no blocks, a configuration may have them either way.
var ruleType = types.ObjectType{AttrTypes: map[string]attr.Type{
	"cidr_blocks": types.ListType{ElemType: types.StringType}, "ipv6_cidr_blocks": types.ListType{ElemType: types.StringType},
	"prefix_list_ids": types.ListType{ElemType: types.StringType}, "security_groups": types.SetType{ElemType: types.StringType},
	"self": types.BoolType, "description": types.StringType, "protocol": types.StringType, "from_port": types.Int64Type, "to_port": types.Int64Type,
}}

// entry is the smallest part of a rule: what may come from, or go to, one place.
type entry struct {
	protocol          string
	from, to          int32
	description       string
	ipv4, ipv6, group string // one of them
}

type entries map[entry]bool

// configured returns the entries of a group's ingress or egress.
func configured(r record, direction string) entries {
	all := entries{}
	for _, e := range as[[]any](r[direction]) {
		rule := as[record](e)
		base := entry{
			protocol: rule.text("protocol"), description: rule.text("description"),
			from: aws.ToInt32(rule.number("from_port")), to: aws.ToInt32(rule.number("to_port")),
		}
		add := func(places []string, set func(*entry, string)) {
			for _, place := range places {
				one := base
				set(&one, place)
				all[one] = true
			}
		}
		add(rule.texts("cidr_blocks"), func(e *entry, place string) { e.ipv4 = place })
		add(rule.texts("ipv6_cidr_blocks"), func(e *entry, place string) { e.ipv6 = place })
		add(rule.texts("security_groups"), func(e *entry, place string) { e.group = place })
		if aws.ToBool(rule.flag("self")) {
			add([]string{r.text("id")}, func(e *entry, place string) { e.group = place })
		}
	}
	return all
}

// granted returns the entries that AWS has.
func granted(permissions []ec2types.IpPermission) entries {
	all := entries{}
	for _, p := range permissions {
		add := func(description *string, e entry) {
			e.protocol, e.from, e.to = aws.ToString(p.IpProtocol), aws.ToInt32(p.FromPort), aws.ToInt32(p.ToPort)
			e.description = aws.ToString(description)
			all[e] = true
		}
		for _, r := range p.IpRanges {
			add(r.Description, entry{ipv4: aws.ToString(r.CidrIp)})
		}
		for _, r := range p.Ipv6Ranges {
			add(r.Description, entry{ipv6: aws.ToString(r.CidrIpv6)})
		}
		for _, r := range p.UserIdGroupPairs {
			add(r.Description, entry{group: aws.ToString(r.GroupId)})
		}
	}
	return all
}

// rules are how the state has what AWS has.
func rules(r record, permissions []ec2types.IpPermission) []any {
	all := []any{}
	list := func(text string) []any {
		if text == "" {
			return []any{}
		}
		return []any{text}
	}
	for e := range granted(permissions) {
		self := e.group == r.text("id")
		if self {
			e.group = ""
		}
		all = append(all, record{
			"cidr_blocks": list(e.ipv4), "ipv6_cidr_blocks": list(e.ipv6), "prefix_list_ids": list(""), "security_groups": list(e.group), "self": self,
			"description": e.description, "protocol": e.protocol, "from_port": int64(e.from), "to_port": int64(e.to),
		})
	}
	return all
}

// without returns the permissions for the entries that others does not have.
func (a entries) without(others entries) (missing []ec2types.IpPermission) {
	for e := range a {
		if others[e] {
			continue
		}
		p := ec2types.IpPermission{IpProtocol: aws.String(e.protocol), FromPort: aws.Int32(e.from), ToPort: aws.Int32(e.to)}
		description := record{"": e.description}.optional("")
		switch {
		case e.ipv4 != "":
			p.IpRanges = []ec2types.IpRange{{CidrIp: aws.String(e.ipv4), Description: description}}
		case e.ipv6 != "":
			p.Ipv6Ranges = []ec2types.Ipv6Range{{CidrIpv6: aws.String(e.ipv6), Description: description}}
		default:
			p.UserIdGroupPairs = []ec2types.UserIdGroupPair{{GroupId: aws.String(e.group), Description: description}}
		}
		missing = append(missing, p)
	}
	return missing
}

// changeRules makes the rules of a group those of the plan.
func (c *clients) changeRules(ctx context.Context, r record) error {
	id := aws.String(r.text("id"))
	out, err := c.ec2.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{GroupIds: []string{*id}})
	if err != nil {
		return err
	}
	in, wantIn := granted(out.SecurityGroups[0].IpPermissions), configured(r, "ingress")
	outOf, wantOutOf := granted(out.SecurityGroups[0].IpPermissionsEgress), configured(r, "egress")
	closeIn, openIn, closeOut, openOut := in.without(wantIn), wantIn.without(in), outOf.without(wantOutOf), wantOutOf.without(outOf)
	return errors.Join(
		when(closeIn != nil, func() error {
			return failure(c.ec2.RevokeSecurityGroupIngress(ctx, &ec2.RevokeSecurityGroupIngressInput{GroupId: id, IpPermissions: closeIn}))
		}),
		when(openIn != nil, func() error {
			return failure(c.ec2.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: id, IpPermissions: openIn}))
		}),
		when(closeOut != nil, func() error {
			return failure(c.ec2.RevokeSecurityGroupEgress(ctx, &ec2.RevokeSecurityGroupEgressInput{GroupId: id, IpPermissions: closeOut}))
		}),
		when(openOut != nil, func() error {
			return failure(c.ec2.AuthorizeSecurityGroupEgress(ctx, &ec2.AuthorizeSecurityGroupEgressInput{GroupId: id, IpPermissions: openOut}))
		}),
	)
}
