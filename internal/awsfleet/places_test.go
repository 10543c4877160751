package awsfleet_test

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/google/go-cmp/cmp"

	"lablink/internal/awsfleet"
	"lablink/internal/config"
	"lablink/internal/provision"
	"lablink/internal/testkit"
)

// image returns the newest image whose name begins so.
func (s *site) image(name string) string {
	s.t.Helper()
	out, err := s.ec2.DescribeImages(s.t.Context(), &ec2.DescribeImagesInput{
		Filters: []types.Filter{{Name: aws.String("name"), Values: []string{name + "*"}}},
	})
	if err != nil || len(out.Images) < 2 {
		s.t.Fatalf("images: %d, %v; there are to be an older and a newer one", len(out.Images), err)
	}
	newest := slices.MaxFunc(out.Images, func(a, b types.Image) int { return strings.Compare(*a.CreationDate, *b.CreationDate) })
	return *newest.ImageId
}

func places(t *testing.T, s *site, instanceType string) []provision.VM {
	t.Helper()
	got, err := s.Places(t.Context(), instanceType)
	if err != nil {
		t.Fatal(err)
	}
	for i := range got {
		if !strings.HasPrefix(got[i].Subnet, "subnet-") {
			t.Errorf("place without a subnet: %+v", got[i])
		}
		got[i].Subnet = ""
	}
	return got
}

// What is not configured is found: the default subnets, the newest image for the
// type's processor and GPU, and whether it has one.
func TestPlaces_Found(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(c *config.Config) { c.AWS.InstanceTypes = []string{"t3.large", "g4dn.xlarge"} })
	ubuntu, gpu := s.image("ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-amd64"), s.image("Deep Learning Base OSS")
	all := places(t, s, "g4dn.xlarge")
	var types []string
	for _, p := range all {
		want := provision.VM{InstanceType: p.InstanceType, Zone: p.Zone, Image: map[string]string{"g4dn.xlarge": gpu, "t3.large": ubuntu}[p.InstanceType],
			GPU: p.InstanceType == "g4dn.xlarge"}
		if diff := cmp.Diff(want, p); diff != "" || !strings.HasPrefix(p.Zone, testkit.MotoRegion) {
			t.Errorf("place %+v: %s", p, diff)
		}
		types = append(types, p.InstanceType)
	}
	if got := slices.Compact(types); !slices.Equal(got, []string{"g4dn.xlarge", "t3.large"}) {
		t.Errorf("types in the order %v", got)
	}
	if !slices.IsSortedFunc(all[:3], func(a, b provision.VM) int { return strings.Compare(a.Zone, b.Zone) }) || all[0].Zone == all[1].Zone {
		t.Errorf("zones: %+v", all[:3])
	}
}

// What is configured is used, in the order in which it stands there.
func TestPlaces_Configured(t *testing.T) {
	t.Parallel()
	var c *config.Config
	s := newSite(t, func(cfg *config.Config) { c = cfg })
	c.Machine.AMIID = s.image("ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-amd64")
	c.AWS.Zones = []string{"us-west-2c", "us-west-2a"}
	want := []provision.VM{
		{InstanceType: "g4dn.xlarge", Zone: "us-west-2c", Image: c.Machine.AMIID, GPU: true},
		{InstanceType: "g4dn.xlarge", Zone: "us-west-2a", Image: c.Machine.AMIID, GPU: true},
	}
	if diff := cmp.Diff(want, places(t, s, "g4dn.xlarge")); diff != "" {
		t.Error(diff)
	}
	full, err := s.Places(t.Context(), "t3.large")
	if err != nil {
		t.Fatal(err)
	}
	c.AWS.Zones, c.AWS.Subnets = nil, []string{full[1].Subnet, full[0].Subnet}
	if got := places(t, s, "t3.large"); len(got) != 2 || got[0].Zone != "us-west-2a" || got[1].Zone != "us-west-2c" {
		t.Errorf("subnets: %+v", got)
	}
}

func TestPlaces_Refused(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	arm := s.image("ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-arm64")
	vpc, err := s.ec2.CreateVpc(t.Context(), &ec2.CreateVpcInput{CidrBlock: aws.String("10.9.0.0/16")})
	if err != nil {
		t.Fatal(err)
	}
	other, err := s.ec2.CreateSubnet(t.Context(), &ec2.CreateSubnetInput{VpcId: vpc.Vpc.VpcId, CidrBlock: aws.String("10.9.1.0/24")})
	if err != nil {
		t.Fatal(err)
	}
	some, err := s.Places(t.Context(), "t3.large")
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		change func(*config.Config)
		words  []string
	}{
		"type":        {func(c *config.Config) { c.Machine.MachineType = "g99.huge" }, []string{"there is no instance type g99.huge in us-west-2"}},
		"other type":  {func(c *config.Config) { c.AWS.InstanceTypes = []string{"g99.huge"} }, []string{"aws.instance_types: there is no instance type g99.huge"}},
		"image":       {func(c *config.Config) { c.Machine.AMIID = "ami-0123456789abcdef0" }, []string{"machine.ami_id", "ami-0123456789abcdef0"}},
		"processor":   {func(c *config.Config) { c.AWS.InstanceTypes = []string{"t4g.large"} }, []string{"aws.instance_types: t4g.large has another processor than x86_64"}},
		"ARM image":   {func(c *config.Config) { c.Machine.AMIID = arm }, []string{"machine.ami_id: " + arm + " is for arm64, which"}},
		"small disk":  {func(c *config.Config) { c.AWS.DiskGB = 1 }, []string{"aws.disk_gb: 1 GiB are too few", "needs"}},
		"zone":        {func(c *config.Config) { c.AWS.Zones = []string{"us-west-2z"} }, []string{"a default subnet", "in us-west-2z: set aws.subnets and aws.zones"}},
		"subnet":      {func(c *config.Config) { c.AWS.Subnets = []string{"subnet-0123456789abcdef0"} }, []string{"subnet-0123456789abcdef0"}},
		"two VPCs":    {func(c *config.Config) { c.AWS.Subnets = []string{some[0].Subnet, *other.Subnet.SubnetId} }, []string{"aws.subnets", "all must be in one VPC"}},
		"not offered": {func(c *config.Config) { c.Machine.MachineType, c.AWS.Zones = "g4dn.xlarge", []string{"us-west-2d"} }, []string{"none of the zones us-west-2d offers g4dn.xlarge"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := settings(t, func(c *config.Config) {
				c.Machine.MachineType = "t3.large"
				test.change(c)
			})
			f, err := awsfleet.New(awsfleet.Options{Account: account{s.aws}, Config: c})
			if err != nil {
				t.Fatal(err)
			}
			_, err = f.Places(t.Context(), c.Machine.MachineType)
			refused(t, err, test.words...)
		})
	}
}

// A machine that AWS refuses to describe says which rights are missing, and one
// whose credentials have ended what to do.
func TestPlaces_NotAllowed(t *testing.T) {
	t.Parallel()
	for code, words := range map[string]string{
		"UnauthorizedOperation": "docs/aws.md lists the rights",
		"RequestExpired":        "enter the credentials on the page AWS, /admin/aws, then retry",
	} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(http.StatusForbidden)
				_, _ = w.Write([]byte(`<Response><Errors><Error><Code>` + code + `</Code><Message>You may not.</Message></Error></Errors></Response>`)) // the client says what it got
			}))
			t.Cleanup(server.Close)
			c := aws.Config{Region: "us-west-2", BaseEndpoint: aws.String(server.URL), Credentials: credentials.NewStaticCredentialsProvider("a", "b", "")}
			f, err := awsfleet.New(awsfleet.Options{Account: account{c}, Config: settings(t, nil)})
			if err != nil {
				t.Fatal(err)
			}
			_, err = f.Places(t.Context(), "t3.large")
			refused(t, err, "find the subnets: AWS says "+code+": You may not.", words)
		})
	}
}

func TestFull(t *testing.T) {
	t.Parallel()
	s := &awsfleet.Fleet{}
	const failed = "creating EC2 Instance: operation error EC2: RunInstances, https response error StatusCode: 500, RequestID: 7f, api error "
	for reason, want := range map[string][2]bool{
		failed + "InsufficientInstanceCapacity: We currently do not have sufficient g4dn.xlarge capacity in the Availability Zone you requested (us-west-2a).": {true, false},
		failed + "Unsupported: Your requested instance type (g4dn.xlarge) is not supported in your requested Availability Zone (us-west-2d).":                  {true, false},
		failed + "InsufficientFreeAddressesInSubnet: The specified subnet does not have enough free addresses.":                                                {true, false},
		failed + "VcpuLimitExceeded: You have requested more vCPU capacity than your current vCPU limit of 32 allows for the instance bucket.":                 {true, true},
		failed + "Unsupported: The requested configuration is currently not supported.":                                                                        {false, false},
		failed + "InvalidAMIID.NotFound: The image id '[ami-1]' does not exist":                                                                                {false, false},
		"": {false, false},
	} {
		if here, everywhere := s.Full(reason); here != want[0] || everywhere != want[1] {
			t.Errorf("%s: %v, %v", reason, here, everywhere)
		}
	}
}
