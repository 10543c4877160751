package provision

import (
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/shirou/gopsutil/v4/process"
)

// workspaceVar marks Terraform and everything it starts, by the working folder
// in its environment.
const workspaceVar = "LABLINK_WORKSPACE"

const (
	interruptEvery = 20 * time.Millisecond
	reapEvery      = 5 * time.Millisecond
	// reapWithin is how long killed processes may take to end. Only one that waits for a disk that hangs takes long.
	reapWithin = 10 * time.Second
)

// reap kills what is left of Terraform in a working folder, and returns when it
// has ended: plugins and shells outlive a Terraform that was killed, and may go on
// changing things.
func reap(dir string) error {
	deadline := time.NewTimer(reapWithin)
	defer deadline.Stop()
	tick := time.NewTicker(reapEvery)
	defer tick.Stop()
	for {
		// Again and again: one that was not yet killed may start another meanwhile.
		left, err := killMarked(workspaceVar + "=" + dir)
		if err != nil || len(left) == 0 {
			return err
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			return fmt.Errorf("processes %v do not end", left)
		}
	}
}

// killMarked kills all processes with an entry in their environment, and returns
// those that it found.
func killMarked(entry string) (found []int32, err error) {
	err = eachMarked(entry, func(pid int32, p *os.Process) {
		found = append(found, pid)
		_ = p.Kill() // fails if it has ended meanwhile; if it has not, it is found again
	})
	return found, err
}

// interruptChildren interrupts the processes of a working folder that this one has
// started itself, each once: Terraform, which tells its plugins and shells.
func interruptChildren(dir string, told map[int32]bool) error {
	return eachMarked(workspaceVar+"="+dir, func(pid int32, p *os.Process) {
		parent, err := (&process.Process{Pid: pid}).Ppid()
		if err != nil || int(parent) != os.Getpid() || told[pid] {
			return // or it has ended meanwhile
		}
		told[pid] = true
		_ = p.Signal(os.Interrupt) // fails if it has ended meanwhile
	})
}

// eachMarked calls do with every process that has an entry in its environment,
// but this one.
func eachMarked(entry string, do func(int32, *os.Process)) error {
	pids, err := process.Pids()
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if int(pid) != os.Getpid() {
			ifMarked(pid, entry, do)
		}
	}
	return nil
}

func ifMarked(pid int32, entry string, do func(int32, *os.Process)) {
	p, err := os.FindProcess(int(pid)) // first: from here on the number means this process, even if it is used again
	if err != nil {
		return
	}
	defer func() { _ = p.Release() }() // nobody waits for it
	env, err := (&process.Process{Pid: pid}).Environ()
	if err != nil || !slices.Contains(env, entry) {
		return // ended meanwhile, or somebody else's
	}
	do(pid, p)
}
