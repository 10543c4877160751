package config

import (
	"reflect"
	"strings"
	"testing"
)

// TestTable checks the table of keys itself.
func TestTable(t *testing.T) {
	inSections := map[string]bool{}
	for _, s := range sections {
		inSections[s.path] = true
	}
	names := map[string]string{}
	for _, v := range variables {
		names[v.name] = v.name
	}
	for _, o := range otherVariables {
		names[o.name] = o.name
	}
	fields := map[any]string{}
	var c Config
	for _, k := range keys {
		parent, name := splitPath(k.path)
		if !inSections[parent] {
			t.Errorf("%s: section %q is not in the list of sections", k.path, parent)
		}
		if name == "" || name != strings.ToLower(name) || k.doc == "" {
			t.Errorf("%s: wants a lower-case name and a meaning", k.path)
		}
		for _, env := range []string{k.env(), k.alias} {
			if other := names[env]; env != "" && other != "" {
				t.Errorf("%s and %s have the same variable %s", k.path, other, env)
			}
			names[env] = k.path
		}
		field := k.field(&c)
		if other := fields[field]; other != "" {
			t.Errorf("%s and %s set the same field", k.path, other)
		}
		fields[field] = k.path
		if _, secret := field.(*Secret); secret != (k.kind == kindSecret) {
			t.Errorf("%s: kind is %v, field is %T", k.path, k.kind, field)
		}
		if k.kind == kindInt && k.max == 0 {
			t.Errorf("%s: number without bounds", k.path)
		}
	}
	if n := leafCount(reflect.TypeFor[Config]()) - len(variables) - 1; n != len(keys) { // 1: Config.File
		t.Errorf("Config has %d fields for %d keys", n, len(keys))
	}
}

// leafCount counts the fields that are not structs of ours.
func leafCount(typ reflect.Type) int {
	n := 0
	for f := range typ.Fields() {
		if f.Type.Kind() == reflect.Struct {
			n += leafCount(f.Type)
		} else {
			n++
		}
	}
	return n
}
