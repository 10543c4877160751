package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/crypto/bcrypt"

	"lablink/internal/fleet"
	"lablink/internal/store"
)

// PasswordFile is where a password that was made by us is kept, under the data
// directory, readable by its owner only.
const PasswordFile = "admin-password"

// initAdmin brings the admin password of the database in line with the
// configuration, or makes one at the first start.
func (s *Server) initAdmin(ctx context.Context) error {
	if configured := s.Config.Admin.Password.Reveal(); configured != "" {
		hash, err := s.store.AdminHash(ctx)
		if err != nil {
			return err
		}
		if bcrypt.CompareHashAndPassword([]byte(hash), []byte(configured)) == nil {
			return nil
		}
		return SetPassword(ctx, s.store, configured)
	}
	have, err := s.store.AdminHash(ctx)
	if err != nil || have != "" {
		return err
	}
	password := fleet.NewToken()[:20] // 120 bits
	hash, err := hashPassword(password)
	if err != nil {
		return err
	}
	// The file first: a password that nobody can read would lock the admin out.
	if err := WritePassword(s.Config.DataDir, password); err != nil {
		return err
	}
	won, err := s.store.InitAdminHash(ctx, hash)
	if err != nil {
		return err
	}
	if !won { // another replica was first; its file holds the password
		return os.Remove(filepath.Join(s.Config.DataDir, PasswordFile))
	}
	s.Logger.Info("made an admin password", "file", filepath.Join(s.Config.DataDir, PasswordFile), "user", s.Config.Admin.User)
	if s.NewPassword != nil {
		s.NewPassword(s.Config.Admin.User, password)
	}
	return nil
}

// SetPassword stores a new admin password, as a hash. Every replica asks for it
// from the next request on.
func SetPassword(ctx context.Context, st *store.Store, password string) error {
	hash, err := hashPassword(password)
	if err != nil {
		return err
	}
	return st.SetAdminHash(ctx, hash)
}

func hashPassword(password string) (string, error) {
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.DefaultCost)
	if errors.Is(err, bcrypt.ErrPasswordTooLong) {
		return "", errors.New("the admin password is longer than 72 bytes, which bcrypt does not take: choose a shorter one")
	}
	return string(hash), err
}

// RemovePassword removes the password that was kept, if one was.
func RemovePassword(dataDir string) error {
	err := os.Remove(filepath.Join(dataDir, PasswordFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// WritePassword keeps a password in the data directory.
func WritePassword(dataDir, password string) error {
	if err := os.MkdirAll(dataDir, 0o755); err != nil { //nolint:gosec // PostgreSQL's own user must reach its folder below; what is secret is closed file by file
		return err
	}
	name := filepath.Join(dataDir, PasswordFile)
	tmp, err := os.CreateTemp(dataDir, PasswordFile+".*") // 0600
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(tmp, password)
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	return nil
}
