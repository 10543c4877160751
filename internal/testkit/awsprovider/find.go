package main

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

// finder is a data source that finds one thing by its id, or by filters.
type finder struct {
	name  string
	texts []string // what it tells, besides the id
	find  func(ctx context.Context, c *clients, r record, filters []ec2types.Filter) (map[string]string, error)

	clients *clients
}

var findSubnet = finder{
	name: "aws_subnet", texts: []string{"availability_zone", "vpc_id"},
	find: func(ctx context.Context, c *clients, r record, filters []ec2types.Filter) (map[string]string, error) {
		in := &ec2.DescribeSubnetsInput{Filters: filters}
		if id := r.text("id"); id != "" {
			in.SubnetIds = []string{id}
		}
		out, err := c.ec2.DescribeSubnets(ctx, in)
		if err != nil {
			return nil, err
		}
		if len(out.Subnets) != 1 {
			return nil, errors.New("no matching EC2 Subnet found, or several")
		}
		s := out.Subnets[0]
		return map[string]string{"id": aws.ToString(s.SubnetId), "availability_zone": aws.ToString(s.AvailabilityZone), "vpc_id": aws.ToString(s.VpcId)}, nil
	},
}

var findAddress = finder{
	name: "aws_eip", texts: []string{"public_ip"},
	find: func(ctx context.Context, c *clients, _ record, filters []ec2types.Filter) (map[string]string, error) {
		out, err := c.ec2.DescribeAddresses(ctx, &ec2.DescribeAddressesInput{Filters: filters})
		if err != nil {
			return nil, err
		}
		if len(out.Addresses) != 1 {
			return nil, errors.New("no matching EC2 EIP found, or several")
		}
		a := out.Addresses[0]
		return map[string]string{"id": aws.ToString(a.AllocationId), "public_ip": aws.ToString(a.PublicIp)}, nil
	},
}

var findImage = finder{
	name: "aws_ami",
	find: func(ctx context.Context, c *clients, r record, filters []ec2types.Filter) (map[string]string, error) {
		out, err := c.ec2.DescribeImages(ctx, &ec2.DescribeImagesInput{Owners: r.texts("owners"), Filters: filters})
		if err != nil {
			return nil, err
		}
		if n := len(out.Images); n == 0 || n > 1 && r["most_recent"] != true {
			return nil, errors.New("your query returned no results, or several")
		}
		newest := slices.MaxFunc(out.Images, func(a, b ec2types.Image) int {
			return cmp.Compare(aws.ToString(a.CreationDate), aws.ToString(b.CreationDate))
		})
		return map[string]string{"id": aws.ToString(newest.ImageId)}, nil
	},
}

// Metadata implements datasource.DataSource.
func (f *finder) Metadata(_ context.Context, _ datasource.MetadataRequest, resp *datasource.MetadataResponse) {
	resp.TypeName = f.name
}

// Schema implements datasource.DataSource.
func (f *finder) Schema(_ context.Context, _ datasource.SchemaRequest, resp *datasource.SchemaResponse) {
	resp.Schema = f.schema()
}

func (f *finder) schema() schema.Schema {
	list := schema.ListAttribute{ElementType: types.StringType, Optional: true}
	s := schema.Schema{
		Attributes: map[string]schema.Attribute{"id": schema.StringAttribute{Optional: true, Computed: true}},
		Blocks: map[string]schema.Block{"filter": schema.SetNestedBlock{NestedObject: schema.NestedBlockObject{Attributes: map[string]schema.Attribute{
			"name": schema.StringAttribute{Required: true}, "values": schema.SetAttribute{ElementType: types.StringType, Required: true},
		}}}},
	}
	for _, name := range f.texts {
		s.Attributes[name] = schema.StringAttribute{Computed: true}
	}
	if f.name == "aws_ami" {
		s.Attributes["owners"], s.Attributes["most_recent"] = list, schema.BoolAttribute{Optional: true}
	}
	return s
}

// Configure implements datasource.DataSourceWithConfigure.
func (f *finder) Configure(_ context.Context, req datasource.ConfigureRequest, _ *datasource.ConfigureResponse) {
	f.clients = as[*clients](req.ProviderData)
}

// Read implements datasource.DataSource.
func (f *finder) Read(ctx context.Context, req datasource.ReadRequest, resp *datasource.ReadResponse) {
	r := as[record](decode(req.Config.Raw))
	var filters []ec2types.Filter
	for _, e := range as[[]any](r["filter"]) {
		filter := as[record](e)
		filters = append(filters, ec2types.Filter{Name: filter.optional("name"), Values: filter.texts("values")})
	}
	found, err := f.find(ctx, f.clients, r, filters)
	report(&resp.Diagnostics, err)
	for name, text := range found {
		r[name] = text
	}
	if err == nil {
		resp.State.Raw = encode(as[tftypes.Object](f.schema().Type().TerraformType(ctx)), r)
	}
}
