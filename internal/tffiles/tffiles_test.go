package tffiles_test

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"lablink/deploy"
	"lablink/internal/tffiles"
)

func folder(files map[string]string) fstest.MapFS {
	fsys := fstest.MapFS{}
	for name, text := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return fsys
}

func TestRead_When(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		``:                               "always",
		`count = 1`:                      "always",
		`count = 2`:                      "for each of `2`",
		`count = var.dns ? 1 : 0`:        "if `var.dns`",
		`count = var.dns ? 0 : 1`:        "if `!var.dns`",
		`count = !var.dns ? 0 : 1`:       "if `var.dns`",
		`count = var.key == "" ? 0 : 1`:  "if `var.key != \"\"`",
		`count = var.key != "" ? 0 : 1`:  "if `var.key == \"\"`",
		`count = var.a && var.b ? 0 : 1`: "if `!(var.a && var.b)`",
		"count = (\n  var.a\n  && var.b\n) ? 1 : 0":            "if `( var.a && var.b )`",
		`count = var.big ? var.n : 0`:                          "for each of `var.n`, if `var.big`",
		`count = var.big ? 3 : 2`:                              "for each of `var.big ? 3 : 2`",
		`for_each = var.vms`:                                   "for each of `var.vms`",
		`for_each = var.ips ? var.vms : {}`:                    "for each of `var.vms`, if `var.ips`",
		`for_each = var.ips ? {} : var.vms`:                    "for each of `var.vms`, if `!var.ips`",
		`for_each = toset(["a", "b"])`:                         "for each of `toset([\"a\", \"b\"])`",
		"lifecycle {\n  ignore_changes = all\n}\nname = \"x\"": "always",
	} {
		f, err := tffiles.Read(folder(map[string]string{"main.tf": "resource \"a_b\" \"c\" {\n" + line + "\n}\n"}), "infra")
		if err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		if len(f.Resources) != 1 || f.Resources[0].When() != want || f.Resources[0].Address() != "a_b.c" {
			t.Errorf("%s: %+v, want %s", line, f.Resources, want)
		}
	}
}

func TestRead_Files(t *testing.T) {
	t.Parallel()
	f, err := tffiles.Read(folder(map[string]string{
		"b.tf":             `resource "aws_eip" "late" {}`,
		"a.tf":             "data \"aws_ami\" \"no\" {}\nmodule \"net\" {\n source = \"./net\"\n}\nmodule \"far\" {\n source = \"example/far/aws\"\n}\nresource \"aws_lb\" \"early\" {}",
		"net/main.tf":      `resource "aws_vpc" "inner" {}`,
		"net/main.tf.json": `{"resource": {"aws_subnet": {"json": {"count": "${var.a ? 1 : 0}"}}}}`,
		"readme.md":        `resource "aws_eip" "text" {}`,
		"unused/main.tf":   `resource "aws_eip" "unused" {}`,
	}), "infra")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range f.Resources {
		got = append(got, r.Address())
	}
	want := []string{"module.net.aws_vpc.inner", "module.net.aws_subnet.json", "aws_lb.early", "aws_eip.late"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if found := f.Find("aws_eip", "aws_lb"); len(found) != 2 || found[0].Name != "early" {
		t.Errorf("found %+v", found)
	}
}

func TestRead_Errors(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		files map[string]string
		want  string
	}{
		"no files":         {map[string]string{"readme.md": ""}, "the folder infra has no Terraform files (*.tf)"},
		"no closing brace": {map[string]string{"main.tf": "\nresource \"a\" \"b\" {\n"}, "infra/main.tf:2,18-19: Unclosed configuration block"},
		"no name":          {map[string]string{"main.tf": "resource \"a\" {}\n"}, "infra/main.tf:1,14-15: Missing name for resource"},
		"no quote":         {map[string]string{"main.tf": "\n\n  x = \"y\n"}, "infra/main.tf:3,"},
		"bad JSON":         {map[string]string{"main.tf.json": `{"resource": [}`}, "infra/main.tf.json:1,"},
		"in a module":      {map[string]string{"main.tf": "module \"m\" {\n source = \"./m\"\n}", "m/x.tf": "}"}, "infra/m/x.tf:1,1-2: "},
		"no such module":   {map[string]string{"main.tf": "module \"m\" {\n source = \"./m\"\n}"}, "there is no folder infra/m"},
		"itself":           {map[string]string{"main.tf": "module \"m\" {\n source = \"./\"\n}"}, "modules are more than 10 deep"},
	} {
		_, err := tffiles.Read(folder(test.files), "infra")
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %s", name, err, test.want)
		}
	}
}

func TestRead_Ours(t *testing.T) {
	t.Parallel()
	f, err := tffiles.Read(deploy.AWS(), "deploy/aws")
	if err != nil {
		t.Fatal(err)
	}
	eip := f.Find("aws_eip")
	if len(eip) != 1 || eip[0].If != "local.eip_dynamic" {
		t.Errorf("addresses: %+v", eip)
	}
}
