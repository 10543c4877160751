package provision_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/terraform-config-inspect/tfconfig"
)

const awsModule = "module/aws"

// awsBlocks are the blocks of the module, by type and labels such as "resource
// aws_instance.lablink_vm", with the text of their attributes. That of a block in
// one goes by "metadata_options.http_tokens".
func awsBlocks(t *testing.T) map[string]map[string]string {
	t.Helper()
	names, err := filepath.Glob(awsModule + "/*.tf")
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	blocks := map[string]map[string]string{}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		file, diags := hclsyntax.ParseConfig(data, name, hcl.InitialPos)
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		body, ok := file.Body.(*hclsyntax.Body)
		if !ok {
			t.Fatalf("%s has a %T", name, file.Body)
		}
		for _, b := range body.Blocks {
			attributes := map[string]string{}
			texts(data, b.Body, "", attributes)
			key := strings.TrimSpace(b.Type + " " + strings.Join(b.Labels, "."))
			if b.Type == "locals" { // there may be several
				key += " " + filepath.Base(name)
				attributes[""] = blocks[key][""] + string(b.Range().SliceBytes(data)) + "\n"
			}
			blocks[key] = attributes
		}
	}
	return blocks
}

// texts collects the text of a block's attributes, in one line where it is several.
func texts(data []byte, body *hclsyntax.Body, prefix string, into map[string]string) {
	for name, a := range body.Attributes {
		into[prefix+name] = string(a.Expr.Range().SliceBytes(data))
	}
	for _, b := range body.Blocks {
		texts(data, b.Body, prefix+b.Type+".", into)
	}
}

func TestAWSModule_Format(t *testing.T) {
	t.Parallel()
	dir, err := filepath.Abs(awsModule)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := terraform(t, dir, "fmt", "-check", "-diff", "-recursive", "-no-color"); err != nil {
		t.Errorf("run terraform fmt -recursive %s: %v\n%s", awsModule, err, out)
	}
}

// The variables and outputs that package awsfleet, docs/aws.md and scripts know.
func TestAWSModule_Interface(t *testing.T) {
	t.Parallel()
	m, diags := tfconfig.LoadModule(awsModule)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	variables := map[string]string{}
	for name, v := range m.Variables {
		is := strings.Join(strings.Fields(v.Type), " ")
		if !v.Required {
			is += fmt.Sprintf(" = %q", fmt.Sprint(v.Default))
		}
		if v.Sensitive {
			is += ", sensitive"
		}
		variables[name] = is
		if v.Description == "" {
			t.Errorf("the variable %s is not described", name)
		}
	}
	want := map[string]string{
		"vms":    "map(object({ instance_type = string subnet_id = optional(string, \"\") ami_id = optional(string, \"\") gpu = optional(bool, false) }))",
		"tokens": "map(string), sensitive", "operation": `string = ""`, "fleet": "string", "environment": "string", "region": "string", "vpc_id": "string",
		"allocator_url": "string", "image": "string", "repository": "string", "software": "string", "startup_script": "string", "startup_on_error": "string",
		"disk_gb": "number", "ssh_from": `list(string) = "[]"`, "rdp_from": `list(string) = "[]"`, "ssh_public_key": `string = ""`, "elastic_ips": "bool",
		"log_group": "string", "create_log_group": "bool", "log_processor_arn": "string",
	}
	if d := cmp.Diff(want, variables); d != "" {
		t.Errorf("variables (-want +got):\n%s", d)
	}
	outputs := slices.Sorted(maps.Keys(m.Outputs))
	if want := []string{"vm_instance_ids", "vm_instance_names", "vm_public_ips", "vms"}; !slices.Equal(outputs, want) {
		t.Errorf("outputs %v, want %v", outputs, want)
	}
	for name, o := range m.Outputs {
		if o.Sensitive || o.Description == "" {
			t.Errorf("the output %s is sensitive, or not described", name)
		}
	}
	providers := map[string]*tfconfig.ProviderRequirement{"aws": {Source: "hashicorp/aws", VersionConstraints: []string{"~> 6.25"}}}
	if d := cmp.Diff(providers, m.RequiredProviders); d != "" || !slices.Equal(m.RequiredCore, []string{">= 1.6"}) {
		t.Errorf("it requires %v and (-want +got)\n%s", m.RequiredCore, d)
	}

	boot, diags := tfconfig.LoadModule(awsModule + "/boot")
	if diags.HasErrors() || len(boot.RequiredProviders)+len(boot.ManagedResources)+len(boot.DataResources)+len(boot.ModuleCalls) > 0 {
		t.Errorf("the module boot makes something: %+v, %v", boot, diags)
	}
	for name := range boot.Variables {
		if _, given := awsBlocks(t)["module boot"][name]; !given {
			t.Errorf("the module boot does not get its %s", name)
		}
	}
}

// Names that LabLink's package awsfleet, and the policy of the allocator's role,
// know; $ENV stands for the environment, $HASH for that of the public key.
var awsNames = map[string]struct{ attribute, name, wildcard string }{
	"aws_security_group.lablink":                     {"name", "lablink_client_$ENV_sg", "*"},
	"aws_key_pair.lablink":                           {"key_name", "lablink_key_pair_client_$ENV_$HASH", "*"},
	"aws_iam_role.lablink":                           {"name", "lablink_cloud_watch_agent_role_$ENV", "lablink_cloud_watch_agent_role_*"},
	"aws_iam_role_policy.lablink":                    {"name", "lablink_cloud_watch_agent_role_$ENV", "lablink_cloud_watch_agent_role_*"},
	"aws_iam_instance_profile.lablink":               {"name", "lablink_client_instance_profile_$ENV", "lablink_client_instance_profile_*"},
	"aws_cloudwatch_log_subscription_filter.lablink": {"name", "lablink_lambda_subscription_$ENV", "*"},
	"aws_cloudwatch_log_group.lablink":               {"name", "", ""}, // a variable
	"aws_instance.lablink_vm":                        {}, "aws_eip.lablink_vm": {},
}

func TestAWSModule_Resources(t *testing.T) {
	t.Parallel()
	blocks := awsBlocks(t)
	untaggable := []string{"aws_iam_role_policy.lablink", "aws_cloudwatch_log_subscription_filter.lablink"}
	found := map[string]bool{}
	for key, r := range blocks {
		address, ok := strings.CutPrefix(key, "resource ")
		if !ok {
			continue
		}
		found[address] = true
		known, ok := awsNames[address]
		if !ok {
			t.Errorf("nobody knows %s", address)
		}
		if known.name != "" {
			want := `"` + strings.NewReplacer("$ENV", "${var.environment}", "$HASH", "${substr(sha256(var.ssh_public_key), 0, 8)}").Replace(known.name) + `"`
			if r[known.attribute] != want {
				t.Errorf("%s is called %s, want %s", address, r[known.attribute], want)
			}
			name := strings.NewReplacer("$ENV", "ci-test", "$HASH", "9de8a231").Replace(known.name)
			if ok, err := path.Match(known.wildcard, name); !ok || err != nil {
				t.Errorf("the allocator's role may not make %s %s", address, name)
			}
		}

		tags := "local.vm_tags[each.key]"
		if known.attribute != "" {
			tags = "merge(local.tags, { Name = " + r[known.attribute] + " })"
		}
		if slices.Contains(untaggable, address) {
			tags = ""
		}
		if r["tags"] != tags {
			t.Errorf("%s has the tags %s, want %s", address, r["tags"], tags)
		}

		// What belongs to one VM is never touched again.
		ofVM := strings.HasSuffix(address, ".lablink_vm")
		if _, each := r["for_each"]; each != ofVM || ofVM && r["lifecycle.ignore_changes"] != "all" {
			t.Errorf("%s has for_each = %s and ignore_changes = %s", address, r["for_each"], r["lifecycle.ignore_changes"])
		}
		for name := range r {
			if strings.HasPrefix(name, "provisioner") {
				t.Errorf("%s runs something", address)
			}
		}
	}
	if len(found) != len(awsNames) {
		t.Errorf("the module has %v", slices.Sorted(maps.Keys(found)))
	}
	if p := blocks["provider aws"]; len(p) != 2 || p["region"] != "var.region" || p["max_retries"] != "6" {
		t.Errorf("the provider has %v", p)
	}
}

// What a VM is made with, word by word.
func TestAWSModule_Instance(t *testing.T) {
	t.Parallel()
	blocks := awsBlocks(t)
	for key, want := range map[string]map[string]string{
		"resource aws_instance.lablink_vm": {
			"for_each":                       "var.vms",
			"ami":                            `each.value.ami_id == "" ? "ami-unchanged" : each.value.ami_id`,
			"instance_type":                  "each.value.instance_type",
			"subnet_id":                      `each.value.subnet_id == "" ? null : each.value.subnet_id`,
			"associate_public_ip_address":    "true",
			"vpc_security_group_ids":         "[aws_security_group.lablink.id]",
			"key_name":                       "one(aws_key_pair.lablink[*].key_name)",
			"iam_instance_profile":           "aws_iam_instance_profile.lablink.name",
			"user_data_base64":               "contains(local.making, each.key) ? module.boot[each.key].user_data_base64 : null",
			"user_data_replace_on_change":    "false",
			"metadata_options.http_endpoint": `"enabled"`,
			"metadata_options.http_tokens":   `"required"`,
			"metadata_options.http_put_response_hop_limit": "1",
			"root_block_device.volume_type":                `"gp3"`,
			"root_block_device.volume_size":                "var.disk_gb",
			"root_block_device.encrypted":                  "true",
			"root_block_device.delete_on_termination":      "true",
			"root_block_device.tags":                       "local.vm_tags[each.key]",
			"tags":                                         "local.vm_tags[each.key]",
			"depends_on":                                   "[aws_cloudwatch_log_group.lablink, aws_iam_role_policy.lablink]",
			"lifecycle.ignore_changes":                     "all",
		},
		"resource aws_eip.lablink_vm": {
			"for_each": "var.elastic_ips ? var.vms : {}", "domain": `"vpc"`, "instance": "aws_instance.lablink_vm[each.key].id",
			"tags": "local.vm_tags[each.key]", "lifecycle.ignore_changes": "all",
		},
		"resource aws_cloudwatch_log_group.lablink": {
			"count": "var.create_log_group ? 1 : 0", "name": "var.log_group", "retention_in_days": "7", "tags": "merge(local.tags, { Name = var.log_group })",
		},
		"resource aws_cloudwatch_log_subscription_filter.lablink": {
			"count": `var.create_log_group && var.log_processor_arn != "" ? 1 : 0`, "name": `"lablink_lambda_subscription_${var.environment}"`,
			"log_group_name": "aws_cloudwatch_log_group.lablink[0].name", "filter_pattern": `""`, "destination_arn": "var.log_processor_arn",
		},
	} {
		if d := cmp.Diff(want, blocks[key]); d != "" {
			t.Errorf("%s (-want +got):\n%s", key, d)
		}
	}
	if got := blocks["resource aws_key_pair.lablink"]["count"]; got != `var.ssh_public_key == "" ? 0 : 1` {
		t.Errorf("there are %s keys", got)
	}
}

// evaluate has Terraform evaluate expressions of the module, for values of its
// variables. What AWS would say stands for itself.
func evaluate(t *testing.T, values map[string]any, expressions map[string]string) (results map[string]any, trouble string) {
	t.Helper()
	dir := t.TempDir()
	variables, err := os.ReadFile(awsModule + "/variables.tf")
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "variables.tf"), string(variables))
	blocks := awsBlocks(t)
	text := blocks["locals main.tf"][""] + blocks["locals shared.tf"][""]
	for name, e := range expressions {
		text += fmt.Sprintf("output %q { value = %s }\n", name, e)
	}
	write(t, filepath.Join(dir, "main.tf"), strings.NewReplacer(
		"data.aws_partition.current.partition", `"aws"`, "data.aws_caller_identity.current.account_id", `"123456789012"`).Replace(text))
	all := map[string]any{
		"vms": map[string]any{"vm-1": map[string]any{"instance_type": "t3.large"}}, "tokens": map[string]any{}, "fleet": "fleet-1", "environment": "test",
		"region": "us-west-2", "vpc_id": "vpc-1", "allocator_url": "https://lablink.example.org", "image": "client", "repository": "", "software": "",
		"startup_script": "", "startup_on_error": "continue", "disk_gb": 80, "elastic_ips": false, "log_group": "lablink-cloud-init-test",
		"create_log_group": true, "log_processor_arn": "",
	}
	maps.Copy(all, values)
	data, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "terraform.tfvars.json"), string(data))
	if out, err := terraform(t, dir, "init", "-input=false", "-no-color"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := terraform(t, dir, "apply", "-input=false", "-no-color", "-auto-approve"); err != nil {
		return nil, out
	}
	out, err := terraform(t, dir, "output", "-json")
	if err != nil {
		t.Fatal(out)
	}
	var outputs map[string]struct {
		Value any `json:"value"`
	}
	if err := json.Unmarshal([]byte(out), &outputs); err != nil {
		t.Fatal(err)
	}
	results = map[string]any{}
	for name, o := range outputs {
		results[name] = o.Value
	}
	return results, ""
}

// Nothing is open but what is asked for, and what was open is closed again.
func TestAWSModule_Ports(t *testing.T) {
	t.Parallel()
	group := awsBlocks(t)["resource aws_security_group.lablink"]
	rule := func(port float64, protocol, what string, v4, v6 []any) map[string]any {
		return map[string]any{
			"description": what, "protocol": protocol, "from_port": port, "to_port": port, "cidr_blocks": v4, "ipv6_cidr_blocks": v6,
			"prefix_list_ids": []any{}, "security_groups": []any{}, "self": false,
		}
	}
	for name, test := range map[string]struct {
		values  map[string]any
		ingress []any
	}{
		"by default": {nil, []any{}},
		"some": {map[string]any{"ssh_from": []string{"192.0.2.77/24", "2001:db8::1/32", "198.51.100.7/32"}, "rdp_from": []string{"0.0.0.0/0"}}, []any{
			rule(22, "tcp", "SSH", []any{"192.0.2.0/24", "198.51.100.7/32"}, []any{"2001:db8::/32"}),
			rule(3389, "tcp", "RDP", []any{"0.0.0.0/0"}, []any{}),
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, trouble := evaluate(t, test.values, map[string]string{"ingress": group["ingress"], "egress": group["egress"]})
			want := map[string]any{"ingress": test.ingress, "egress": []any{rule(0, "-1", "Anywhere", []any{"0.0.0.0/0"}, []any{"::/0"})}}
			if d := cmp.Diff(want, got); d != "" || trouble != "" {
				t.Errorf("rules (-want +got):\n%s%s", d, trouble)
			}
		})
	}
}

func TestAWSModule_Values(t *testing.T) {
	t.Parallel()
	blocks := awsBlocks(t)
	got, trouble := evaluate(t, map[string]any{
		"operation": "42", "tokens": map[string]string{"vm-2": "secret", "gone": "secret"},
		"vms": map[string]any{"vm-1": map[string]any{"instance_type": ""}, "vm-2": map[string]any{"instance_type": "g5.xlarge", "gpu": true}},
	}, map[string]string{
		"tags": "local.tags", "vm_tags": "local.vm_tags", "making": "local.making",
		"policy": blocks["resource aws_iam_role_policy.lablink"]["policy"], "trust": blocks["resource aws_iam_role.lablink"]["assume_role_policy"],
	})
	ofVM := func(name string) map[string]any {
		return map[string]any{
			"Name": name, "Environment": "test", "lablink:environment": "test", "lablink:fleet": "fleet-1", "lablink:hostname": name, "lablink:operation": "42",
		}
	}
	const group = "arn:aws:logs:us-west-2:123456789012:log-group:lablink-cloud-init-test"
	want := map[string]any{
		"tags":    map[string]any{"Environment": "test", "lablink:environment": "test", "lablink:fleet": "fleet-1"},
		"vm_tags": map[string]any{"vm-1": ofVM("vm-1"), "vm-2": ofVM("vm-2")},
		"making":  []any{"vm-2"},
		"policy": `{"Statement":[{"Action":["logs:CreateLogStream","logs:PutLogEvents","logs:DescribeLogStreams"],"Effect":"Allow",` +
			`"Resource":["` + group + `","` + group + `:*"]}],"Version":"2012-10-17"}`,
		"trust": `{"Statement":[{"Action":"sts:AssumeRole","Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"}}],"Version":"2012-10-17"}`,
	}
	if d := cmp.Diff(want, got); d != "" || trouble != "" {
		t.Errorf("values (-want +got):\n%s%s", d, trouble)
	}
}

// What cannot work is refused before anything is made.
func TestAWSModule_Refuses(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		value any
		says  string
	}{
		"environment":      {"Prod & co", "The environment becomes part of the names"},
		"fleet":            {"", "Without a fleet's id"},
		"allocator_url":    {"lablink.example.org", "must be such as https://lablink.example.org"},
		"image":            {"", "set machine.image"},
		"startup_on_error": {"ignore", "must be continue or fail"},
		"disk_gb":          {7.5, "a whole number of GiB"},
		"ssh_from":         {[]string{"everywhere"}, "ssh_from must hold networks"},
		"rdp_from":         {[]string{"10.0.0.1"}, "rdp_from must hold networks"},
		"log_group":        {"two words", "The log group's name"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, trouble := evaluate(t, map[string]any{name: test.value}, nil)
			if words := strings.Join(strings.Fields(strings.ReplaceAll(trouble, "│", " ")), " "); !strings.Contains(words, test.says) {
				t.Errorf("%v: %s", test.value, trouble)
			}
		})
	}
}
