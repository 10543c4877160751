package awsfleet

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"lablink/internal/config"
	"lablink/internal/provision"
)

// Places implements provision.Cloud: every zone that offers the type and has a
// subnet for it; then those of the other types.
func (f *Fleet) Places(ctx context.Context, instanceType string) ([]provision.VM, error) {
	subnets, err := f.subnets(ctx)
	if err != nil {
		return nil, err
	}
	names := f.types(instanceType)
	infos, err := f.describeTypes(ctx, names)
	if err != nil {
		return nil, err
	}
	offered, err := f.offerings(ctx, names)
	if err != nil {
		return nil, err
	}
	var places []provision.VM
	for _, name := range names {
		image, err := f.image(ctx, infos[name])
		if err != nil {
			return nil, err
		}
		for _, s := range subnets {
			if zone := aws.ToString(s.AvailabilityZone); offered[name+" "+zone] {
				places = append(places, provision.VM{
					InstanceType: name, Zone: zone, Subnet: aws.ToString(s.SubnetId), Image: image, GPU: hasNVIDIA(infos[name]),
				})
			}
		}
	}
	if len(places) == 0 {
		return nil, fmt.Errorf("none of the zones %s offers %s: choose another instance type, or other zones (aws.zones, aws.subnets)",
			strings.Join(zonesOf(subnets), ", "), strings.Join(names, " or "))
	}
	return places, nil
}

// subnets returns those that machines may be in, at least one, all of one VPC.
func (f *Fleet) subnets(ctx context.Context) ([]types.Subnet, error) {
	cfg := f.Config.AWS
	in := &ec2.DescribeSubnetsInput{SubnetIds: cfg.Subnets}
	if len(cfg.Subnets) == 0 {
		in.Filters = append(in.Filters, filter("default-for-az", "true"))
	}
	if len(cfg.Zones) > 0 {
		in.Filters = append(in.Filters, filter("availability-zone", cfg.Zones...))
	}
	var subnets []types.Subnet
	for pages := ec2.NewDescribeSubnetsPaginator(f.ec2, in); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, said("find the subnets", err)
		}
		subnets = append(subnets, page.Subnets...)
	}
	if len(subnets) == 0 {
		what := "a default subnet (there may be no default VPC)"
		if len(cfg.Subnets) > 0 {
			what = "any of aws.subnets"
		}
		if len(cfg.Zones) > 0 {
			what += " in " + strings.Join(cfg.Zones, ", ")
		}
		return nil, fmt.Errorf("region %s does not have %s: set aws.subnets and aws.zones to what there is", f.Config.App.Region, what)
	}
	for _, s := range subnets {
		if a, b := aws.ToString(subnets[0].VpcId), aws.ToString(s.VpcId); a != b {
			return nil, fmt.Errorf("aws.subnets: %s is in %s, but %s in %s: all must be in one VPC", aws.ToString(subnets[0].SubnetId), a, aws.ToString(s.SubnetId), b)
		}
	}
	slices.SortFunc(subnets, func(a, b types.Subnet) int {
		return cmp.Or(slices.Index(cfg.Zones, aws.ToString(a.AvailabilityZone))-slices.Index(cfg.Zones, aws.ToString(b.AvailabilityZone)),
			slices.Index(cfg.Subnets, aws.ToString(a.SubnetId))-slices.Index(cfg.Subnets, aws.ToString(b.SubnetId)),
			cmp.Compare(aws.ToString(a.AvailabilityZone), aws.ToString(b.AvailabilityZone)))
	})
	return subnets, nil
}

func zonesOf(subnets []types.Subnet) []string {
	var zones []string
	for _, s := range subnets {
		zones = append(zones, aws.ToString(s.AvailabilityZone))
	}
	return slices.Compact(zones)
}

// describeTypes returns what EC2 knows of instance types, all of which must be
// there.
func (f *Fleet) describeTypes(ctx context.Context, names []string) (map[string]types.InstanceTypeInfo, error) {
	infos := map[string]types.InstanceTypeInfo{}
	// A filter, since an unknown name among InstanceTypes fails all.
	in := &ec2.DescribeInstanceTypesInput{Filters: []types.Filter{filter("instance-type", names...)}}
	for pages := ec2.NewDescribeInstanceTypesPaginator(f.ec2, in); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, said("look the instance types up", err)
		}
		for _, info := range page.InstanceTypes {
			infos[string(info.InstanceType)] = info
		}
	}
	for i, name := range names {
		from := ""
		if i > 0 {
			from = "aws.instance_types: "
		}
		if _, there := infos[name]; !there {
			return nil, fmt.Errorf("%sthere is no instance type %s in %s", from, name, f.Config.App.Region)
		}
		if !isFit(infos[name]) {
			return nil, fmt.Errorf("%s%s has another processor than %s, for which alone there is Chrome Remote Desktop: choose another instance type", from, name, architecture)
		}
	}
	return infos, nil
}

// offerings are the zones in which there are instance types at all.
func (f *Fleet) offerings(ctx context.Context, names []string) (map[string]bool, error) {
	offered := map[string]bool{}
	in := &ec2.DescribeInstanceTypeOfferingsInput{
		LocationType: types.LocationTypeAvailabilityZone, Filters: []types.Filter{filter("instance-type", names...)},
	}
	for pages := ec2.NewDescribeInstanceTypeOfferingsPaginator(f.ec2, in); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, said("look up which zones offer the instance types", err)
		}
		for _, o := range page.InstanceTypeOfferings {
			offered[string(o.InstanceType)+" "+aws.ToString(o.Location)] = true
		}
	}
	return offered, nil
}

// hasNVIDIA reports whether a type has a GPU that the client image can use.
func hasNVIDIA(info types.InstanceTypeInfo) bool {
	return info.GpuInfo != nil && slices.ContainsFunc(info.GpuInfo.Gpus, func(g types.GpuDeviceInfo) bool {
		return strings.Contains(strings.ToUpper(aws.ToString(g.Manufacturer)), "NVIDIA")
	})
}

// architecture is the only one for which there is a Chrome Remote Desktop host:
// https://support.google.com/chrome/answer/1649523.
const architecture = types.ArchitectureTypeX8664

// isFit reports whether a type's processor is of the architecture.
func isFit(info types.InstanceTypeInfo) bool {
	return info.ProcessorInfo == nil || slices.Contains(info.ProcessorInfo.SupportedArchitectures, architecture)
}

// Owners of images, and the names that these give them, with the day at the end.
const (
	canonical = "099720109477"
	amazon    = "amazon"
)

// lookup returns whose image a type gets if none is configured.
func lookup(info types.InstanceTypeInfo) (owner, name string) {
	if hasNVIDIA(info) {
		return amazon, "Deep Learning Base OSS Nvidia Driver GPU AMI (Ubuntu 24.04) *"
	}
	return canonical, "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-amd64-server-*"
}

// image returns the machine image of a type.
func (f *Fleet) image(ctx context.Context, info types.InstanceTypeInfo) (string, error) {
	id, region := f.Config.Machine.AMIID, f.Config.App.Region
	in := &ec2.DescribeImagesInput{Filters: []types.Filter{filter("state", "available")}}
	what := id
	if id == config.AutoImage {
		owner, name := lookup(info)
		in.Owners = []string{owner}
		in.Filters = append(in.Filters, filter("name", name), filter("architecture", string(architecture)))
		what = name + " of " + owner
	} else {
		in.ImageIds = []string{id}
	}
	var newest *types.Image
	for pages := ec2.NewDescribeImagesPaginator(f.ec2, in); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return "", fmt.Errorf("machine.ami_id: %w", said("find the image "+what+" in "+region, err))
		}
		for _, image := range page.Images {
			if newest == nil || aws.ToString(image.CreationDate) > aws.ToString(newest.CreationDate) {
				newest = &image
			}
		}
	}
	if newest == nil {
		return "", fmt.Errorf("machine.ami_id: region %s does not have the image %s: set it to one that is there", region, what)
	}
	return aws.ToString(newest.ImageId), f.fits(*newest, info)
}

// fits checks what would otherwise fail for every machine.
func (f *Fleet) fits(image types.Image, info types.InstanceTypeInfo) error {
	id := aws.ToString(image.ImageId)
	if p := info.ProcessorInfo; p != nil && len(p.SupportedArchitectures) > 0 && image.Architecture != "" &&
		!slices.Contains(p.SupportedArchitectures, types.ArchitectureType(image.Architecture)) {
		return fmt.Errorf("machine.ami_id: %s is for %s, which %s is not", id, image.Architecture, info.InstanceType)
	}
	for _, d := range image.BlockDeviceMappings {
		if aws.ToString(d.DeviceName) != aws.ToString(image.RootDeviceName) || d.Ebs == nil {
			continue
		}
		if need := int(aws.ToInt32(d.Ebs.VolumeSize)); need > f.Config.AWS.DiskGB {
			return fmt.Errorf("aws.disk_gb: %d GiB are too few, the image %s needs %d", f.Config.AWS.DiskGB, id, need)
		}
	}
	return nil
}

// What RunInstances says when there is no room: in the zone, or for the account.
// See https://docs.aws.amazon.com/ec2/latest/devguide/errors-overview.html.
var (
	fullZone = regexp.MustCompile(`\b(InsufficientInstanceCapacity|InsufficientHostCapacity|InsufficientFreeAddressesInSubnet|` +
		`InsufficientVolumeCapacity)\b|\bUnsupported: .*Availability Zone`)
	fullAccount = regexp.MustCompile(`\b(VcpuLimitExceeded|InstanceLimitExceeded)\b`)
)

// Full implements provision.Cloud.
func (f *Fleet) Full(reason string) (here, everywhere bool) {
	everywhere = fullAccount.MatchString(reason)
	return everywhere || fullZone.MatchString(reason), everywhere
}

func filter(name string, values ...string) types.Filter {
	return types.Filter{Name: aws.String(name), Values: values}
}
