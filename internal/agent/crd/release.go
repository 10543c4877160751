package crd

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
)

// Reasons why a clean-up fails, in words for the admin.
const (
	ReasonStillRunning = "Chrome Remote Desktop could not be stopped, so the desktop may still belong to the last Google account. The VM's log says why."
	ReasonStillThere   = "The Chrome Remote Desktop host configuration could not be deleted, so the desktop may still belong to the last Google account. The VM's log says why."
)

const configDir = ".config/chrome-remote-desktop"

// Release takes the desktop off the last Google account: it stops Chrome Remote
// Desktop and deletes its host configuration. Doing it again does no harm. It
// returns nil only if nothing is left.
func (h *Host) Release(ctx context.Context) error {
	as, err := h.account()
	if err != nil {
		return &Error{ReasonStillRunning, err}
	}
	var service error
	if h.systemd(as) {
		// First, so that systemd does not start the desktop again. A machine that
		// never had one has no such unit: what is left decides, not this.
		service = h.systemctl(ctx, "disable", as)
		if service != nil {
			h.cfg.Log.Warn("systemd did not disable the remote desktop", "error", service)
		}
	}
	if err := h.stop(ctx, as); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return &Error{ReasonStillRunning, errors.Join(service, err)}
	}
	if err := removeConfigs(as.home); err != nil {
		return &Error{ReasonStillThere, err}
	}
	return nil
}

// stop runs the script's --stop, then asks it whether the desktop is gone.
func (h *Host) stop(ctx context.Context, as account) error {
	stop := call{path: h.script(), args: []string{"--stop"}, limit: h.cfg.StopTimeout, as: as}.run(ctx)
	if stop.err != nil {
		return fmt.Errorf("%s --stop: %w: %s", h.script(), stop.err, lastLine(stop.output))
	}
	status := call{path: h.script(), args: []string{"--get-status"}, limit: h.cfg.StopTimeout, as: as}.run(ctx)
	if status.err != nil {
		return fmt.Errorf("%s --get-status: %w: %s", h.script(), status.err, lastLine(status.output))
	}
	if slices.Contains(strings.Fields(status.output), "STARTED") {
		return fmt.Errorf("%s --get-status says STARTED after --stop", h.script())
	}
	return nil
}

// openConfigs opens the folder of host configurations without ever leaving the
// home: its owner may plant links, and the agent may be root.
func openConfigs(home string) (*os.Root, error) {
	root, err := os.OpenRoot(home)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return root.OpenRoot(configDir)
}

// listConfigs names the host configurations in dir.
func listConfigs(dir *os.Root) ([]fs.DirEntry, error) {
	all, err := fs.ReadDir(dir.FS(), ".")
	return slices.DeleteFunc(all, func(e fs.DirEntry) bool {
		ok, _ := path.Match("host#*.json", e.Name())
		return !ok
	}), err
}

func removeConfigs(home string) error {
	dir, err := openConfigs(home)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	configs, err := listConfigs(dir)
	for _, c := range configs {
		err = errors.Join(err, dir.Remove(c.Name()))
	}
	return err
}

// Snapshot identifies the host configurations as they are now; it is empty if
// there are none. It needs no clock, which may jump while a VM boots.
func (h *Host) Snapshot() string {
	as, err := h.account()
	if err != nil {
		return ""
	}
	dir, err := openConfigs(as.home)
	if err != nil {
		return ""
	}
	defer dir.Close()
	configs, err := listConfigs(dir)
	if err != nil || len(configs) == 0 {
		return ""
	}
	sum := sha256.New()
	for _, c := range configs {
		info, err := c.Info()
		if err != nil {
			continue // just replaced: a later look will differ
		}
		var inode uint64
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			inode = st.Ino
		}
		fmt.Fprintf(sum, "%s %d %d %d\n", c.Name(), info.Size(), info.ModTime().UnixNano(), inode)
	}
	return hex.EncodeToString(sum.Sum(nil)[:16])
}

// WrittenSince reports whether a host configuration was written after Snapshot
// returned before. Start-host writes it only once Google has taken the code.
func (h *Host) WrittenSince(before string) bool {
	now := h.Snapshot()
	return now != "" && now != before
}
