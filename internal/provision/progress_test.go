package provision_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	tfjson "github.com/hashicorp/terraform-json"

	"lablink/internal/provision"
)

// follow gives the output of an apply to a workspace, and returns what came of it.
func follow(t *testing.T, p *provision.Plan, secrets []string, text string) (e *events, out *output, machines map[string]provision.Machine, failure *provision.ApplyError) {
	t.Helper()
	e, out = &events{}, newOutput()
	w := &provision.Workspace{Secrets: secrets, Log: out.add}
	f := w.Follow(p, e.add)
	if n, err := f.Write([]byte(text)); n != len(text) || err != nil {
		t.Fatalf("writing %d bytes: %d, %v", len(text), n, err)
	}
	f.End()
	machines, failure = f.Outcome(errors.New("exit status 1"))
	return e, out, machines, failure
}

// What Terraform and OpenTofu have really written: testdata/record holds the
// plans and applies of two releases of one module, whose VMs have two resources
// each, and of which one fails.
func TestProgress_Recorded(t *testing.T) {
	t.Parallel()
	for _, engine := range []string{"terraform", "tofu"} {
		for step, want := range map[string]struct{ events, machines, failed, log string }{
			"create": {
				"vm-1: begun created; vm-2: begun created; vm-3: begun failed", "", "vm-3", `module.vm["vm-3"].terraform_data.machine[0]: Creating...`,
			},
			"mixed":   {"vm-1: begun; vm-3: begun destroyed", "vm-1 vm-2", "", `module.vm["vm-3"].terraform_data.disk: Destruction complete after 0s`},
			"replace": {"vm-1: begun created; vm-2: begun destroyed", "vm-1", "", "Apply complete! Resources: 1 added, 0 changed, 3 destroyed."},
		} {
			t.Run(engine+" "+step, func(t *testing.T) {
				t.Parallel()
				text, err := os.ReadFile("testdata/record/" + engine + "-" + step + ".jsonl")
				if err != nil {
					t.Fatal(err)
				}
				e, out, machines, failure := follow(t, recordedPlan(t, engine+"-"+step), []string{token + "-3"}, string(text))
				if e.String() != want.events {
					t.Errorf("events: %s, want %s", e, want.events)
				}
				for _, at := range e.at {
					if at.Year() != 2026 {
						t.Errorf("an event is of %v, not of when it happened", at)
					}
				}
				if names(machines) != want.machines || len(machines) > 0 && (machines["vm-1"].Address != "10.0.0.1" || len(machines["vm-1"].ID) != 36) {
					t.Errorf("machines: %v, want %s", machines, want.machines)
				}
				if failure.General != "" || len(failure.Reasons) > 1 ||
					(want.failed != "") != strings.Contains(failure.Reasons[want.failed], "exit status 3: no capacity for [secret]") {
					t.Errorf("error: %#v", failure)
				}
				if !strings.Contains(out.text(), want.log) || strings.Contains(out.text(), token) || strings.Contains(out.text(), `"@message"`) {
					t.Errorf("logged:\n%s", out.text())
				}
			})
		}
	}
}

func hook(kind, address, action string) string {
	return fmt.Sprintf(`{"@message":"m","@timestamp":"2026-11-24T10:00:00.5Z","type":%q,"hook":{"resource":{"addr":%q},"action":%q}}`+"\n", kind, address, action)
}

func TestProgress(t *testing.T) {
	t.Parallel()
	const x, y = `a.x["vm-1"]`, `module.m["vm-1"].a.y[0]`
	deposed := change(x, destroy)
	deposed.DeposedKey = "0123abcd"
	for name, test := range map[string]struct {
		changes []*tfjson.ResourceChange
		output  string
		want    string
	}{
		"one resource": {
			[]*tfjson.ResourceChange{change(x, create)}, hook("apply_start", x, "create") + hook("apply_complete", x, "create"), "vm-1: begun created",
		},
		"the first of two": {
			[]*tfjson.ResourceChange{change(x, create), change(y, create)}, hook("apply_start", x, "create") + hook("apply_complete", x, "create"), "vm-1: begun",
		},
		"both": {
			[]*tfjson.ResourceChange{change(x, create), change(y, create)},
			hook("apply_start", x, "create") + hook("apply_complete", x, "create") + hook("apply_start", y, "create") + hook("apply_complete", y, "create"),
			"vm-1: begun created",
		},
		"one of two fails": {
			[]*tfjson.ResourceChange{change(x, create), change(y, create)},
			hook("apply_start", x, "create") + hook("apply_start", y, "create") + hook("apply_errored", x, "create") + hook("apply_complete", y, "create"),
			"vm-1: begun failed",
		},
		"replaced": {
			[]*tfjson.ResourceChange{change(x, destroy, create)},
			hook("apply_start", x, "delete") + hook("apply_complete", x, "delete") + hook("apply_start", x, "create") + hook("apply_complete", x, "create"),
			"vm-1: begun created",
		},
		"replaced, half": {
			[]*tfjson.ResourceChange{change(x, destroy, create)}, hook("apply_start", x, "delete") + hook("apply_complete", x, "delete"), "vm-1: begun",
		},
		"destroyed": {
			[]*tfjson.ResourceChange{change(x, destroy), change(y, destroy)},
			hook("apply_start", y, "delete") + hook("apply_complete", y, "delete") + hook("apply_start", x, "delete") + hook("apply_complete", x, "delete"),
			"vm-1: begun destroyed",
		},
		"what was left of a replaced one is destroyed": {
			[]*tfjson.ResourceChange{change(x, noop), deposed}, hook("apply_start", x, "delete") + hook("apply_complete", x, "delete"), "vm-1: begun",
		},
		"a part of it is forgotten": {
			[]*tfjson.ResourceChange{change(x, forget), change(y, destroy)}, hook("apply_start", y, "delete") + hook("apply_complete", y, "delete"), "vm-1: begun",
		},
		"updated, and read": {
			[]*tfjson.ResourceChange{change(x, update)},
			hook("apply_start", x, "update") + hook("apply_complete", x, "update") + hook("apply_start", "data."+y, "read") + hook("apply_complete", "data."+y, "read"),
			"vm-1: begun",
		},
		"something that the plan did not hold": {
			[]*tfjson.ResourceChange{change(x, noop)}, hook("apply_complete", y, "create") + hook("apply_complete", `a.b["vm-9"]`, "create"), "",
		},
		"shared": {
			[]*tfjson.ResourceChange{change("a.b", create)}, hook("apply_start", "a.b", "create") + hook("apply_complete", "a.b", "create") + hook("apply_errored", "a.b", "create"), "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := provision.NewPlan(&tfjson.Plan{ResourceChanges: test.changes}, nil, isVM)
			if err != nil {
				t.Fatal(err)
			}
			if e, _, _, _ := follow(t, p, nil, test.output); e.String() != test.want {
				t.Errorf("events: %s, want %s", e, test.want)
			}
		})
	}
}

// A secret that is a part of every hostname must not keep VMs from being known.
func TestProgress_SecretInAHostname(t *testing.T) {
	t.Parallel()
	const address = `a.b["lablink-client-1"]`
	p, err := provision.NewPlan(&tfjson.Plan{ResourceChanges: []*tfjson.ResourceChange{change(address, create)}}, map[string]provision.VM{"lablink-client-1": {}}, isVM)
	if err != nil {
		t.Fatal(err)
	}
	e, out, machines, failure := follow(t, p, []string{"lablink"}, hook("apply_start", address, "create")+hook("apply_complete", address, "create")+
		`{"@message":"Outputs: 1","type":"outputs","outputs":{"vms":{"value":{"lablink-client-1":{"id":"i-1"}}}}}`+"\n"+
		`{"@message":"Error","type":"diagnostic","diagnostic":{"severity":"error","summary":"no role lablink","address":"a.b[\"lablink-client-1\"]"}}`+"\n")
	if e.String() != "lablink-client-1: begun created" || machines["lablink-client-1"].ID != "i-1" || failure.Reasons["lablink-client-1"] != "no role [secret]" {
		t.Errorf("events: %s; machines: %v; error: %#v", e, machines, failure)
	}
	if strings.Contains(out.text(), "lablink") {
		t.Errorf("logged:\n%s", out.text())
	}
}

func TestProgress_Diagnostics(t *testing.T) {
	t.Parallel()
	p, err := provision.NewPlan(&tfjson.Plan{ResourceChanges: []*tfjson.ResourceChange{change(`a.b["vm-1"]`, create)}}, nil, isVM)
	if err != nil {
		t.Fatal(err)
	}
	diagnostic := func(fields string) string {
		return `{"@message":"Error: x","@timestamp":"2026-11-24T10:11:12.5Z","type":"diagnostic","diagnostic":{` + fields + "}}\n"
	}
	long := strings.Repeat("é", 20_000)
	_, out, _, failure := follow(t, p, []string{"hunter2hunter2"}, ""+
		diagnostic(`"severity":"error","summary":"No capacity","detail":"for hunter2hunter2\nin\u0000 this zone\n","address":"a.b[\"vm-1\"]"`)+
		diagnostic(`"severity":"error","summary":"Twice","address":"module.x.a.b[\"vm-1\"]"`)+
		diagnostic(`"severity":"warning","summary":"Deprecated","detail":"since long","address":"a.b[\"vm-1\"]"`)+
		diagnostic(`"severity":"error","summary":"Shared","address":"a.vpc"`)+
		diagnostic(`"severity":"error","summary":"Syntax","range":{"filename":"vm/main.tf","start":{"line":7}}`)+
		diagnostic(`"severity":"error","summary":"Nowhere"`)+
		`{"@message":"no diagnostic","type":"diagnostic"}`+"\n"+
		strings.Repeat(diagnostic(`"severity":"error","summary":"`+long+`","address":"a.b[\"vm-2\"]"`), 30))
	if got, want := failure.Reasons["vm-1"], "No capacity: for [secret]\nin this zone\nTwice"; got != want {
		t.Errorf("reason %q, want %q", got, want)
	}
	if got, want := failure.General, "a.vpc: Shared\nvm/main.tf:7: Syntax\nNowhere"; got != want {
		t.Errorf("in general %q, want %q", got, want)
	}
	if got := failure.Reasons["vm-2"]; len(got) < provision.MaxReason || len(got) > provision.MaxReason+60 {
		t.Errorf("a reason is %d bytes long", len(got))
	}
	if got := failure.Error(); !strings.HasPrefix(got, "a.vpc: Shared\n") || !strings.Contains(got, "\nvm-1: No capacity") {
		t.Errorf("error: %s", got)
	}
	if want := "10:11:12  a.b[\"vm-1\"]: warning: Deprecated: since long\n10:11:12  a.vpc: error: Shared"; !strings.Contains(out.text(), want) {
		t.Errorf("logged:\n%.3000s", out.text())
	}
	bare := &provision.ApplyError{Err: os.ErrPermission}
	if bare.Error() != os.ErrPermission.Error() || !errors.Is(bare, os.ErrPermission) {
		t.Errorf("an error of the process: %v", bare)
	}
}

// A module of somebody else's may give more, or less, or anything.
func TestProgress_Outputs(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ outputs, want string }{
		"as it should be":   {`{"vms":{"value":{"vm-1":{"id":"i-1","address":"10.0.0.1"}}}}`, "map[vm-1:{i-1 10.0.0.1}]"},
		"more":              {`{"vms":{"value":{"vm-1":{"id":"i-1","price":7}}},"other":{"value":1}}`, "map[vm-1:{i-1 }]"},
		"no address yet":    {`{"vms":{"value":{"vm-1":{"id":"i-1","address":null}}}}`, "map[vm-1:{i-1 }]"},
		"one is wrong":      {`{"vms":{"value":{"vm-1":7,"vm-2":{"id":"i-2"}}}}`, "map[vm-2:{i-2 }]"},
		"a number":          {`{"vms":{"value":7}}`, "map[]"},
		"sensitive":         {`{"vms":{"sensitive":true}}`, "map[]"},
		"another name":      {`{"machines":{"value":{}}}`, "map[]"},
		"none":              {`{}`, "map[]"},
		"not for databases": {`{"vms":{"value":{"vm-1":{"id":"i\u0000-1"}}}}`, "map[vm-1:{i-1 }]"},
	} {
		_, _, machines, _ := follow(t, &provision.Plan{}, nil, `{"@message":"Outputs","type":"outputs","outputs":`+test.outputs+"}\n")
		if got := fmt.Sprint(machines); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
		if none := strings.Contains(name, "number") || strings.Contains(name, "sensitive"); none && machines != nil {
			t.Errorf("%s: a map, although nothing is known", name)
		}
	}
}

// A message without the time is of now.
func TestProgress_NoTime(t *testing.T) {
	t.Parallel()
	p, err := provision.NewPlan(&tfjson.Plan{ResourceChanges: []*tfjson.ResourceChange{change(`a.b["vm-1"]`, create)}}, nil, isVM)
	if err != nil {
		t.Fatal(err)
	}
	before := time.Now()
	for _, at := range []string{"", `"@timestamp":"yesterday",`} {
		e, _, _, _ := follow(t, p, nil, `{"@message":"m",`+at+`"type":"apply_start","hook":{"resource":{"addr":"a.b[\"vm-1\"]"}}}`)
		if len(e.at) != 1 || e.at[0].Before(before) || e.at[0].After(time.Now()) {
			t.Errorf("events: %s at %v", e, e.at)
		}
	}
}
