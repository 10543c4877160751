package probe

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/shirou/gopsutil/v4/process"
)

// InUse reports whether any process has software as a part of one of its
// arguments. It leaves out this process with its ancestors and descendants, and
// every other process of this program: their arguments name the software too.
func InUse(ctx context.Context, software string) (bool, error) {
	all, err := process.ProcessesWithContext(ctx)
	if err != nil {
		return false, err
	}
	parents := make(map[int32]int32, len(all))
	var hits []*process.Process
	for _, p := range all {
		if parent, err := p.PpidWithContext(ctx); err == nil {
			parents[p.Pid] = parent
		}
		args, err := p.CmdlineSliceWithContext(ctx)
		if err != nil {
			continue // it has ended
		}
		if slices.ContainsFunc(args, func(a string) bool { return strings.Contains(a, software) }) && !ourProgram(args) {
			hits = append(hits, p)
		}
	}
	self := int32(os.Getpid())
	for _, p := range hits {
		if !descends(parents, p.Pid, self) && !descends(parents, self, p.Pid) {
			return true, nil
		}
	}
	return false, ctx.Err()
}

// descends reports whether pid is ancestor, or has it among its ancestors.
func descends(parents map[int32]int32, pid, ancestor int32) bool {
	for range len(parents) {
		if pid == ancestor {
			return true
		}
		next, ok := parents[pid]
		if !ok || next == pid {
			return false
		}
		pid = next
	}
	return false
}

// ourProgram recognises another "lablink agent", also behind sudo or a shell.
func ourProgram(args []string) bool {
	for i, a := range args {
		if filepath.Base(a) == "lablink" && slices.Contains(args[i+1:], "agent") {
			return true
		}
	}
	return false
}
