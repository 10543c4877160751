package provision_test

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	tfjson "github.com/hashicorp/terraform-json"

	"lablink/internal/provision"
)

// change is one resource's part in a plan: an address, and what is to be done.
func change(address string, actions ...tfjson.Action) *tfjson.ResourceChange {
	return &tfjson.ResourceChange{Address: address, Mode: tfjson.ManagedResourceMode, Change: &tfjson.Change{Actions: actions}}
}

// describe says in a word what a plan does to each VM.
func describe(p *provision.Plan) string {
	var parts []string
	for _, name := range p.VMs() {
		var words []string
		for word, is := range map[string]bool{"creates": p.Creates(name), "deletes": p.Deletes(name), "exists": p.Exists(name)} {
			if is {
				words = append(words, word)
			}
		}
		slices.Sort(words)
		parts = append(parts, name+" "+strings.Join(words, " "))
	}
	if p.Empty() {
		parts = append(parts, "empty")
	}
	if shared := p.Unasked(isVM, true); len(shared) > 0 {
		parts = append(parts, "shared: "+strings.Join(shared, " "))
	}
	return strings.Join(parts, "; ")
}

const (
	create, destroy, update = tfjson.ActionCreate, tfjson.ActionDelete, tfjson.ActionUpdate
	noop, read, forget      = tfjson.ActionNoop, tfjson.ActionRead, tfjson.ActionForget
)

func TestPlan(t *testing.T) {
	t.Parallel()
	const vm, module, other = `aws_instance.vm["vm-1"]`, `module.vm["vm-1"].aws_instance.x[0]`, `module.net["us-west-2a"].aws_eip.x["vm-1"]`
	data := change(`data.aws_ami.x["vm-1"]`, read)
	data.Mode = tfjson.DataResourceMode
	deposed := change(vm, destroy)
	deposed.DeposedKey = "0123abcd"
	moved := change(vm, noop)
	moved.PreviousAddress = `aws_instance.old["vm-1"]`
	imported := change(vm, noop)
	imported.Change.Importing = &tfjson.Importing{ID: "i-1"}
	for name, test := range map[string]struct {
		changes []*tfjson.ResourceChange
		want    string
	}{
		"nothing":                       {nil, "empty"},
		"made":                          {[]*tfjson.ResourceChange{change(vm, create)}, "vm-1 creates"},
		"there":                         {[]*tfjson.ResourceChange{change(vm, noop)}, "vm-1 exists; empty"},
		"updated":                       {[]*tfjson.ResourceChange{change(vm, update)}, "vm-1 exists"},
		"destroyed":                     {[]*tfjson.ResourceChange{change(vm, destroy)}, "vm-1 deletes exists"},
		"replaced":                      {[]*tfjson.ResourceChange{change(vm, destroy, create)}, "vm-1 creates deletes exists"},
		"replaced, the new one first":   {[]*tfjson.ResourceChange{change(vm, create, destroy)}, "vm-1 creates deletes exists"},
		"forgotten":                     {[]*tfjson.ResourceChange{change(vm, forget)}, "vm-1 deletes exists"},
		"forgotten, and made again":     {[]*tfjson.ResourceChange{change(vm, forget, create)}, "vm-1 creates deletes exists"},
		"in a module":                   {[]*tfjson.ResourceChange{change(module, create)}, "vm-1 creates"},
		"of several keys":               {[]*tfjson.ResourceChange{change(other, create)}, "vm-1 creates"},
		"half of it":                    {[]*tfjson.ResourceChange{change(vm, create), change(module, noop)}, "vm-1 creates exists"},
		"what was left of a replaced":   {[]*tfjson.ResourceChange{change(vm, noop), deposed}, "vm-1 deletes exists"},
		"moved":                         {[]*tfjson.ResourceChange{moved}, "vm-1 exists"},
		"imported":                      {[]*tfjson.ResourceChange{imported}, "vm-1 exists"},
		"only read":                     {[]*tfjson.ResourceChange{data}, "empty"},
		"shared":                        {[]*tfjson.ResourceChange{change("aws_vpc.x", create)}, ""},
		"shared, destroyed":             {[]*tfjson.ResourceChange{change("aws_vpc.x[0]", destroy)}, "shared: aws_vpc.x[0]"},
		"shared, replaced":              {[]*tfjson.ResourceChange{change("aws_vpc.x", destroy, create)}, "shared: aws_vpc.x"},
		"shared, forgotten":             {[]*tfjson.ResourceChange{change("aws_vpc.x", forget)}, "shared: aws_vpc.x"},
		"a key that is no hostname":     {[]*tfjson.ResourceChange{change(`aws_subnet.x["us-west-2a"]`, destroy)}, `shared: aws_subnet.x["us-west-2a"]`},
		"a key that only looks like it": {[]*tfjson.ResourceChange{change(`a.b["x[\"vm-1\"]"]`, destroy)}, `shared: a.b["x[\"vm-1\"]"]`},
		"two of one name's beginning": {
			[]*tfjson.ResourceChange{change(`a.b["vm-1"]`, noop), change(`a.b["vm-10"]`, destroy)}, "vm-1 exists; vm-10 deletes exists",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := provision.NewPlan(&tfjson.Plan{ResourceChanges: test.changes}, nil, isVM)
			if err != nil {
				t.Fatal(err)
			}
			if got := describe(p); got != test.want {
				t.Errorf("the plan says %q, want %q", got, test.want)
			}
		})
	}
}

// An output that changes is something to do: addresses come from there.
func TestPlan_Outputs(t *testing.T) {
	t.Parallel()
	raw := &tfjson.Plan{OutputChanges: map[string]*tfjson.Change{"vms": {Actions: tfjson.Actions{noop}}}}
	if p, err := provision.NewPlan(raw, nil, isVM); err != nil || !p.Empty() {
		t.Errorf("an output that stays: %+v, %v", p, err)
	}
	raw.OutputChanges["vms"].Actions = tfjson.Actions{update}
	if p, err := provision.NewPlan(raw, nil, isVM); err != nil || p.Empty() {
		t.Errorf("an output that changes: %+v, %v", p, err)
	}
}

// A machine of another prefix is known by the output, and by being wanted.
func TestPlan_WhatIsAVM(t *testing.T) {
	t.Parallel()
	raw := &tfjson.Plan{
		ResourceChanges: []*tfjson.ResourceChange{change(`a.b["old-1"]`, destroy), change(`a.b["new-1"]`, create), change(`a.b["zone"]`, create)},
		OutputChanges:   map[string]*tfjson.Change{"vms": {Actions: tfjson.Actions{update}, Before: map[string]any{"old-1": map[string]any{"id": "1"}}}},
	}
	p, err := provision.NewPlan(raw, map[string]provision.VM{"new-1": {}}, isVM)
	if err != nil {
		t.Fatal(err)
	}
	if got := describe(p); got != "new-1 creates; old-1 deletes exists; shared: old-1" { // describe asks by prefix
		t.Errorf("the plan says %q", got)
	}
	raw.OutputChanges["vms"].Before = "something else"
	if p, err = provision.NewPlan(raw, nil, isVM); err != nil || len(p.VMs()) > 0 {
		t.Errorf("plan: %+v, %v", p, err)
	}
}

func TestPlan_Unasked(t *testing.T) {
	t.Parallel()
	p, err := provision.NewPlan(&tfjson.Plan{ResourceChanges: []*tfjson.ResourceChange{
		change(`a.b["vm-2"]`, destroy), change(`a.c["vm-2"]`, destroy), change(`a.b["vm-1"]`, destroy), change(`a.b["vm-3"]`, noop), change(`a.b["vm-4"]`, create),
		change(`a.b["vm-5"]`, update), change(`a.b["vm-6"]`, noop), change(`a.eip["vm-6"]`, create), // both would be other machines afterwards
		change("aws_vpc.x", destroy), change("aws_vpc.x", destroy),
	}}, nil, isVM)
	if err != nil {
		t.Fatal(err)
	}
	only := func(names ...string) func(string) bool {
		return func(n string) bool { return slices.Contains(names, n) }
	}
	for _, test := range []struct {
		asked  func(string) bool
		remain bool
		want   []string
	}{
		{only(), true, []string{"aws_vpc.x", "vm-1", "vm-2", "vm-5", "vm-6"}},
		{only("vm-1", "vm-5", "vm-6"), true, []string{"aws_vpc.x", "vm-2"}},
		{only("vm-1", "vm-2", "vm-5", "vm-6"), true, []string{"aws_vpc.x"}},
		{only("vm-1", "vm-2", "vm-5", "vm-6"), false, nil},
		{only("vm-2", "vm-3", "vm-4", "vm-6"), false, []string{"vm-1", "vm-5"}},
	} {
		if got := p.Unasked(test.asked, test.remain); !slices.Equal(got, test.want) {
			t.Errorf("unasked, remain %v: %v, want %v", test.remain, got, test.want)
		}
	}
}

// A plan that could not be followed is none.
func TestPlan_Refused(t *testing.T) {
	t.Parallel()
	old := change("aws_instance.lablink_vm[3]", destroy)
	old.Type, old.Name, old.Index = "aws_instance", "lablink_vm", float64(3)
	ours := change(`aws_instance.lablink_vm["vm-1"]`, destroy)
	ours.Type, ours.Name, ours.Index = "aws_instance", "lablink_vm", "vm-1"
	for name, test := range map[string]struct {
		change *tfjson.ResourceChange
		err    string
	}{
		"the Python system's state": {old, "holds aws_instance.lablink_vm[3], a VM of the Python LabLink"},
		"the same name, but ours":   {ours, ""},
		"VMs by count":              {change("aws_instance.vm[0]", create), "the module makes nothing for vm-1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := provision.NewPlan(&tfjson.Plan{ResourceChanges: []*tfjson.ResourceChange{test.change}}, map[string]provision.VM{"vm-1": {}}, isVM)
			if err == nil != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Errorf("error: %v, want %s", err, test.err)
			}
		})
	}
}

// recordedPlan is a plan that Terraform or OpenTofu has shown, see testdata/record.
func recordedPlan(t *testing.T, name string) *provision.Plan {
	t.Helper()
	data, err := os.ReadFile("testdata/record/" + name + ".plan.json")
	if err != nil {
		t.Fatal(err)
	}
	var raw tfjson.Plan
	if err := json.Unmarshal(data, &raw); err != nil {
		t.Fatal(err)
	}
	p, err := provision.NewPlan(&raw, nil, isVM)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPlan_Recorded(t *testing.T) {
	t.Parallel()
	for _, engine := range []string{"terraform", "tofu"} {
		for step, want := range map[string]string{
			"create":  "vm-1 creates; vm-2 creates; vm-3 creates",
			"mixed":   "vm-1 exists; vm-2 exists; vm-3 deletes exists",
			"replace": "vm-1 creates deletes exists; vm-2 deletes exists",
		} {
			if got := describe(recordedPlan(t, engine+"-"+step)); got != want {
				t.Errorf("%s %s: %q, want %q", engine, step, got, want)
			}
		}
	}
}

// quote writes a key as Terraform does in an address.
func quote(key string) string {
	var b strings.Builder
	for i, r := range key {
		switch {
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '"' || r == '\\':
			b.WriteString(`\` + string(r))
		case (r == '$' || r == '%') && strings.HasPrefix(key[i+1:], "{"):
			b.WriteString(string(r) + string(r))
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// Whatever the keys are: a VM is found by its own key alone.
func FuzzHostnameIn(f *testing.F) {
	for _, key := range []string{"", "us-west-2a", "vm-1", "vm-10", "vm-1]", `x["vm-1"]`, `"]["vm-1"]["`, `\`, "${vm-1}", "\"vm-1\"", "é\n"} {
		f.Add(key, "module.vm")
		f.Add(key, `a.b[0]`)
	}
	f.Fuzz(func(t *testing.T, key, raw string) {
		key = strings.ToValidUTF8(key, "?")
		is := func(k string) bool { return k == "vm-1" }
		for _, form := range []string{`a.b["%s"]`, `module.x["%s"].a.b[0]`, `module.x["zone"].a.b["%s"]`, `module.x["%s"].module.y["zone"].a.b`} {
			want := ""
			if key == "vm-1" {
				want = key
			}
			if got := provision.HostnameIn(fmt.Sprintf(form, quote(key)), is); got != want {
				t.Errorf("%s belongs to %q, want %q", fmt.Sprintf(form, quote(key)), got, want)
			}
		}
		if got := provision.HostnameIn(`module.x["`+quote(key)+`"].a.b["vm-1"]`, is); got != "vm-1" {
			t.Errorf("beside %q the VM is not found", key)
		}
		if got := provision.HostnameIn(raw, is); got != "" && !strings.Contains(raw, `["vm-1"]`) {
			t.Errorf("%q belongs to %q", raw, got)
		}
	})
}
