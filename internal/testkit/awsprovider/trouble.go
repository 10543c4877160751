package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// trouble is what a test may order. Only variables that begin with AWS_ reach
// Terraform from LabLink.
type trouble struct {
	full string // AWS_STANDIN_FULL: TYPE@ZONE or TYPE@SUBNET, separated by commas: there is no capacity; "*" is any
	gate string // AWS_STANDIN_GATE: the folder of hold, and of a file "full", which is added to the above
	log  string // AWS_STANDIN_LOG: the file that gets a line for each operation
}

func troubleFromEnvironment() trouble {
	return trouble{full: os.Getenv("AWS_STANDIN_FULL"), gate: os.Getenv("AWS_STANDIN_GATE"), log: os.Getenv("AWS_STANDIN_LOG")}
}

// record writes a line into the log.
func (t trouble) record(operation, kind, label string) error {
	if t.log == "" {
		return nil
	}
	f, err := os.OpenFile(t.log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(operation + " " + kind + " " + label + "\n")
	return errors.Join(err, f.Close())
}

// hold makes a file NAME.reached when something exists that Terraform does not know
// yet. If there is a file NAME.hold, it returns when there is one NAME.go, too.
func (t trouble) hold(ctx context.Context, kind, label string) error {
	if t.gate == "" {
		return nil
	}
	name := filepath.Join(t.gate, kind+"-"+strings.ReplaceAll(label, "/", "_"))
	if err := os.WriteFile(name+".reached", nil, 0o600); err != nil {
		return err
	}
	if !exists(name + ".hold") {
		return nil
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !exists(name + ".go") {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// capacity is AWS's answer when it has no such machine to give.
func (t trouble) capacity(instanceType, zone, subnet string) error {
	full := t.full
	if t.gate != "" {
		more, err := os.ReadFile(filepath.Join(t.gate, "full"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		full += "," + string(more)
	}
	for place := range strings.SplitSeq(full, ",") {
		wantType, wantPlace, found := strings.Cut(strings.TrimSpace(place), "@")
		if found && (wantType == "*" || wantType == instanceType) && (wantPlace == "*" || wantPlace == zone || wantPlace == subnet) {
			text := fmt.Sprintf("We currently do not have sufficient %s capacity in the Availability Zone you requested (%s). Our system will be working on "+
				"provisioning additional capacity. You can currently get %[1]s capacity by not specifying an Availability Zone in your request or "+
				"choosing another one.", instanceType, zone)
			return fmt.Errorf("operation error EC2: RunInstances, https response error StatusCode: 500, "+
				"RequestID: 8d2f4c1e-0b5a-4f7e-9a63-1c7e5d90b2a4, api error InsufficientInstanceCapacity: %s", text)
		}
	}
	return nil
}
