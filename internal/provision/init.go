package provision

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/hashicorp/terraform-exec/tfexec"
)

const (
	lockFile  = ".terraform.lock.hcl"                 // which versions of providers were chosen
	stampName = pluginFolder + "/lablink-initialised" // what the folder is initialised for
)

// initialise initialises Terraform in the working folder, unless nothing has
// changed since that was done last: with large providers it takes seconds.
func (w *Workspace) initialise(ctx context.Context) error {
	stamp, err := w.fingerprint()
	if err != nil {
		return err
	}
	path := filepath.Join(w.Dir, stampName)
	if old, err := os.ReadFile(path); err == nil && string(old) == stamp {
		return nil
	}
	if err := w.uninitialise(); err != nil {
		return err
	}
	if _, err := fs.Stat(w.Provider.Module, lockFile); errors.Is(err, fs.ErrNotExist) {
		// Versions that were chosen for another module may not do for this one.
		if err := os.RemoveAll(filepath.Join(w.Dir, lockFile)); err != nil {
			return err
		}
	}
	if err := w.run(ctx, w.lines(nil), func(ctx context.Context) error { return w.tf.Init(ctx, tfexec.Reconfigure(true)) }); err != nil {
		return fmt.Errorf("terraform init: %w", err)
	}
	// Without providers, Terraform may make no such folder.
	return errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(stamp), 0o600))
}

// uninitialise has the next Open initialise Terraform in any case.
func (w *Workspace) uninitialise() error {
	err := os.Remove(filepath.Join(w.Dir, stampName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// fingerprint names the program, and everything in the working folder that
// Terraform is initialised for.
func (w *Workspace) fingerprint() (string, error) {
	h := sha256.New()
	program, err := os.Stat(w.Binary)
	if err != nil {
		return "", err
	}
	fmt.Fprintf(h, "%q %d %v\n", w.Binary, program.Size(), program.ModTime())
	notOurs := []string{pluginFolder, lockFile, erroredState}
	err = filepath.WalkDir(w.Dir, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case slices.Contains(notOurs, e.Name()) && e.IsDir():
			return fs.SkipDir
		case slices.Contains(notOurs, e.Name()) || e.IsDir():
			return nil
		}
		f, err := os.Open(path) //nolint:gosec // nobody else writes into this folder
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }() // only read from
		fmt.Fprintf(h, "%q\n", path)
		_, err = io.Copy(h, f)
		return err
	})
	return hex.EncodeToString(h.Sum(nil)), err
}
