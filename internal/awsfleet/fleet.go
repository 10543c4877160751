// Package awsfleet is the provider aws: what LabLink itself asks of AWS around
// Terraform's work. It finds out where and from what a VM can be made, and what
// there is of a fleet that Terraform's state does not know.
//
// What it makes of AWS's answers goes to the module aws of package provision,
// which it shares names and tags with.
package awsfleet

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/iam"

	"lablink/internal/config"
	"lablink/internal/provision"
)

// parallel is how many resources Terraform works on at once. EC2 lets an account
// start five machines at once and two a second after that, and one takes half a
// minute: https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html.
const parallel = 20

// Account is what the fleet needs to know of the AWS account.
type Account interface {
	// Config is for clients.
	Config() aws.Config
	// Environ returns the variables by which Terraform gets to the same account.
	Environ(ctx context.Context) (map[string]string, error)
	// ID asks AWS which account it is.
	ID(ctx context.Context) (string, error)
}

// Options say how a fleet's machines are made.
type Options struct {
	Account      Account
	Config       *config.Config
	Installation string // id of the database, see store.Installation
	StartScript  string // what each VM runs when it starts; "" = nothing
	// Settle notes in which account the VMs are, and returns in which they are already.
	Settle func(ctx context.Context, account string) (settled string, err error)
}

// Fleet is the machines of one environment in one region.
type Fleet struct {
	Options

	ec2  *ec2.Client
	iam  *iam.Client
	logs *cloudwatchlogs.Client
}

var _ provision.Cloud = (*Fleet)(nil)

// environmentPattern is what fits into the names of all that is shared. The
// longest, of the instance profile, has 32 characters before it and may have 64
// in all: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html.
var environmentPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9_.-]{0,31}$`)

// New returns the fleet. It asks nothing of AWS yet.
func New(o Options) (*Fleet, error) {
	if !environmentPattern.MatchString(o.Config.Environment) {
		return nil, fmt.Errorf("ENVIRONMENT: %q becomes part of names on AWS: 1 to 32 letters, digits, dots, hyphens and underscores", o.Config.Environment)
	}
	if o.Config.Server.PublicURL == "" {
		return nil, errors.New("provider aws: VMs must know where to call: set server.public_url to the address of this server")
	}
	c := o.Account.Config()
	return &Fleet{Options: o, ec2: ec2.NewFromConfig(c), iam: iam.NewFromConfig(c), logs: cloudwatchlogs.NewFromConfig(c)}, nil
}

// Provider returns how package provision makes the machines.
func (f *Fleet) Provider() provision.Provider {
	c := f.Config
	return provision.Provider{
		Name: string(config.ProviderAWS), Module: provision.Builtin("aws"), Env: []string{"AWS_*"}, Parallel: parallel, Cloud: f,
		Inputs: map[string]any{
			"environment": c.Environment, "fleet": f.Installation, "region": c.App.Region,
			"allocator_url": c.Server.PublicURL, "image": c.Machine.Image, "repository": c.Machine.Repository, "software": c.Machine.Software,
			"startup_script": f.StartScript, "startup_on_error": c.StartupScript.OnError,
			"disk_gb": c.AWS.DiskGB, "elastic_ips": c.AWS.ElasticIPs,
			"ssh_from": texts(c.AWS.SSHFrom), "rdp_from": texts(c.AWS.RDPFrom), "ssh_public_key": c.AWS.SSHPublicKey,
			"log_group": f.logGroup(), "create_log_group": f.makesLogGroup(), "log_processor_arn": c.AWS.LogProcessorARN,
		},
	}
}

// texts are never nil, which would be null.
func texts[T fmt.Stringer](list []T) []string {
	out := make([]string, 0, len(list))
	for _, e := range list {
		out = append(out, e.String())
	}
	return out
}

// Prepare implements provision.Cloud.
func (f *Fleet) Prepare(ctx context.Context) (environ map[string]string, inputs map[string]any, err error) {
	if environ, err = f.Account.Environ(ctx); err != nil {
		return nil, nil, err
	}
	if err := f.settle(ctx); err != nil {
		return nil, nil, err
	}
	vpc, err := f.network(ctx)
	if err != nil {
		return nil, nil, err
	}
	return environ, map[string]any{"vpc_id": vpc}, nil
}

// settle refuses the credentials of another account than the one that the VMs are
// in: nothing would be found there, and all of them would count as gone.
func (f *Fleet) settle(ctx context.Context) error {
	account, err := f.Account.ID(ctx)
	if err != nil {
		return err
	}
	settled, err := f.Settle(ctx, account)
	if err == nil && settled != account {
		return fmt.Errorf("nothing was changed: the VMs are in the AWS account %s, and these credentials are of %s. "+
			"Enter those of %[1]s on the page AWS, /admin/aws, or give them to the server, then retry", settled, account)
	}
	return err
}

// network returns the VPC of the fleet. While there is one of its machines, the
// one that they are in will do: they can be destroyed whatever becomes of the
// subnets.
func (f *Fleet) network(ctx context.Context) (string, error) {
	subnets, err := f.subnets(ctx)
	if err == nil {
		return aws.ToString(subnets[0].VpcId), nil
	}
	groups, groupErr := f.securityGroups(ctx)
	for _, g := range groups {
		if tagOf(g.Tags, tagFleet) == f.Installation {
			return aws.ToString(g.VpcId), nil
		}
	}
	return "", errors.Join(err, groupErr)
}

// Names of what the machines share, as in the module. The Python system's role
// for the allocator is limited to them.
func (f *Fleet) groupName() string { return "lablink_client_" + f.Config.Environment + "_sg" }
func (f *Fleet) roleName() string  { return "lablink_cloud_watch_agent_role_" + f.Config.Environment }
func (f *Fleet) profileName() string {
	return "lablink_client_instance_profile_" + f.Config.Environment
}
func (f *Fleet) filterName() string { return "lablink_lambda_subscription_" + f.Config.Environment }

func (f *Fleet) keyName() string {
	hash := sha256.Sum256([]byte(f.Config.AWS.SSHPublicKey))
	return "lablink_key_pair_client_" + f.Config.Environment + "_" + hex.EncodeToString(hash[:4])
}

// logGroup is where machines write. Where the allocator's own infrastructure has
// made one, it says so.
func (f *Fleet) logGroup() string {
	if f.makesLogGroup() {
		return "lablink-cloud-init-" + f.Config.Environment
	}
	return f.Config.CloudInitLogGroup
}

func (f *Fleet) makesLogGroup() bool { return f.Config.CloudInitLogGroup == "" }

// Tags by which a fleet's things are found again, as in the module.
const (
	tagEnvironment = "lablink:environment"
	tagFleet       = "lablink:fleet"
	tagHostname    = "lablink:hostname"
)

// types are the instance types to be tried.
func (f *Fleet) types(first string) []string {
	types := []string{first}
	for _, t := range f.Config.AWS.InstanceTypes {
		if !slices.Contains(types, t) {
			types = append(types, t)
		}
	}
	return types
}
