package testkit

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

func TestMoto_AccountsAreApart(t *testing.T) {
	t.Parallel()
	for range 4 {
		t.Run("account", func(t *testing.T) {
			t.Parallel()
			m := Moto(t)
			who, err := sts.NewFromConfig(m.Config(t)).GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
			if err != nil {
				t.Fatal(err)
			}
			if aws.ToString(who.Account) != m.Account {
				t.Errorf("the account is %s, want %s", aws.ToString(who.Account), m.Account)
			}
			client := ec2.NewFromConfig(m.Config(t))
			_, err = client.CreateSecurityGroup(t.Context(), &ec2.CreateSecurityGroupInput{
				GroupName: aws.String("the same everywhere"), Description: aws.String("of a test"),
			})
			if err != nil {
				t.Fatal(err)
			}
			_, err = client.RunInstances(t.Context(), &ec2.RunInstancesInput{
				ImageId: aws.String("ami-0aaaaaaaaaaaaaa01"), InstanceType: types.InstanceTypeT3Micro,
				MinCount: aws.Int32(1), MaxCount: aws.Int32(1),
			})
			if err != nil {
				t.Fatal(err)
			}
			found, err := client.DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{})
			if err != nil {
				t.Fatal(err)
			}
			if len(found.Reservations) != 1 {
				t.Errorf("%d reservations in a new account", len(found.Reservations)-1)
			}
		})
	}
}

func TestMoto_Images(t *testing.T) {
	t.Parallel()
	client := ec2.NewFromConfig(Moto(t).Config(t))
	const canonical, ubuntu, deepLearning = "099720109477", "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-", "Deep Learning Base OSS Nvidia Driver GPU AMI (Ubuntu 24.04) "
	for _, c := range []struct {
		owner, name string
		want        []string
	}{
		{canonical, ubuntu + "amd64-server-*", []string{"2025-08-21", "2025-10-01"}},
		{canonical, ubuntu + "arm64-server-*", []string{"2025-08-21", "2025-10-01"}},
		{"amazon", deepLearning + "*", []string{"2025-09-05", "2025-10-03"}},
		{"amazon", ubuntu + "*", nil},
	} {
		found, err := client.DescribeImages(t.Context(), &ec2.DescribeImagesInput{
			Owners: []string{c.owner}, Filters: []types.Filter{{Name: aws.String("name"), Values: []string{c.name}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, image := range found.Images {
			date, _, _ := strings.Cut(aws.ToString(image.CreationDate), "T")
			got = append(got, date)
		}
		slices.Sort(got)
		if !slices.Equal(got, c.want) {
			t.Errorf("images %s of %s have the dates %v, want %v", c.name, c.owner, got, c.want)
		}
	}
}

func TestMoto_EndsWithItsInput(t *testing.T) {
	t.Parallel()
	p, err := launchMoto()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.in.Close(); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Wait(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(p.dir); err == nil {
		t.Errorf("%s is still there", p.dir)
	}
}
