package diagram

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"lablink/internal/tffiles"
)

// Type says what is drawn.
type Type string

// The types.
const (
	Main         Type = "main"
	Connection   Type = "crd-connection"
	Provisioning Type = "vm-provisioning"
	Logging      Type = "logging-pipeline"
	Database     Type = "database-schema"
	API          Type = "api-architecture"
)

// Types are all of them, in the order in which they are drawn.
func Types() []Type { return []Type{Main, Connection, Provisioning, Logging, Database, API} }

// all stands for all types.
const all = "all"

// ParseTypes returns what a word asks for: one type, or all.
func ParseTypes(word string) ([]Type, error) {
	if word == all {
		return Types(), nil
	}
	if t := Type(word); slices.Contains(Types(), t) {
		return []Type{t}, nil
	}
	return nil, fmt.Errorf("there is no diagram type %q: use %s", word, Choices())
}

// Choices are the words that ParseTypes takes, for people.
func Choices() string {
	var names []string
	for _, t := range Types() {
		names = append(names, string(t))
	}
	return strings.Join(names, ", ") + " or " + all
}

// FileName is the name of the picture's file, without extension: that which the
// scripts of the Python LabLink gave it.
func (t Type) FileName() string {
	if t == Main {
		return "lablink-architecture"
	}
	return "lablink-" + string(t)
}

// Sources are what the pictures are made from, beside the tables, triggers and
// endpoints, which this package has itself.
type Sources struct {
	Allocator *tffiles.Folder // makes what the allocator runs on
	VMs       *tffiles.Folder // makes the VMs
	MaxWait   time.Duration   // of a held request
}

// New puts a picture together.
func New(t Type, from Sources) (*Picture, error) {
	schema, err := readSchema()
	if err != nil {
		return nil, err
	}
	fill, ok := map[Type]func(*Picture, *content) error{
		Main: architecture, Connection: connection, Provisioning: provisioning, Logging: logging, Database: database, API: endpoints,
	}[t]
	if !ok {
		return nil, fmt.Errorf("there is no diagram type %q", t)
	}
	routes, err := readEndpoints()
	if err != nil {
		return nil, err
	}
	p := &Picture{Type: t}
	if err := fill(p, &content{from, schema, routes}); err != nil {
		return nil, fmt.Errorf("%s: %w", t, err)
	}
	if err := p.finish(); err != nil {
		return nil, err
	}
	return p, nil
}

// content is what there is to be drawn.
type content struct {
	Sources
	schema *Schema
	routes []Endpoint
}

// exist reports an endpoint that does not exist: then the picture is wrong.
func (c *content) exist(calls ...string) error {
	for _, call := range calls {
		if !slices.ContainsFunc(c.routes, func(e Endpoint) bool { return e.Method+" "+e.Path == call }) {
			return fmt.Errorf("there is no endpoint %s", call)
		}
	}
	return nil
}
