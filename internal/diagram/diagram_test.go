package diagram_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"lablink/deploy"
	"lablink/internal/diagram"
	"lablink/internal/tffiles"
)

// ours are the Terraform files that come with LabLink.
func ours(t *testing.T) diagram.Sources {
	t.Helper()
	allocator, err := tffiles.Read(deploy.AWS(), "deploy/aws")
	if err != nil {
		t.Fatal(err)
	}
	vms, err := tffiles.Read(os.DirFS("../provision/module/aws"), "the built-in module aws")
	if err != nil {
		t.Fatal(err)
	}
	return diagram.Sources{Allocator: allocator, VMs: vms, MaxWait: 7 * 24 * time.Hour}
}

// terraform is a folder with one file.
func terraform(t *testing.T, text string) *tffiles.Folder {
	t.Helper()
	f, err := tffiles.Read(fstest.MapFS{"main.tf": {Data: []byte(text)}}, "infra")
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func picture(t *testing.T, kind diagram.Type, from diagram.Sources) string {
	t.Helper()
	p, err := diagram.New(kind, from)
	if err != nil {
		t.Fatal(err)
	}
	return p.String()
}

// TestPictures compares what is in each picture with testdata.
func TestPictures(t *testing.T) {
	t.Parallel()
	for _, kind := range diagram.Types() {
		golden(t, filepath.Join("testdata", string(kind)+".txt"), picture(t, kind, ours(t)))
	}
}

// What the Terraform files say shows in the pictures, and what they no longer
// say does not.
func TestPictures_FollowTerraform(t *testing.T) {
	t.Parallel()
	allocator := terraform(t, `
resource "aws_instance" "server" {}
resource "aws_lb" "front" { count = var.https ? 1 : 0 }
resource "aws_route53_record" "name" {}
resource "aws_db_instance" "rds" {}`)
	vms := terraform(t, `
resource "aws_instance" "desk" { count = var.n }
resource "aws_security_group" "closed" {}`)
	from := diagram.Sources{Allocator: allocator, VMs: vms, MaxWait: 36 * time.Hour}
	for kind, want := range map[diagram.Type]struct{ has, lacks []string }{
		diagram.Main: {
			[]string{"aws_lb.front, if var.https", "aws_route53_record.name", "aws_db_instance.rds", "aws_instance.desk, for each of var.n", "aws_security_group.closed"},
			[]string{"CloudWatch", "Log processor", "aws_eip", "aws_iam"},
		},
		diagram.Connection:   {[]string{"aws_instance.server", "aws_instance.desk", "held up to 36h0m0s"}, []string{"7 days"}},
		diagram.Provisioning: {[]string{"aws_instance.desk, for each of var.n", "Shared by all VMs\n    aws_security_group.closed\n"}, []string{"aws_iam"}},
		diagram.Logging:      {[]string{"POST /api/vm-logs, every half second\n"}, []string{"CloudWatch", "Subscription filter"}},
		diagram.API:          {[]string{"aws_instance.server"}, nil},
	} {
		text := picture(t, kind, from)
		for _, part := range want.has {
			if !strings.Contains(text, part) {
				t.Errorf("%s lacks %q:\n%s", kind, part, text)
			}
		}
		for _, part := range want.lacks {
			if strings.Contains(text, part) {
				t.Errorf("%s has %q:\n%s", kind, part, text)
			}
		}
	}
	from.VMs = terraform(t, `resource "aws_key_pair" "only" {}`)
	if text := picture(t, diagram.Provisioning, from); !strings.Contains(text, "no machine in infra") {
		t.Errorf("without a machine:\n%s", text)
	}
}

func TestParseTypes(t *testing.T) {
	t.Parallel()
	if all, err := diagram.ParseTypes("all"); err != nil || len(all) != 6 {
		t.Errorf("all: %v, %v", all, err)
	}
	if one, err := diagram.ParseTypes("crd-connection"); err != nil || len(one) != 1 || one[0].FileName() != "lablink-crd-connection" {
		t.Errorf("one: %v, %v", one, err)
	}
	_, err := diagram.ParseTypes("architecture-detailed")
	if err == nil || !strings.Contains(err.Error(), `"architecture-detailed"`) || !strings.Contains(err.Error(), "vm-provisioning") {
		t.Errorf("an unknown one: %v", err)
	}
	if name := diagram.Main.FileName(); name != "lablink-architecture" {
		t.Errorf("main is %s", name)
	}
}
