package config

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLoad_AWS(t *testing.T) {
	c := load(t, Options{File: write(t, `
provider: aws
machine: {image: registry.example.org/lablink-client:1}
aws:
  endpoint: http://127.0.0.1:4566/
  subnets: [subnet-0a1b2c3d4e5f67890, subnet-0a1b2c3d]
  zones: [us-west-2a, us-west-2-lax-1a]
  instance_types: [g5.xlarge, t2.medium, u7in-16tb.224xlarge]
  disk_gb: 120
  elastic_ips: yes
  ssh_from: 192.0.2.0/24
  rdp_from: [2001:db8::1]
  ssh_public_key: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIH0e4bJYlmPz8Q4x5h0Z8y8k1jWq5mC7fJt0uXx1kS9a me@example.org
  log_processor_arn: arn:aws:lambda:us-west-2:123456789012:function:lablink_log_processor_prod
`), Environ: []string{"LABLINK_AWS_ZONES=us-west-2b, us-west-2c"}})
	c.AWS.SSHFrom, c.AWS.RDPFrom = nil, nil // as every list of addresses
	want := AWS{
		Endpoint: "http://127.0.0.1:4566", Subnets: []string{"subnet-0a1b2c3d4e5f67890", "subnet-0a1b2c3d"},
		Zones: []string{"us-west-2b", "us-west-2c"}, InstanceTypes: []string{"g5.xlarge", "t2.medium", "u7in-16tb.224xlarge"},
		DiskGB: 120, ElasticIPs: true,
		SSHPublicKey:    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIH0e4bJYlmPz8Q4x5h0Z8y8k1jWq5mC7fJt0uXx1kS9a me@example.org",
		LogProcessorARN: "arn:aws:lambda:us-west-2:123456789012:function:lablink_log_processor_prod",
	}
	if diff := cmp.Diff(want, c.AWS); diff != "" {
		t.Error(diff)
	}
}

// A machine image belongs to one region.
func TestLoad_MachineImage(t *testing.T) {
	for text, want := range map[string]string{
		"app: {region: us-west-2}":                                  "ami-00c257e12d6828491",
		"app: {region: eu-central-1}":                               AutoImage,
		"app: {region: eu-central-1}\nmachine: {ami_id: ami-01234}": "ami-01234",
		"machine: {ami_id: auto}":                                   AutoImage,
		"machine: {ami_id: ''}":                                     AutoImage,
	} {
		if c := load(t, Options{File: write(t, text)}); c.Machine.AMIID != want {
			t.Errorf("%s: %s", text, c.Machine.AMIID)
		}
	}
}

func TestLoad_AWSProblems(t *testing.T) {
	const image = "machine: {image: registry.example.org/client}\n"
	for text, want := range map[string]string{
		"aws: {subnets: subnet-XYZ}":                                         `aws.subnets: must be the id of a subnet such as subnet-0a1b2c3d4e5f67890, found "subnet-XYZ"`,
		"aws: {zones: [us-west-2a, us-west-2]}":                              `aws.zones: must be an availability zone such as us-west-2a, found "us-west-2"`,
		"aws: {instance_types: [large]}":                                     `aws.instance_types: must be an EC2 instance type such as g4dn.xlarge, found "large"`,
		"aws: {disk_gb: 4}":                                                  `aws.disk_gb: must be from 8 to 16384, found 4`,
		"aws: {ssh_public_key: -----BEGIN OPENSSH PRIVATE KEY-----}":         `aws.ssh_public_key: must be a public key in one line`,
		"aws: {log_processor_arn: 'arn:aws:sns:us-west-2:123456789012:x'}":   `aws.log_processor_arn: must be the ARN of a Lambda function`,
		"aws: {endpoint: localhost}":                                         `aws.endpoint: must be http:// or https://`,
		"aws: {zones: {a: b}}":                                               `aws.zones: must be a list, found a section`,
		"provider: aws":                                                      `machine.image: ghcr.io/talmolab/lablink-client-base-image:latest is the Python client, which shows no token`,
		"provider: aws\nmachine: {image: ''}":                                `machine.image: is needed by provider aws`,
		"provider: aws\nauth: {machines: open}":                              "",
		"provider: aws\n" + image:                                            "",
		"provider: aws\nprovision: {module: /somewhere}":                     "",
		"provider: aws\nmachine: {image: 'ghcr.io/talmolab/lablink-client'}": `write an image with the LabLink agent (docs/client-image.md), or auth.machines: open`,
	} {
		_, err := Load(Options{File: write(t, text+"\n")})
		switch {
		case want == "" && err != nil, want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v", text, err)
		}
	}
}
