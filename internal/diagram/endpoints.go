package diagram

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"slices"
)

// endpointsFile is the route table as the source registers it: a test of the docs
// writes it, and fails when it is out of date.
//
//go:embed endpoints.json
var endpointsFile []byte

// Endpoint is what answers a request.
type Endpoint struct {
	Method string `json:"method"`
	Path   string `json:"path"`
	Caller string `json:"caller"`        // who may call it
	Group  string `json:"group"`         // what it is for
	Held   bool   `json:"held,omitzero"` // it stays open, and is answered when there is something to say
}

func readEndpoints() ([]Endpoint, error) {
	var list []Endpoint
	if err := json.Unmarshal(endpointsFile, &list); err != nil {
		return nil, fmt.Errorf("endpoints.json: %w", err)
	}
	return list, nil
}

// endpoints are who may call what.
func endpoints(p *Picture, c *content) error {
	p.Title, p.Bold = "LabLink: who calls what", "stays open"
	p.Groups = []Group{{ID: "allocator", Title: "Allocator: lablink serve", Detail: machine(c.Allocator)}}
	var callers, boxes []Node
	find := func(list *[]Node, n Node) *Node {
		for i := range *list {
			if (*list)[i].ID == n.ID {
				return &(*list)[i]
			}
		}
		*list = append(*list, n)
		return &(*list)[len(*list)-1]
	}
	held := map[string]bool{}
	for _, e := range c.routes {
		caller := find(&callers, Node{ID: e.Caller, Title: e.Caller, Shape: Person})
		box := find(&boxes, Node{ID: e.Caller + ": " + e.Group, In: "allocator", Title: e.Group, Shape: Table})
		if len(box.Fields) == 0 {
			p.line(caller.ID, box.ID, "", Request, "")
		}
		if e.Held && !held[box.ID] {
			held[box.ID] = true
			p.line(caller.ID, box.ID, "", Held, "")
		}
		box.Fields = append(box.Fields, Field{e.Path, e.Method, e.Held})
	}
	p.Nodes = slices.Concat(callers, boxes)
	return nil
}
