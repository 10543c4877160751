package main

import (
	"context"
	"errors"
	"slices"

	"github.com/aws/smithy-go"
	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

// kind is a type of resource.
type kind struct {
	name, called string // by Terraform, and in errors
	attributes   map[string]attribute
	blocks       map[string]map[string]attribute // of which there may be one each
	label        string                          // the attribute by which a test knows it; "" = the tag of the hostname
	gone         []string                        // AWS's answers when there is none
	inPlace      []string                        // the attributes that update can change

	create, update, remove func(ctx context.Context, c *clients, r record) error // create sets the id as soon as there is something, unless it is the label
	read                   func(ctx context.Context, c *clients, r record) (found bool, err error)
	tag                    func(ctx context.Context, c *clients, r record, set map[string]string, remove []string) error // nil: it has none

	imported func(r record, id string) error       // nil: the id suffices
	replaced func(old, r record, name string) bool // whether a change of name needs a new one; nil: see how
	meaning  func(r record, name string) any       // of an attribute of inPlace that can be written in many ways; nil: there is none
}

// attribute is one of a resource or block.
type attribute struct {
	is      attr.Type
	how     how
	initial any // unless it is configured
}

// how is what Terraform may do with an attribute.
type how int

const (
	required how = 1 << iota
	optional
	computed // and kept, unless it is configured
	replaces // a change needs a new resource
)

func (h how) has(flag how) bool { return h&flag != 0 }

func text(h how) attribute { return attribute{is: types.StringType, how: h} }

var stringMap = types.MapType{ElemType: types.StringType}

// complete adds what all resources have. Those with an initial value must count as
// computed, so that the provider may set it.
func (k kind) complete() kind {
	k.attributes["id"] = text(computed)
	if k.tag != nil {
		k.attributes["tags"] = attribute{is: stringMap, how: optional}
		k.attributes["tags_all"] = attribute{is: stringMap, how: computed}
	}
	return k
}

func (k kind) schema() schema.Schema {
	s := schema.Schema{Attributes: schemaOf(k.attributes), Blocks: map[string]schema.Block{}}
	for name, attributes := range k.blocks {
		s.Blocks[name] = schema.ListNestedBlock{NestedObject: schema.NestedBlockObject{Attributes: schemaOf(attributes)}}
	}
	return s
}

func schemaOf(attributes map[string]attribute) map[string]schema.Attribute {
	all := map[string]schema.Attribute{}
	for name, a := range attributes {
		r, o, c := a.how.has(required), a.how.has(optional), a.how.has(computed) || a.initial != nil
		switch t := a.is.(type) {
		case types.MapType:
			all[name] = schema.MapAttribute{ElementType: t.ElemType, Required: r, Optional: o, Computed: c}
		case types.SetType:
			all[name] = schema.SetAttribute{ElementType: t.ElemType, Required: r, Optional: o, Computed: c}
		default:
			switch t {
			case types.BoolType:
				all[name] = schema.BoolAttribute{Required: r, Optional: o, Computed: c}
			case types.Int64Type:
				all[name] = schema.Int64Attribute{Required: r, Optional: o, Computed: c}
			default:
				all[name] = schema.StringAttribute{Required: r, Optional: o, Computed: c}
			}
		}
	}
	return all
}

// settle completes a plan for a resource or block as the real provider does, and
// returns what of it needs a new resource. old is nil for a new one.
func settle(attributes map[string]attribute, old, configured, plan record, at path.Path) (needNew path.Paths) {
	for name, a := range attributes {
		switch {
		case configured[name] != nil:
		case a.initial != nil:
			plan[name] = a.initial
		case a.how.has(computed) && old != nil:
			plan[name] = old[name]
		}
		if old != nil && a.how.has(replaces) && !same(old[name], plan[name]) {
			needNew = append(needNew, at.AtName(name))
		}
	}
	return needNew
}

// settle completes a plan for a resource.
func (k kind) settle(old, configured, plan record) path.Paths {
	needNew := settle(k.attributes, old, configured, plan, path.Empty())
	for _, name := range k.inPlace {
		if k.meaning != nil && old != nil && plan[name] != any(unknown{}) && same(k.meaning(old, name), k.meaning(plan, name)) {
			plan[name] = old[name]
		}
	}
	for name, attributes := range k.blocks {
		if block := plan.block(name); block != nil {
			needNew = append(needNew, settle(attributes, old.block(name), configured.block(name), block, path.Root(name).AtListIndex(0))...)
		}
	}
	for name := range k.attributes {
		if k.replaced != nil && old != nil && k.replaced(old, plan, name) {
			needNew = append(needNew, path.Root(name))
		}
	}
	if k.tag != nil {
		plan["tags_all"] = map[string]any{}
		if plan["tags"] != nil {
			plan["tags_all"] = plan["tags"]
		}
	}
	return needNew
}

// failure is for answers that say nothing but that all went well.
func failure[T any](_ T, err error) error { return err }

// when does something only if there is something to do.
func when(needed bool, do func() error) error {
	if !needed {
		return nil
	}
	return do()
}

// answered reports whether AWS answered with one of these codes.
func answered(err error, codes []string) bool {
	var answer smithy.APIError
	return errors.As(err, &answer) && slices.Contains(codes, answer.ErrorCode())
}
