package provision

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// importFile tells Terraform what to take into its state.
const importFile = "lablink_import.tf.json"

// Adoptable reports whether the module has a place for a thing.
func (w *Workspace) Adoptable(t Thing) bool {
	resource, _, _ := strings.Cut(t.Address, "[")
	return t.ID != "" && w.declared.resources[resource]
}

// Adopt has the next plan take things into Terraform's state, and nothing else.
// Those that are in it already do no harm.
func (w *Workspace) Adopt(things []Thing) error {
	path := filepath.Join(w.Dir, importFile)
	if len(things) == 0 {
		if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	blocks := []map[string]string{}
	for _, t := range things {
		blocks = append(blocks, map[string]string{"to": t.Address, "id": t.ID})
	}
	data, err := json.Marshal(map[string]any{"import": blocks})
	if err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o600)
}
