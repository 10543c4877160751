// Package tffiles reads Terraform files for what they declare: resources, and the
// conditions under which these exist. Nothing is evaluated.
package tffiles

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// Folder is what the files of one folder declare, with those of the modules in it.
type Folder struct {
	Name      string // for people
	Resources []Resource
}

// Resource is a resource that the files declare.
type Resource struct {
	Type, Name string
	Module     string // path of the module in the folder, such as module.boot; "" is the folder itself
	If         string // the condition under which it exists; "" is always
	Each       string // what there is one for each of, or how many; "" is one
}

// Address is what Terraform calls the resource.
func (r Resource) Address() string {
	address := r.Type + "." + r.Name
	if r.Module != "" {
		address = r.Module + "." + address
	}
	return address
}

// When says in words how often the resource exists.
func (r Resource) When() string {
	switch {
	case r.If != "" && r.Each != "":
		return "for each of `" + r.Each + "`, if `" + r.If + "`"
	case r.If != "":
		return "if `" + r.If + "`"
	case r.Each != "":
		return "for each of `" + r.Each + "`"
	default:
		return "always"
	}
}

// Find returns the resources of these types, in the order of the files.
func (f *Folder) Find(types ...string) []Resource {
	var found []Resource
	for _, r := range f.Resources {
		for _, t := range types {
			if r.Type == t {
				found = append(found, r)
			}
		}
	}
	return found
}

// Read reads the folder that fsys is, and calls it name in errors. Those of the
// syntax begin with file and line.
func Read(fsys fs.FS, name string) (*Folder, error) {
	f := &Folder{Name: name}
	if err := f.read(fsys, ".", ""); err != nil {
		return nil, err
	}
	return f, nil
}

// deepest is how many modules may be in one another: Terraform itself refuses
// those that hold themselves.
const deepest = 10

func (f *Folder) read(fsys fs.FS, dir, module string) error {
	if strings.Count(module, "module.") > deepest {
		return fmt.Errorf("%s: the modules are more than %d deep in one another", f.place(dir), deepest)
	}
	entries, err := fs.ReadDir(fsys, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no folder %s", f.place(dir))
	}
	if err != nil {
		return err
	}
	found := false
	for _, entry := range entries {
		if !entry.IsDir() && (strings.HasSuffix(entry.Name(), ".tf") || strings.HasSuffix(entry.Name(), ".tf.json")) {
			found = true
			if err := f.readFile(fsys, dir, entry.Name(), module); err != nil {
				return err
			}
		}
	}
	if !found {
		return fmt.Errorf("the folder %s has no Terraform files (*.tf)", f.place(dir))
	}
	return nil
}

// place names a folder, or a file, for people.
func (f *Folder) place(name string) string { return path.Join(f.Name, name) }

var (
	fileSchema = &hcl.BodySchema{Blocks: []hcl.BlockHeaderSchema{
		{Type: "resource", LabelNames: []string{"type", "name"}}, {Type: "module", LabelNames: []string{"name"}},
	}}
	resourceSchema = &hcl.BodySchema{Attributes: []hcl.AttributeSchema{{Name: "count"}, {Name: "for_each"}}}
	moduleSchema   = &hcl.BodySchema{Attributes: []hcl.AttributeSchema{{Name: "source"}}}
)

func (f *Folder) readFile(fsys fs.FS, dir, name, module string) error {
	source, err := fs.ReadFile(fsys, path.Join(dir, name))
	if err != nil {
		return err
	}
	parse := hclparse.NewParser().ParseHCL
	if strings.HasSuffix(name, ".json") {
		parse = hclparse.NewParser().ParseJSON
	}
	file, diags := parse(source, f.place(path.Join(dir, name)))
	if diags.HasErrors() {
		return problem(diags)
	}
	content, _, diags := file.Body.PartialContent(fileSchema)
	if diags.HasErrors() {
		return problem(diags)
	}
	for _, block := range content.Blocks {
		if block.Type == "module" {
			err = f.readModule(fsys, dir, module, block)
		} else {
			err = f.readResource(source, module, block)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// problem is the first of what is wrong, as FILE:LINE,COLUMN: TEXT.
func problem(diags hcl.Diagnostics) error {
	for _, d := range diags {
		if d.Severity == hcl.DiagError {
			return errors.New(strings.ReplaceAll(d.Error(), "\n", " "))
		}
	}
	return diags
}

// readModule reads a module that is a folder in this one. What comes from
// elsewhere is not there to be read.
func (f *Folder) readModule(fsys fs.FS, dir, within string, block *hcl.Block) error {
	content, _, diags := block.Body.PartialContent(moduleSchema)
	if diags.HasErrors() {
		return problem(diags)
	}
	attribute := content.Attributes["source"]
	if attribute == nil {
		return nil
	}
	value, diags := attribute.Expr.Value(nil)
	if diags.HasErrors() || value.IsNull() || value.Type().FriendlyName() != "string" || !strings.HasPrefix(value.AsString(), "./") {
		return nil
	}
	module := "module." + block.Labels[0]
	if within != "" {
		module = within + "." + module
	}
	return f.read(fsys, path.Join(dir, value.AsString()), module)
}

func (f *Folder) readResource(source []byte, module string, block *hcl.Block) error {
	content, _, diags := block.Body.PartialContent(resourceSchema)
	if diags.HasErrors() {
		return problem(diags)
	}
	r := Resource{Type: block.Labels[0], Name: block.Labels[1], Module: module}
	for _, name := range []string{"count", "for_each"} {
		if attribute := content.Attributes[name]; attribute != nil {
			r.If, r.Each = condition(attribute.Expr, source)
		}
	}
	f.Resources = append(f.Resources, r)
	return nil
}

// condition reads what decides how often a resource exists.
func condition(e hcl.Expression, source []byte) (when, each string) {
	c, ok := e.(*hclsyntax.ConditionalExpr)
	if !ok {
		if text := words(e, source); text != "1" {
			each = text
		}
		return "", each
	}
	yes, no := words(c.TrueResult, source), words(c.FalseResult, source)
	when = words(c.Condition, source)
	switch {
	case none[no]:
	case none[yes]:
		when, yes = negated(c.Condition, source), no
	default: // something in any case
		return "", words(e, source)
	}
	if yes == "1" {
		return when, ""
	}
	return when, yes
}

// none is how files write that there shall be none.
var none = map[string]bool{"0": true, "{}": true, "[]": true, "toset([])": true}

// negated is the opposite of a condition, as a person would write it.
func negated(e hclsyntax.Expression, source []byte) string {
	switch e := e.(type) {
	case *hclsyntax.UnaryOpExpr:
		if e.Op == hclsyntax.OpLogicalNot {
			return words(e.Val, source)
		}
	case *hclsyntax.BinaryOpExpr:
		switch e.Op {
		case hclsyntax.OpEqual:
			return words(e.LHS, source) + " != " + words(e.RHS, source)
		case hclsyntax.OpNotEqual:
			return words(e.LHS, source) + " == " + words(e.RHS, source)
		default:
			return "!(" + words(e, source) + ")"
		}
	}
	return "!" + words(e, source)
}

// words is an expression as it is written, on one line.
func words(e hcl.Expression, source []byte) string {
	return strings.Join(strings.Fields(string(e.Range().SliceBytes(source))), " ")
}
