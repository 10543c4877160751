package main

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/provider"
	"github.com/hashicorp/terraform-plugin-framework/provider/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

// clients are what the resources work with.
type clients struct {
	ec2    *ec2.Client
	iam    *iam.Client
	lambda *lambda.Client
	logs   *cloudwatchlogs.Client
	sqs    *sqs.Client
	sts    *sts.Client

	trouble trouble
}

// standin is the provider.
type standin struct{}

// Metadata implements provider.Provider.
func (*standin) Metadata(_ context.Context, _ provider.MetadataRequest, resp *provider.MetadataResponse) {
	resp.TypeName = "aws"
}

// Schema implements provider.Provider.
func (*standin) Schema(_ context.Context, _ provider.SchemaRequest, resp *provider.SchemaResponse) {
	resp.Schema = schema.Schema{Attributes: map[string]schema.Attribute{
		"region":      schema.StringAttribute{Optional: true},
		"max_retries": schema.Int64Attribute{Optional: true},
	}}
}

// Configure implements provider.Provider. Like the real one, it takes the address
// and the credentials from the environment.
func (*standin) Configure(ctx context.Context, req provider.ConfigureRequest, resp *provider.ConfigureResponse) {
	var settings struct {
		Region     types.String `tfsdk:"region"`
		MaxRetries types.Int64  `tfsdk:"max_retries"`
	}
	if resp.Diagnostics.Append(req.Config.Get(ctx, &settings)...); resp.Diagnostics.HasError() {
		return
	}
	cfg, err := config.LoadDefaultConfig(ctx, config.WithRegion(settings.Region.ValueString()),
		config.WithRetryMaxAttempts(int(settings.MaxRetries.ValueInt64())))
	switch {
	case err != nil:
		resp.Diagnostics.AddError(err.Error(), "")
	case cfg.Region == "":
		resp.Diagnostics.AddError("invalid AWS Region: ", "")
	case cfg.BaseEndpoint == nil:
		resp.Diagnostics.AddError("the stand-in for hashicorp/aws talks only to an AWS at AWS_ENDPOINT_URL", "")
	default:
		all := &clients{
			ec2: ec2.NewFromConfig(cfg), iam: iam.NewFromConfig(cfg), lambda: lambda.NewFromConfig(cfg), logs: cloudwatchlogs.NewFromConfig(cfg),
			sqs: sqs.NewFromConfig(cfg), sts: sts.NewFromConfig(cfg),
			trouble: troubleFromEnvironment(),
		}
		resp.ResourceData, resp.DataSourceData = all, all
	}
}

// DataSources implements provider.Provider.
func (*standin) DataSources(context.Context) []func() datasource.DataSource {
	return []func() datasource.DataSource{
		func() datasource.DataSource { f := partition; return &f },
		func() datasource.DataSource { f := callerIdentity; return &f },
		func() datasource.DataSource { f := findAddress; return &f },
		func() datasource.DataSource { f := findImage; return &f },
		func() datasource.DataSource { f := findSubnet; return &f },
	}
}

// Resources implements provider.Provider.
func (*standin) Resources(context.Context) []func() resource.Resource {
	kinds := []kind{
		instances, addresses, addressAssociations, securityGroups, keyPairs, volumes, volumeAttachments, roles, rolePolicies, rolePolicyAttachments,
		instanceProfiles, logGroups, subscriptionFilters, functions, permissions, queues,
	}
	var all []func() resource.Resource
	for _, k := range kinds {
		all = append(all, func() resource.Resource { return &managed{kind: k} })
	}
	return all
}
