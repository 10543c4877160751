// Package config turns config.yaml, the environment and the command line into one validated value.
//
// Every key stands once, in the table in keys.go: its path, type, default, allowed values and meaning. Reading, the
// names of environment variables, suggestions for misspelt names, and the reference in docs/configuration.md all
// come from that table. To add a key, add a field to a struct here and an entry there, and run
//
//	go test ./internal/config -update
//
// A Config is not changed after Load returned it.
package config

import (
	"net/netip"
	"time"
)

// Provider says where VMs come from.
type Provider string

// The providers.
const (
	ProviderNone  Provider = "none"  // only machines that were registered by hand
	ProviderLocal Provider = "local" // Terraform, on the machine that runs the server
	ProviderAWS   Provider = "aws"   // Terraform, on AWS
)

// MachineAuth says what a VM must show to be believed.
type MachineAuth string

// The ways to authenticate machines.
const (
	MachineToken MachineAuth = "token" // its own token
	MachineOpen  MachineAuth = "open"  // nothing: for the Python clients, which send no credential
)

// Config is the whole configuration, checked. Keys that only the AWS template of the Python system reads (EIP, SSL,
// Allocator, Monitoring and parts of others) are accepted and checked, so that its files need no change.
type Config struct {
	File string // the file that was read; "" if none

	Listen      string // HOST:PORT
	DataDir     string
	DatabaseURL Secret // "" = a private server under DataDir

	Server    Server
	Auth      Auth
	Provider  Provider
	Provision Provision
	Limits    Limits
	Poll      Poll
	CRD       CRD
	Logs      Logs
	Admin     Admin

	DB            DB
	Machine       Machine
	App           App
	AWS           AWS
	DNS           DNS
	EIP           EIP
	SSL           SSL
	Allocator     Allocator
	BucketName    string // "" unless written
	StartupScript StartupScript
	Monitoring    Monitoring

	// From the environment variables that the AWS template gives to the allocator's container.
	Environment       string // trimmed, lower-cased, spaces to dashes; "prod" by default
	AllocatorPublicIP string
	AllocatorKeyName  string
	CloudInitLogGroup string
	AllocatorFQDN     string // a URL or a host name, as given
}

// Server is how the allocator is reached.
type Server struct {
	// PublicURL is what VMs are told: scheme and host, perhaps a port, no trailing slash. Load fills it from
	// DerivePublicURL if it is not written; it is "" if that finds nothing either.
	PublicURL      string
	TrustedProxies []netip.Prefix // whose forwarded address is believed
}

// Auth is how clients authenticate.
type Auth struct {
	Machines MachineAuth
}

// Provision is how Terraform makes VMs.
type Provision struct {
	Prefix    string // of hostnames
	Module    string // folder; "" = the built-in module of the provider
	Terraform string // binary; "" = look for one
}

// Limits bounds what clients may do. All are above 0.
type Limits struct {
	MaxVMs                 int           // live VMs of the provider
	MaxRegistered          int           // registered machines
	RequestVMPerMinute     int           // per address
	RequestVMBurst         int           // per address, at once
	BodyBytes              int           // of JSON and form bodies
	VMRequestsPerMinute    int           // per VM
	VMLogPostsPerMinute    int           // per VM
	LogPostsPerMinute      int           // of the log processor, or per address
	LoginFailuresPerMinute int           // per address
	PinFailures            int           // wrong PINs per seat in PinWindow
	PinWindow              time.Duration // see PinFailures
}

// Poll is how long and how lively POST /vm_startup is held.
type Poll struct {
	MaxWait   time.Duration
	Keepalive time.Duration
}

// CRD is about Chrome Remote Desktop.
type CRD struct {
	PIN Secret // "" = a random one per seat
}

// Logs is about log collection.
type Logs struct {
	ProcessorToken Secret        // what the log processor must show; "" = it is refused
	Retention      time.Duration // after the VM was destroyed
	MaxLines       int           // per VM
	KeepUnknown    time.Duration // for VMs that are not known yet
	Public         bool          // anybody may read
}

// Admin is the administrator's log-in.
type Admin struct {
	User     string
	Password Secret // "" = none configured
}

// DB is the Python system's database section; see Config.DatabaseURL.
type DB struct {
	DBName, User   string
	Password       Secret
	Host           string
	Port           int
	TableName      string // always "vms"
	MessageChannel string // always "vm_updates"
}

// Machine describes the VMs that participants use.
type Machine struct {
	MachineType string
	Repository  string // "" = none
	Image       string
	AMIID       string
	Software    string // process name
	Extension   string // no dot
}

// App holds what remains of the app section; its log-in is in Admin.
type App struct {
	Region string
}

// AWS is how VMs are made on AWS.
type AWS struct {
	Endpoint        string   // of an emulator; "" = AWS itself
	Subnets         []string // none = the default ones
	Zones           []string // none = all
	InstanceTypes   []string // to be tried after the one that was asked for
	DiskGB          int      // GiB
	ElasticIPs      bool
	SSHFrom         []netip.Prefix
	RDPFrom         []netip.Prefix
	SSHPublicKey    string // "" = none
	LogProcessorARN string // "" = none
}

// AutoImage as Machine.AMIID has a machine image looked up.
const AutoImage = "auto"

// DNS is the allocator's name; see Config.DNSName.
type DNS struct {
	Enabled          bool
	TerraformManaged bool
	Domain           string
	ZoneID           string
	AppName          string
	Pattern          string // "" = Domain is the whole name
	CustomSubdomain  string
	CreateZone       bool
}

// EIP is the allocator's address on AWS.
type EIP struct {
	Strategy, TagName string
}

// SSL is what stands in front of the allocator.
type SSL struct {
	Provider       string // none, letsencrypt, cloudflare, acm
	Email          string
	Staging        bool // HTTP only
	CertificateARN string
}

// Allocator is the allocator's own container.
type Allocator struct {
	ImageTag string
}

// StartupScript is run by each VM on AWS.
type StartupScript struct {
	Enabled bool
	Path    string
	OnError string // continue or fail
}

// Monitoring is the AWS template's.
type Monitoring struct {
	Enabled    bool
	Email      string
	Thresholds Thresholds
	Budget     Budget
	CloudTrail CloudTrail
}

// Thresholds raise alarms in the AWS template.
type Thresholds struct {
	MaxInstancesPer5Min            int
	MaxTerminationsPer5Min         int
	MaxUnauthorizedCallsPer15Min   int
	MaxIAMRolesPerHour             int
	MaxSecurityGroupChangesPerHour int
}

// Budget raises alarms about money in the AWS template.
type Budget struct {
	Enabled          bool
	MonthlyBudgetUSD int
}

// CloudTrail keeps an audit trail in the AWS template.
type CloudTrail struct {
	RetentionDays int
}
