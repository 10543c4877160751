package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"lablink/internal/agent/simhost"
	"lablink/internal/awsaccount"
	"lablink/internal/awsfleet"
	"lablink/internal/config"
	"lablink/internal/jobs"
	"lablink/internal/provision"
)

// terraformGrace is how long Terraform may take to end after an interrupt. A
// service manager must allow for more before it kills the server: deploy/ does.
const terraformGrace = time.Minute

// runner returns what runs the operations, nil if VMs are only registered by
// hand. addr is where this server listens.
func (s *Server) runner(ctx context.Context, addr net.Addr) (*jobs.Runner, error) {
	cfg := s.Config
	if cfg.Provider == config.ProviderNone {
		return nil, nil //nolint:nilnil // no provider is no error
	}
	provider, err := s.provider(ctx, addr)
	if err != nil {
		return nil, err
	}
	return &jobs.Runner{
		Store: s.store, Feed: s.feed, Logger: s.Logger.With("part", "operations"),
		Prefix: cfg.Provision.Prefix, Provider: provider.Name, InstanceType: cfg.Machine.MachineType,
		Workspace: func(ctx context.Context) (*provision.Workspace, error) { return s.workspace(ctx, provider) },
	}, nil
}

// openAccount finds the AWS account, if machines are made there.
func (s *Server) openAccount(ctx context.Context) error {
	if s.Config.Provider != config.ProviderAWS || s.AWS != nil {
		return nil
	}
	account, err := awsaccount.Open(ctx, awsaccount.Options{Region: s.Config.App.Region, Endpoint: s.Config.AWS.Endpoint})
	if err != nil {
		return fmt.Errorf("AWS: %w", err)
	}
	s.AWS = account
	return nil
}

// workspace is made anew for each operation: Terraform may be installed, and the
// database may have moved, while the server runs.
func (s *Server) workspace(ctx context.Context, provider provision.Provider) (*provision.Workspace, error) {
	cfg := s.Config
	binary, err := provision.FindBinary(cfg.Provision.Terraform)
	if err != nil {
		return nil, err
	}
	databaseURL, err := s.store.TerraformURL(ctx)
	if err != nil {
		return nil, err
	}
	backend := provision.Backend{PostgresURL: databaseURL}
	if cfg.BucketName != "" {
		backend = provision.Backend{S3: &provision.S3{
			Bucket: cfg.BucketName, Region: cfg.App.Region, Key: cfg.Environment + "/client/terraform.tfstate", Endpoint: cfg.AWS.Endpoint,
		}}
	}
	return &provision.Workspace{
		Binary: binary, Dir: filepath.Join(cfg.DataDir, "terraform", provider.Name),
		Provider: provider, Backend: backend, Grace: s.TerraformGrace,
		Secrets: secrets(databaseURL, cfg),
	}, nil
}

// secrets are all that must not show in the output of an operation.
func secrets(databaseURL string, cfg *config.Config) []string {
	known := []string{databaseURL, cfg.Admin.Password.Reveal(), cfg.Logs.ProcessorToken.Reveal(), cfg.CRD.PIN.Reveal()}
	if u, err := url.Parse(databaseURL); err == nil && u.User != nil {
		password, _ := u.User.Password()
		known = append(known, password)
	}
	return known
}

func (s *Server) provider(ctx context.Context, addr net.Addr) (p provision.Provider, err error) {
	cfg := s.Config
	if cfg.Provider == config.ProviderAWS {
		p, err = s.awsProvider(ctx)
	} else {
		p, err = s.localProvider(addr)
	}
	if err != nil {
		return p, err
	}
	if cfg.Provision.Module != "" {
		if info, err := os.Stat(cfg.Provision.Module); err != nil || !info.IsDir() {
			return p, fmt.Errorf("provision.module: %q is no folder", cfg.Provision.Module)
		}
		p.Module = provision.ModuleFolder(cfg.Provision.Module)
	}
	return p, nil
}

func (s *Server) awsProvider(ctx context.Context) (p provision.Provider, err error) {
	installation, err := s.store.Installation(ctx)
	if err != nil {
		return p, err
	}
	script, err := startScript(s.Config)
	if err != nil {
		return p, err
	}
	f, err := awsfleet.New(awsfleet.Options{
		Account: s.AWS, Config: s.Config, Installation: installation, StartScript: script,
		Settle: func(ctx context.Context, account string) (string, error) {
			return s.store.SettleAccount(ctx, string(config.ProviderAWS), account)
		},
	})
	if err != nil {
		return p, err
	}
	return f.Provider(), nil
}

// startScript returns what each VM runs when it starts, "" if that is nothing.
// The AWS template names a file in its own repository, and puts it beside the
// configuration.
func startScript(cfg *config.Config) (string, error) {
	if !cfg.StartupScript.Enabled {
		return "", nil
	}
	path, beside := cfg.StartupScript.Path, filepath.Join(filepath.Dir(cfg.File), "custom-startup.sh")
	if !filepath.IsAbs(path) {
		path = filepath.Join(filepath.Dir(cfg.File), path)
	}
	script, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) || cfg.StartupScript.Path == "" {
		script, err = os.ReadFile(beside)
	}
	if err != nil {
		return "", fmt.Errorf("startup_script is enabled, but neither startup_script.path (%q) nor custom-startup.sh beside the configuration can be read: %w",
			cfg.StartupScript.Path, err)
	}
	return string(script), nil
}

func (s *Server) localProvider(addr net.Addr) (provision.Provider, error) {
	dir, err := filepath.Abs(s.Config.DataDir)
	if err != nil {
		return provision.Provider{}, err
	}
	binary := s.Binary
	if binary == "" {
		if binary, err = os.Executable(); err != nil {
			return provision.Provider{}, err
		}
	}
	startHost, err := simhost.Install(filepath.Join(dir, "simulated-crd"), binary)
	if err != nil {
		return provision.Provider{}, fmt.Errorf("simulated Chrome Remote Desktop: %w", err)
	}
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return provision.Provider{}, errors.New("the local provider needs a TCP address")
	}
	host := tcp.IP.String()
	if tcp.IP.IsUnspecified() {
		host = "127.0.0.1"
	}
	return provision.Local(provision.LocalOptions{
		Lablink: binary, StartHost: startHost, Folder: filepath.Join(dir, "machines"),
		Allocator: "http://" + net.JoinHostPort(host, fmt.Sprint(tcp.Port)), Software: s.Config.Machine.Software,
	}), nil
}
