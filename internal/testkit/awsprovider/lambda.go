package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	lambdatypes "github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

var functions = kind{
	name: "aws_lambda_function", called: "Lambda Function", label: "function_name", gone: noSuchResource,
	attributes: map[string]attribute{
		"architectures":    {is: types.SetType{ElemType: types.StringType}, how: optional},
		"arn":              text(computed),
		"description":      text(optional),
		"filename":         text(required),
		"function_name":    text(required | replaces),
		"handler":          text(required),
		"memory_size":      {is: types.Int64Type, how: optional, initial: int64(128)},
		"role":             text(required),
		"runtime":          text(required),
		"source_code_hash": text(required),
		"timeout":          {is: types.Int64Type, how: optional, initial: int64(3)},
	},
	blocks: map[string]map[string]attribute{
		"dead_letter_config": {"target_arn": text(required)},
		"environment":        {"variables": {is: stringMap, how: required}},
	},
	create: func(ctx context.Context, c *clients, r record) error {
		code, err := os.ReadFile(r.text("filename"))
		if err != nil {
			return err
		}
		in := &lambda.CreateFunctionInput{
			Code: &lambdatypes.FunctionCode{ZipFile: code}, FunctionName: r.optional("function_name"), Description: r.optional("description"),
			Handler: r.optional("handler"), MemorySize: r.number("memory_size"), Role: r.optional("role"),
			Runtime: lambdatypes.Runtime(r.text("runtime")), Timeout: r.number("timeout"), Tags: r.tags(),
			DeadLetterConfig: &lambdatypes.DeadLetterConfig{TargetArn: r.block("dead_letter_config").optional("target_arn")},
			Environment:      &lambdatypes.Environment{Variables: record{"tags": r.block("environment")["variables"]}.tags()},
		}
		for _, a := range r.texts("architectures") {
			in.Architectures = append(in.Architectures, lambdatypes.Architecture(a))
		}
		return failure(c.lambda.CreateFunction(ctx, in))
	},
	read: func(ctx context.Context, c *clients, r record) (bool, error) {
		out, err := c.lambda.GetFunction(ctx, &lambda.GetFunctionInput{FunctionName: r.optional("function_name")})
		if err != nil {
			return false, err
		}
		r["arn"] = aws.ToString(out.Configuration.FunctionArn)
		r.tagged(out.Tags)
		return true, nil
	},
	remove: func(ctx context.Context, c *clients, r record) error {
		return failure(c.lambda.DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: r.optional("function_name")}))
	},
	tag: func(ctx context.Context, c *clients, r record, set map[string]string, remove []string) error {
		return errors.Join(
			when(len(remove) > 0, func() error {
				return failure(c.lambda.UntagResource(ctx, &lambda.UntagResourceInput{Resource: r.optional("arn"), TagKeys: remove}))
			}),
			when(len(set) > 0, func() error {
				return failure(c.lambda.TagResource(ctx, &lambda.TagResourceInput{Resource: r.optional("arn"), Tags: set}))
			}),
		)
	},
}.complete()

var permissions = kind{
	name: "aws_lambda_permission", called: "Lambda Permission", label: "statement_id", gone: noSuchResource,
	attributes: map[string]attribute{
		"action":         text(required | replaces),
		"function_name":  text(required | replaces),
		"principal":      text(required | replaces),
		"source_account": text(optional | replaces),
		"source_arn":     text(optional | replaces),
		"statement_id":   text(required | replaces),
	},
	create: func(ctx context.Context, c *clients, r record) error {
		return failure(c.lambda.AddPermission(ctx, &lambda.AddPermissionInput{
			Action: r.optional("action"), FunctionName: r.optional("function_name"), Principal: r.optional("principal"),
			SourceAccount: r.optional("source_account"), SourceArn: r.optional("source_arn"), StatementId: r.optional("statement_id"),
		}))
	},
	read: func(ctx context.Context, c *clients, r record) (bool, error) {
		_, err := c.lambda.GetPolicy(ctx, &lambda.GetPolicyInput{FunctionName: r.optional("function_name")})
		return err == nil, err
	},
	remove: func(ctx context.Context, c *clients, r record) error {
		return failure(c.lambda.RemovePermission(ctx, &lambda.RemovePermissionInput{FunctionName: r.optional("function_name"), StatementId: r.optional("statement_id")}))
	},
}.complete()

var queues = kind{
	name: "aws_sqs_queue", called: "SQS Queue", label: "name", gone: []string{"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"},
	attributes: map[string]attribute{
		"arn":                       text(computed),
		"message_retention_seconds": {is: types.Int64Type, how: optional, initial: int64(345600)},
		"name":                      text(required | replaces),
		"sqs_managed_sse_enabled":   {is: types.BoolType, how: optional | computed},
		"url":                       text(computed),
	},
	create: func(ctx context.Context, c *clients, r record) error {
		out, err := c.sqs.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: r.optional("name"), Tags: r.tags(), Attributes: map[string]string{
			"MessageRetentionPeriod": fmt.Sprint(r["message_retention_seconds"]), "SqsManagedSseEnabled": fmt.Sprint(r["sqs_managed_sse_enabled"]),
		}})
		if err != nil {
			return err
		}
		r["id"] = aws.ToString(out.QueueUrl)
		return nil
	},
	read: func(ctx context.Context, c *clients, r record) (bool, error) {
		url := r.optional("id")
		out, err := c.sqs.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{QueueUrl: url, AttributeNames: []sqstypes.QueueAttributeName{"All"}})
		if err != nil {
			return false, err
		}
		r["url"], r["arn"] = r.text("id"), out.Attributes["QueueArn"]
		tags, err := c.sqs.ListQueueTags(ctx, &sqs.ListQueueTagsInput{QueueUrl: url})
		if err != nil {
			return false, err
		}
		r.tagged(tags.Tags)
		return true, nil
	},
	remove: func(ctx context.Context, c *clients, r record) error {
		return failure(c.sqs.DeleteQueue(ctx, &sqs.DeleteQueueInput{QueueUrl: r.optional("id")}))
	},
	tag: func(ctx context.Context, c *clients, r record, set map[string]string, remove []string) error {
		url := r.optional("id")
		return errors.Join(
			when(len(remove) > 0, func() error {
				return failure(c.sqs.UntagQueue(ctx, &sqs.UntagQueueInput{QueueUrl: url, TagKeys: remove}))
			}),
			when(len(set) > 0, func() error { return failure(c.sqs.TagQueue(ctx, &sqs.TagQueueInput{QueueUrl: url, Tags: set})) }),
		)
	},
}.complete()
