package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
)

func fromIAM(tags []iamtypes.Tag) map[string]string {
	all := map[string]string{}
	for _, t := range tags {
		all[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	return all
}

func toIAM(tags map[string]string) (all []iamtypes.Tag) {
	for key, value := range tags {
		all = append(all, iamtypes.Tag{Key: aws.String(key), Value: aws.String(value)})
	}
	return all
}

// policy decodes one as AWS gives it, in an URL's letters.
func policy(encoded *string) (string, error) { return url.QueryUnescape(aws.ToString(encoded)) }

// meaningOfJSON is its content.
func meaningOfJSON(r record, name string) (content any) {
	if json.Unmarshal([]byte(r.text(name)), &content) != nil {
		return r[name]
	}
	return content
}

var noSuchEntity = []string{"NoSuchEntity"}

var roles = kind{
	name: "aws_iam_role", called: "IAM Role", label: "name", gone: noSuchEntity,
	attributes: map[string]attribute{
		"arn":                text(computed),
		"assume_role_policy": text(required),
		"name":               text(optional | computed | replaces),
	},
	create: func(ctx context.Context, c *clients, r record) error {
		return failure(c.iam.CreateRole(ctx, &iam.CreateRoleInput{
			RoleName: r.optional("name"), AssumeRolePolicyDocument: r.optional("assume_role_policy"), Tags: toIAM(r.tags()),
		}))
	},
	read: func(ctx context.Context, c *clients, r record) (bool, error) {
		out, err := c.iam.GetRole(ctx, &iam.GetRoleInput{RoleName: aws.String(r.text("id"))})
		if err != nil {
			return false, err
		}
		r["arn"], r["name"] = aws.ToString(out.Role.Arn), aws.ToString(out.Role.RoleName)
		r.tagged(fromIAM(out.Role.Tags))
		r["assume_role_policy"], err = policy(out.Role.AssumeRolePolicyDocument)
		return true, err
	},
	inPlace: []string{"assume_role_policy"}, meaning: meaningOfJSON,
	update: func(ctx context.Context, c *clients, r record) error {
		return failure(c.iam.UpdateAssumeRolePolicy(ctx, &iam.UpdateAssumeRolePolicyInput{
			RoleName: aws.String(r.text("id")), PolicyDocument: r.optional("assume_role_policy"),
		}))
	},
	remove: func(ctx context.Context, c *clients, r record) error {
		return failure(c.iam.DeleteRole(ctx, &iam.DeleteRoleInput{RoleName: aws.String(r.text("id"))}))
	},
	tag: func(ctx context.Context, c *clients, r record, set map[string]string, remove []string) error {
		name := aws.String(r.text("id"))
		return errors.Join(
			when(len(remove) > 0, func() error {
				return failure(c.iam.UntagRole(ctx, &iam.UntagRoleInput{RoleName: name, TagKeys: remove}))
			}),
			when(len(set) > 0, func() error { return failure(c.iam.TagRole(ctx, &iam.TagRoleInput{RoleName: name, Tags: toIAM(set)})) }),
		)
	},
}.complete()

var rolePolicies = kind{
	name: "aws_iam_role_policy", called: "IAM Role Policy", label: "name", gone: noSuchEntity,
	attributes: map[string]attribute{
		"name":   text(optional | computed | replaces),
		"policy": text(required),
		"role":   text(required | replaces),
	},
	create: putRolePolicy, inPlace: []string{"policy"}, update: putRolePolicy, meaning: meaningOfJSON,
	read: func(ctx context.Context, c *clients, r record) (bool, error) {
		out, err := c.iam.GetRolePolicy(ctx, &iam.GetRolePolicyInput{RoleName: r.optional("role"), PolicyName: r.optional("name")})
		if err != nil {
			return false, err
		}
		r["id"] = r.text("role") + ":" + r.text("name")
		r["policy"], err = policy(out.PolicyDocument)
		return true, err
	},
	remove: func(ctx context.Context, c *clients, r record) error {
		return failure(c.iam.DeleteRolePolicy(ctx, &iam.DeleteRolePolicyInput{RoleName: r.optional("role"), PolicyName: r.optional("name")}))
	},
	imported: func(r record, id string) error {
		role, name, found := strings.Cut(id, ":")
		if !found {
			return errors.New("role_policy id must be of the form <role name>:<policy name>")
		}
		r["role"], r["name"] = role, name
		return nil
	},
}.complete()

func putRolePolicy(ctx context.Context, c *clients, r record) error {
	return failure(c.iam.PutRolePolicy(ctx, &iam.PutRolePolicyInput{
		RoleName: r.optional("role"), PolicyName: r.optional("name"), PolicyDocument: r.optional("policy"),
	}))
}

var rolePolicyAttachments = kind{
	name: "aws_iam_role_policy_attachment", called: "IAM Role Policy Attachment", label: "role", gone: noSuchEntity,
	attributes: map[string]attribute{
		"policy_arn": text(required | replaces),
		"role":       text(required | replaces),
	},
	create: func(ctx context.Context, c *clients, r record) error {
		return failure(c.iam.AttachRolePolicy(ctx, &iam.AttachRolePolicyInput{RoleName: r.optional("role"), PolicyArn: r.optional("policy_arn")}))
	},
	read: func(ctx context.Context, c *clients, r record) (bool, error) {
		out, err := c.iam.ListAttachedRolePolicies(ctx, &iam.ListAttachedRolePoliciesInput{RoleName: r.optional("role")})
		if err != nil {
			return false, err
		}
		return slices.ContainsFunc(out.AttachedPolicies, func(p iamtypes.AttachedPolicy) bool {
			return aws.ToString(p.PolicyArn) == r.text("policy_arn")
		}), nil
	},
	remove: func(ctx context.Context, c *clients, r record) error {
		return failure(c.iam.DetachRolePolicy(ctx, &iam.DetachRolePolicyInput{RoleName: r.optional("role"), PolicyArn: r.optional("policy_arn")}))
	},
}.complete()

func giveRole(ctx context.Context, c *clients, r record) error {
	in := &iam.AddRoleToInstanceProfileInput{InstanceProfileName: r.optional("name"), RoleName: r.optional("role")}
	return failure(c.iam.AddRoleToInstanceProfile(ctx, in))
}

var instanceProfiles = kind{
	name: "aws_iam_instance_profile", called: "IAM Instance Profile", label: "name", gone: noSuchEntity,
	attributes: map[string]attribute{
		"arn":  text(computed),
		"name": text(optional | computed | replaces),
		"role": text(optional),
	},
	inPlace: []string{"role"},
	create: func(ctx context.Context, c *clients, r record) error {
		_, err := c.iam.CreateInstanceProfile(ctx, &iam.CreateInstanceProfileInput{InstanceProfileName: r.optional("name"), Tags: toIAM(r.tags())})
		if err != nil {
			return err
		}
		r["id"] = r.text("name")
		return when(r.text("role") != "", func() error { return giveRole(ctx, c, r) })
	},
	update: giveRole, // one that has none: its creation was cut short
	read: func(ctx context.Context, c *clients, r record) (bool, error) {
		out, err := c.iam.GetInstanceProfile(ctx, &iam.GetInstanceProfileInput{InstanceProfileName: aws.String(r.text("id"))})
		if err != nil {
			return false, err
		}
		p := out.InstanceProfile
		r["arn"], r["name"], r["role"] = aws.ToString(p.Arn), aws.ToString(p.InstanceProfileName), nil
		if len(p.Roles) > 0 {
			r["role"] = aws.ToString(p.Roles[0].RoleName)
		}
		r.tagged(fromIAM(p.Tags))
		return true, nil
	},
	remove: func(ctx context.Context, c *clients, r record) error {
		name := aws.String(r.text("id"))
		if r.text("role") != "" {
			_, err := c.iam.RemoveRoleFromInstanceProfile(ctx, &iam.RemoveRoleFromInstanceProfileInput{InstanceProfileName: name, RoleName: r.optional("role")})
			if err != nil && !answered(err, noSuchEntity) {
				return err
			}
		}
		return failure(c.iam.DeleteInstanceProfile(ctx, &iam.DeleteInstanceProfileInput{InstanceProfileName: name}))
	},
	tag: func(ctx context.Context, c *clients, r record, set map[string]string, remove []string) error {
		name := aws.String(r.text("id"))
		return errors.Join(
			when(len(remove) > 0, func() error {
				return failure(c.iam.UntagInstanceProfile(ctx, &iam.UntagInstanceProfileInput{InstanceProfileName: name, TagKeys: remove}))
			}),
			when(len(set) > 0, func() error {
				return failure(c.iam.TagInstanceProfile(ctx, &iam.TagInstanceProfileInput{InstanceProfileName: name, Tags: toIAM(set)}))
			}),
		)
	},
}.complete()
