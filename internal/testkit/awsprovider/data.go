package main

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/path"
)

// facts is a data source that takes nothing and knows some texts.
type facts struct {
	name  string
	texts []string
	read  func(ctx context.Context, c *clients) (map[string]string, error)

	clients *clients
}

var partition = facts{
	name: "aws_partition", texts: []string{"id", "partition", "dns_suffix"},
	read: func(context.Context, *clients) (map[string]string, error) {
		return map[string]string{"id": "aws", "partition": "aws", "dns_suffix": "amazonaws.com"}, nil
	},
}

var callerIdentity = facts{
	name: "aws_caller_identity", texts: []string{"id", "account_id", "arn", "user_id"},
	read: func(ctx context.Context, c *clients) (map[string]string, error) {
		out, err := c.sts.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
		if err != nil {
			return nil, err
		}
		account := aws.ToString(out.Account)
		return map[string]string{"id": account, "account_id": account, "arn": aws.ToString(out.Arn), "user_id": aws.ToString(out.UserId)}, nil
	},
}

// Metadata implements datasource.DataSource.
func (f *facts) Metadata(_ context.Context, _ datasource.MetadataRequest, resp *datasource.MetadataResponse) {
	resp.TypeName = f.name
}

// Schema implements datasource.DataSource.
func (f *facts) Schema(_ context.Context, _ datasource.SchemaRequest, resp *datasource.SchemaResponse) {
	resp.Schema.Attributes = map[string]schema.Attribute{}
	for _, name := range f.texts {
		resp.Schema.Attributes[name] = schema.StringAttribute{Computed: true}
	}
}

// Configure implements datasource.DataSourceWithConfigure.
func (f *facts) Configure(_ context.Context, req datasource.ConfigureRequest, _ *datasource.ConfigureResponse) {
	f.clients = as[*clients](req.ProviderData)
}

// Read implements datasource.DataSource.
func (f *facts) Read(ctx context.Context, _ datasource.ReadRequest, resp *datasource.ReadResponse) {
	texts, err := f.read(ctx, f.clients)
	report(&resp.Diagnostics, err)
	for name, text := range texts {
		resp.Diagnostics.Append(resp.State.SetAttribute(ctx, path.Root(name), text)...)
	}
}
