package provision

import (
	"context"
	"os"
	"os/user"
	"regexp"
	"strings"
	"time"
)

// lock is what Terraform tells of a lock that it did not get.
type lock struct {
	id, who string
	created time.Time
}

var (
	lockID      = regexp.MustCompile(`(?m)^[│\s]*ID:\s+([0-9a-f-]{36})\s*$`)
	lockWho     = regexp.MustCompile(`(?m)^[│\s]*Who:\s+(\S.*?)\s*$`)
	lockCreated = regexp.MustCompile(`(?m)^[│\s]*Created:\s+(\S+ \S+)`)
)

// lockIn reports whether Terraform's words are about a lock, and which.
func lockIn(said []string) (l lock, ok bool) {
	text := strings.Join(said, "\n")
	if !strings.Contains(text, "Error acquiring the state lock") {
		return l, false
	}
	if id, who, created := lockID.FindStringSubmatch(text), lockWho.FindStringSubmatch(text), lockCreated.FindStringSubmatch(text); id != nil && who != nil && created != nil {
		at, err := time.Parse("2006-01-02 15:04:05.999999999", created[1]) // and then UTC, twice
		if err == nil {
			l = lock{id[1], who[1], at}
		}
	}
	return l, true
}

// breakLock removes the lock of a Terraform of ours that was killed. The locks of a database end with their connection, those in
// DynamoDB do not. A lock is ours if a process of this user on this machine made
// it, and dead if it is older than Open, which has ended all that was left.
func (w *Workspace) breakLock(ctx context.Context, l lock) {
	if w.Backend.S3 == nil || l.who != me() || !l.created.Before(w.opened) {
		return
	}
	w.log("The lock of the state is of a Terraform that was killed. It is removed: " + l.id)
	if err := w.run(ctx, nil, func(ctx context.Context) error { return w.tf.ForceUnlock(ctx, l.id) }); err != nil {
		w.log("It could not be removed: " + err.Error())
	}
}

// me is how Terraform names this process in a lock.
func me() string {
	name := ""
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	host, err := os.Hostname()
	if err != nil {
		return ""
	}
	return name + "@" + host
}
