package provision

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/hashicorp/go-version"
)

// oldest is the oldest version that is known to work, of Terraform and OpenTofu
// alike: what stands in the stream of an apply has changed before.
var oldest = version.Must(version.NewVersion("1.6.0"))

// ErrNoBinary says that neither OpenTofu nor Terraform is there.
var ErrNoBinary = errors.New("neither tofu nor terraform is installed: install one of them, or give its path in provision.terraform")

// FindBinary returns the path of the Terraform or OpenTofu to use: the
// configured one, or else one in PATH, or else the one that "make" has built.
func FindBinary(configured string) (string, error) {
	if configured != "" {
		path, err := exec.LookPath(configured)
		if err != nil {
			return "", fmt.Errorf("provision.terraform: %w", err)
		}
		return filepath.Abs(path)
	}
	places := []string{"tofu", "terraform", filepath.Join(".tools", "tofu")}
	if self, err := os.Executable(); err == nil {
		places = append(places, filepath.Join(filepath.Dir(self), "..", ".tools", "tofu"))
	}
	for _, place := range places {
		if path, err := exec.LookPath(place); err == nil {
			return filepath.Abs(path)
		}
	}
	return "", ErrNoBinary
}

func (w *Workspace) checkVersion(ctx context.Context) error {
	var v *version.Version
	err := w.run(ctx, nil, func(ctx context.Context) (err error) {
		v, _, err = w.tf.Version(ctx, false)
		return err
	})
	switch {
	case err != nil:
		return fmt.Errorf("%s does not tell its version: %w", w.Binary, err)
	case v.LessThan(oldest):
		return fmt.Errorf("%s is version %s, LabLink needs %s or newer: give another one in provision.terraform", w.Binary, v, oldest)
	default:
		return nil
	}
}
