package provision

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/terraform-config-inspect/tfconfig"
)

// Variables and output that every module must declare.
const (
	varVMs    = "vms"
	varTokens = "tokens"
	outputVMs = "vms"
)

// varOperation may be declared, like any of the provider's inputs.
const varOperation = "operation"

const (
	// overrideFile holds our backend, in the place of any that the module declares. Of several such files Terraform
	// takes the last.
	overrideFile = "zz_lablink_override.tf.json"
	erroredState = "errored.tfstate" // Terraform's name for a state that it could not save
	pluginFolder = ".terraform"
)

// placeModule makes the working folder hold the module, our backend and nothing
// else, except for downloaded providers, their versions, and a state that could
// not be saved.
func placeModule(dir string, p Provider, backend Backend) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := os.Chmod(dir, 0o700); err != nil { //nolint:gosec // it is a folder
		return err
	}
	override, err := json.Marshal(map[string]any{"terraform": map[string]any{"backend": backend.block(p.Name)}})
	if err != nil {
		return err
	}
	if err := emptyFolder(dir, override); err != nil {
		return err
	}
	if err := copyModule(dir, p.Module); err != nil {
		return fmt.Errorf("copy the module: %w", err)
	}
	return nil
}

// emptyFolder empties the working folder, but no other: it knows it by the override
// file, which is therefore the first to be there and never away.
func emptyFolder(dir string, override []byte) error {
	old, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	ours := slices.ContainsFunc(old, func(e fs.DirEntry) bool { return e.Name() == overrideFile })
	if len(old) > 0 && !ours {
		return fmt.Errorf("%s is to be Terraform's working folder, which is emptied each time, but holds files that are not LabLink's: move them away", dir)
	}
	if err := os.WriteFile(filepath.Join(dir, overrideFile), override, 0o600); err != nil {
		return err
	}
	for _, e := range old {
		if slices.Contains([]string{overrideFile, pluginFolder, lockFile, erroredState}, e.Name()) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// copyModule leaves behind what belongs to somebody else's use of the module.
func copyModule(dir string, module fs.FS) error {
	return fs.WalkDir(module, ".", func(name string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && (e.Name() == pluginFolder || e.Name() == ".git"):
			return fs.SkipDir
		case e.IsDir():
			return os.MkdirAll(filepath.Join(dir, name), 0o700)
		case strings.Contains(e.Name(), ".tfstate") || e.Name() == overrideFile:
			return nil
		}
		info, err := fs.Stat(module, name)
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() { // a link to a folder would lead anywhere, a pipe would never end
			return fmt.Errorf("%s is neither a file nor a folder: put a copy in its place", name)
		}
		data, err := fs.ReadFile(module, name)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, name), data, 0o600|info.Mode()&0o100)
	})
}

// declared is what a module has.
type declared struct {
	variables map[string]bool
	resources map[string]bool // by address in the module, without a key
}

// checkModule reads a module, and refuses one that we could not use.
func checkModule(dir string, inputs map[string]any) (d declared, err error) {
	m, diags := tfconfig.LoadModule(dir)
	var problems []error
	for _, diag := range diags {
		if diag.Severity == tfconfig.DiagError {
			problems = append(problems, atLine(diag.Pos, "%s", strings.TrimSuffix(diag.Summary+": "+diag.Detail, ": ")))
		}
	}
	if len(problems) > 0 {
		return d, fmt.Errorf("the module cannot be read: %w", errors.Join(problems...))
	}
	for name, form := range map[string]string{varVMs: "map(object({ instance_type = string }))", varTokens: "map(string)"} {
		if m.Variables[name] == nil {
			problems = append(problems, fmt.Errorf("the module declares no variable %q: add one of the type %s", name, form))
		}
	}
	if v := m.Variables[varTokens]; v != nil && !v.Sensitive {
		problems = append(problems, atLine(&v.Pos, "variable %q holds secrets: add sensitive = true", varTokens))
	}
	switch o := m.Outputs[outputVMs]; {
	case o == nil:
		problems = append(problems, fmt.Errorf("the module declares no output %q: add one that is a map from hostname to an object of id and address", outputVMs))
	case o.Sensitive:
		problems = append(problems, atLine(&o.Pos, "output %q must not be sensitive, or LabLink does not get it", outputVMs))
	}
	d = declared{map[string]bool{}, map[string]bool{}}
	for name := range m.ManagedResources {
		d.resources[name] = true
	}
	for name, v := range m.Variables {
		d.variables[name] = true
		_, given := inputs[name]
		if v.Required && !given && name != varVMs && name != varTokens && name != varOperation {
			problems = append(problems, atLine(&v.Pos, "LabLink knows no value for the variable %q: give it a default", name))
		}
	}
	for name, call := range m.ModuleCalls {
		if strings.HasPrefix(path.Clean(call.Source), "..") {
			problems = append(problems, atLine(&call.Pos, "module %q is at %s, outside of the module's folder, which alone is copied: move it in", name, call.Source))
		}
	}
	if len(problems) > 0 {
		slices.SortFunc(problems, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
		return d, fmt.Errorf("the module does not fit, see docs/provisioning.md: %w", errors.Join(problems...))
	}
	return d, nil
}

// atLine is an error in a module's file.
func atLine(pos *tfconfig.SourcePos, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	if pos == nil {
		return err
	}
	return fmt.Errorf("%s:%d: %w", filepath.Base(pos.Filename), pos.Line, err)
}
