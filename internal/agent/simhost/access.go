package simhost

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Access plays Google's access page for a VM whose desktop user lives in home:
// it says why a participant could not connect to the machine called name with
// pin, nil if they could.
func Access(home, name, pin string) error {
	dir := filepath.Join(home, ".config", "chrome-remote-desktop")
	files, err := filepath.Glob(filepath.Join(dir, "host#*.json"))
	if err != nil {
		return err
	}
	if len(files) != 1 {
		return fmt.Errorf("there are %d machines to choose from, not one", len(files))
	}
	data, err := os.ReadFile(files[0])
	if err != nil {
		return err
	}
	var host struct {
		Name   string `json:"host_name"`
		Secret string `json:"host_secret_hash"`
	}
	if err := json.Unmarshal(data, &host); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, runningFile)); err != nil {
		return errors.New("the machine is offline")
	}
	secret := sha256.Sum256([]byte(name + pin))
	switch {
	case host.Name != name:
		return fmt.Errorf("the machine is called %q", host.Name)
	case host.Secret != "simulated:"+hex.EncodeToString(secret[:]):
		return errors.New("the PIN is wrong")
	}
	return nil
}
