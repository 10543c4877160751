package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"lablink/internal/agent/simhost"
	"lablink/internal/config"
	"lablink/internal/jobs"
	"lablink/internal/provision"
)

// terraformGrace is how long Terraform may take to end after an interrupt. A
// service manager must allow for more before it kills the server: deploy/ does.
const terraformGrace = time.Minute

// runner returns what runs the operations, nil if VMs are only registered by
// hand. addr is where this server listens.
func (s *Server) runner(addr net.Addr) (*jobs.Runner, error) {
	cfg := s.Config
	if cfg.Provider == config.ProviderNone {
		return nil, nil //nolint:nilnil // no provider is no error
	}
	provider, err := s.provider(addr)
	if err != nil {
		return nil, err
	}
	return &jobs.Runner{
		Store: s.store, Feed: s.feed, Logger: s.Logger.With("part", "operations"),
		Prefix: cfg.Provision.Prefix, Provider: provider.Name, InstanceType: cfg.Machine.MachineType,
		Workspace: func(ctx context.Context) (*provision.Workspace, error) { return s.workspace(ctx, provider) },
	}, nil
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
			Bucket: cfg.BucketName, Region: cfg.App.Region, Key: cfg.Environment + "/client/terraform.tfstate",
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

func (s *Server) provider(addr net.Addr) (provision.Provider, error) {
	cfg := s.Config
	p := provision.Provider{Name: string(cfg.Provider), Env: []string{"AWS_*"}}
	if cfg.Provider == config.ProviderLocal {
		local, err := s.localProvider(addr)
		if err != nil {
			return p, err
		}
		p = local
	}
	if cfg.Provision.Module != "" {
		if info, err := os.Stat(cfg.Provision.Module); err != nil || !info.IsDir() {
			return p, fmt.Errorf("provision.module: %q is no folder", cfg.Provision.Module)
		}
		p.Module = provision.ModuleFolder(cfg.Provision.Module)
	}
	if p.Module == nil {
		return p, fmt.Errorf("provider %s has no built-in module in this version: set provision.module to the folder of yours", p.Name)
	}
	return p, nil
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
