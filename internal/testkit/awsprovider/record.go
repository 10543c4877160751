package main

import (
	"fmt"
	"math/big"
	"reflect"
	"slices"
	"strings"

	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

// record is a resource, or a block of one, as Terraform has it: a string, int64,
// bool, []any, map[string]any, record, nil or unknown for each attribute.
type record map[string]any

// unknown is a value that is known only after the apply.
type unknown struct{}

func (r record) text(name string) string { return as[string](r[name]) }

// optional is for what AWS must not get an empty text for.
func (r record) optional(name string) *string {
	if s := r.text(name); s != "" {
		return &s
	}
	return nil
}

func (r record) texts(name string) (texts []string) {
	for _, e := range as[[]any](r[name]) {
		texts = append(texts, as[string](e))
	}
	return texts
}

// number is nil unless there is one.
func (r record) number(name string) *int32 {
	if n, is := r[name].(int64); is {
		i := int32(n)
		return &i
	}
	return nil
}

// flag is nil unless there is one.
func (r record) flag(name string) *bool {
	if b, is := r[name].(bool); is {
		return &b
	}
	return nil
}

// block is the one block of that name, or nil.
func (r record) block(name string) record {
	if blocks := as[[]any](r[name]); len(blocks) > 0 {
		return as[record](blocks[0])
	}
	return nil
}

// tags are those that the resource is to have.
func (r record) tags() map[string]string {
	tags := map[string]string{}
	for key, value := range as[map[string]any](r["tags"]) {
		tags[key] = as[string](value)
	}
	return tags
}

// tagged takes over the tags that the resource has.
func (r record) tagged(tags map[string]string) {
	has := map[string]any{}
	for key, value := range tags {
		if !strings.HasPrefix(key, "aws:") {
			has[key] = value
		}
	}
	// No tags are none, whether the configuration says so or nothing.
	if len(has) > 0 || len(r.tags()) > 0 {
		r["tags"] = has
	}
	r["tags_all"] = has
}

// as is nothing if v is something else, such as unknown or nil.
func as[T any](v any) T {
	t, _ := v.(T)
	return t
}

func same(a, b any) bool { return reflect.DeepEqual(a, b) }

// decode returns a value as a record has it.
func decode(v tftypes.Value) any {
	if !v.IsKnown() {
		return unknown{}
	}
	if v.IsNull() {
		return nil
	}
	switch t := v.Type().(type) {
	case tftypes.Object:
		all := record{}
		for name, e := range content[map[string]tftypes.Value](v) {
			all[name] = decode(e)
		}
		return all
	case tftypes.Map:
		all := map[string]any{}
		for key, e := range content[map[string]tftypes.Value](v) {
			all[key] = decode(e)
		}
		return all
	case tftypes.List, tftypes.Set:
		all := []any{}
		for _, e := range content[[]tftypes.Value](v) {
			all = append(all, decode(e))
		}
		if t.Is(tftypes.Set{}) { // so that they can be compared
			slices.SortFunc(all, func(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
		}
		return all
	default:
		switch {
		case t.Is(tftypes.String):
			return content[string](v)
		case t.Is(tftypes.Bool):
			return content[bool](v)
		}
		n, _ := content[*big.Float](v).Int64()
		return n
	}
}

// content is what v holds, of which the schema says the type.
func content[T any](v tftypes.Value) (t T) {
	if err := v.As(&t); err != nil {
		panic(err)
	}
	return t
}

// encode is the reverse of decode.
func encode(t tftypes.Type, v any) tftypes.Value {
	switch v := v.(type) {
	case unknown:
		return tftypes.NewValue(t, tftypes.UnknownValue)
	case record:
		all := map[string]tftypes.Value{}
		for name, e := range as[tftypes.Object](t).AttributeTypes {
			all[name] = encode(e, v[name])
		}
		return tftypes.NewValue(t, all)
	case map[string]any:
		all := map[string]tftypes.Value{}
		for key, e := range v {
			all[key] = encode(as[tftypes.Map](t).ElementType, e)
		}
		return tftypes.NewValue(t, all)
	case []any:
		var element tftypes.Type
		switch t := t.(type) {
		case tftypes.List:
			element = t.ElementType
		case tftypes.Set:
			element = t.ElementType
		}
		all := []tftypes.Value{}
		for _, e := range v {
			all = append(all, encode(element, e))
		}
		return tftypes.NewValue(t, all)
	default: // nil included
		return tftypes.NewValue(t, v)
	}
}
