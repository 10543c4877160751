package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

// managed is a kind of resource as the framework has it.
type managed struct {
	kind

	clients *clients
}

func (r *managed) is(ctx context.Context) tftypes.Type { return r.schema().Type().TerraformType(ctx) }

// Metadata implements resource.Resource.
func (r *managed) Metadata(_ context.Context, _ resource.MetadataRequest, resp *resource.MetadataResponse) {
	resp.TypeName = r.name
}

// Schema implements resource.Resource.
func (r *managed) Schema(_ context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	resp.Schema = r.schema()
}

// Configure implements resource.ResourceWithConfigure.
func (r *managed) Configure(_ context.Context, req resource.ConfigureRequest, _ *resource.ConfigureResponse) {
	r.clients = as[*clients](req.ProviderData)
}

// ModifyPlan implements resource.ResourceWithModifyPlan.
func (r *managed) ModifyPlan(ctx context.Context, req resource.ModifyPlanRequest, resp *resource.ModifyPlanResponse) {
	if req.Plan.Raw.IsNull() { // it is to be destroyed
		return
	}
	plan := as[record](decode(req.Plan.Raw))
	resp.RequiresReplace = r.settle(as[record](decode(req.State.Raw)), as[record](decode(req.Config.Raw)), plan)
	resp.Plan.Raw = encode(r.is(ctx), plan)
}

// Create implements resource.Resource.
func (r *managed) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	m := as[record](decode(req.Plan.Raw))
	err := r.work("create", m, func() error { return r.create(ctx, r.clients, m) })
	if err == nil && m.text("id") == "" {
		m["id"] = r.labelOf(m)
	}
	if err == nil {
		err = r.clients.trouble.hold(ctx, r.name, r.labelOf(m))
	}
	if err == nil {
		err = r.refresh(ctx, m)
	}
	if id := m.text("id"); err != nil && id != "" {
		m = record{"id": id} // it exists, and Terraform calls it tainted
	}
	if m.text("id") != "" {
		resp.State.Raw = encode(r.is(ctx), m)
	}
	report(&resp.Diagnostics, err)
}

// Read implements resource.Resource.
func (r *managed) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	m := as[record](decode(req.State.Raw))
	err := r.work("read", m, func() error { return r.refresh(ctx, m) })
	switch {
	case errors.Is(err, errGone):
		resp.State.RemoveResource(ctx)
	case err != nil:
		report(&resp.Diagnostics, err)
	default:
		resp.State.Raw = encode(r.is(ctx), m)
	}
}

var errGone = errors.New("it is gone")

// refresh reads everything about a resource.
func (r *managed) refresh(ctx context.Context, m record) error {
	found, err := r.read(ctx, r.clients, m)
	if answered(err, r.gone) || err == nil && !found {
		return errGone
	}
	return err
}

// Update implements resource.Resource.
func (r *managed) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	old, m := as[record](decode(req.State.Raw)), as[record](decode(req.Plan.Raw))
	err := r.work("update", m, func() error {
		if err := r.change(ctx, old, m); err != nil {
			return err
		}
		return r.refresh(ctx, m)
	})
	if err == nil {
		resp.State.Raw = encode(r.is(ctx), m)
	}
	report(&resp.Diagnostics, err)
}

// change changes what differs. What the stand-in cannot change in place, the real
// one can, but then a test would not see whether it should.
func (r *managed) change(ctx context.Context, old, m record) error {
	changed := false
	for name, value := range m {
		switch {
		case same(value, old[name]) || name == "tags" || name == "tags_all":
		case slices.Contains(r.inPlace, name):
			changed = true
		default:
			return fmt.Errorf("the stand-in for hashicorp/aws does not change %s in place", name)
		}
	}
	if changed {
		if err := r.update(ctx, r.clients, m); err != nil {
			return err
		}
	}
	if r.tag == nil {
		return nil
	}
	set, remove := m.tags(), []string(nil)
	for key, value := range as[map[string]any](old["tags_all"]) {
		if now, kept := set[key]; !kept {
			remove = append(remove, key)
		} else if now == value {
			delete(set, key)
		}
	}
	if len(set)+len(remove) == 0 {
		return nil
	}
	return r.tag(ctx, r.clients, m, set, remove)
}

// Delete implements resource.Resource.
func (r *managed) Delete(ctx context.Context, req resource.DeleteRequest, resp *resource.DeleteResponse) {
	m := as[record](decode(req.State.Raw))
	err := r.work("delete", m, func() error { return r.remove(ctx, r.clients, m) })
	if !answered(err, r.gone) {
		report(&resp.Diagnostics, err)
	}
}

// ImportState implements resource.ResourceWithImportState. Terraform then reads
// the resource, and refuses what is not found.
func (r *managed) ImportState(ctx context.Context, req resource.ImportStateRequest, resp *resource.ImportStateResponse) {
	m := record{"id": req.ID}
	err := r.work("import", m, func() error {
		if r.imported == nil {
			return nil
		}
		return r.imported(m, req.ID)
	})
	if err == nil {
		resp.State.Raw = encode(r.is(ctx), m)
	}
	report(&resp.Diagnostics, err)
}

// work records an operation, does it, and says in an error which one it was.
func (r *managed) work(operation string, m record, do func() error) error {
	err := r.clients.trouble.record(operation, r.name, r.labelOf(m))
	if err == nil {
		err = do()
	}
	if err == nil {
		return nil
	}
	what, name := r.called, m.text("id")
	if name == "" && r.label != "" {
		name = m.text(r.label)
	}
	if name != "" {
		what += " (" + name + ")"
	}
	return fmt.Errorf("%sing %s: %w", strings.TrimSuffix(operation, "e"), what, err)
}

func (r *managed) labelOf(m record) string {
	if r.label != "" {
		return m.text(r.label)
	}
	return m.tags()["lablink:hostname"]
}

func report(to *diag.Diagnostics, err error) {
	if err != nil {
		to.AddError(err.Error(), "")
	}
}
