// Command awsprovider stands in for Terraform's provider hashicorp/aws in tests:
// it knows the types of resources that LabLink's modules use, with what they may
// say of them, and behaves like the real one towards Terraform and towards
// AWS. Besides, it makes trouble on demand: see the variables in trouble.go.
package main

import (
	"context"
	"log/slog"
	"os"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/providerserver"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6/tf6server"
)

func main() {
	endWithParent()
	err := tf6server.Serve("registry.terraform.io/hashicorp/aws", func() tfprotov6.ProviderServer {
		return legacy{providerserver.NewProtocol6(&standin{})()}
	})
	if err != nil {
		slog.New(slog.NewTextHandler(os.Stderr, nil)).Error("the stand-in for hashicorp/aws ended", "error", err)
		os.Exit(1)
	}
}

// endWithParent ends the program soon after Terraform was killed, which providers
// do not notice by themselves.
func endWithParent() {
	parent := os.Getppid()
	go func() {
		for range time.NewTicker(50 * time.Millisecond).C {
			if os.Getppid() != parent {
				os.Exit(1) //nolint:revive // there is nobody left to return to
			}
		}
	}()
}

// legacy tells Terraform that the provider is of the old kind, which the resources
// of the real one are. Terraform then reverts what is planned against ignore_changes,
// for one thing.
type legacy struct{ tfprotov6.ProviderServer }

// PlanResourceChange implements tfprotov6.ProviderServer.
func (l legacy) PlanResourceChange(ctx context.Context, req *tfprotov6.PlanResourceChangeRequest) (*tfprotov6.PlanResourceChangeResponse, error) {
	resp, err := l.ProviderServer.PlanResourceChange(ctx, req)
	if resp != nil {
		resp.UnsafeToUseLegacyTypeSystem = true //nolint:staticcheck // the real one does
	}
	return resp, err
}

// ApplyResourceChange implements tfprotov6.ProviderServer.
func (l legacy) ApplyResourceChange(ctx context.Context, req *tfprotov6.ApplyResourceChangeRequest) (*tfprotov6.ApplyResourceChangeResponse, error) {
	resp, err := l.ProviderServer.ApplyResourceChange(ctx, req)
	if resp != nil {
		resp.UnsafeToUseLegacyTypeSystem = true //nolint:staticcheck // the real one does
	}
	return resp, err
}
