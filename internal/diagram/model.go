// Package diagram knows what is in the pictures of LabLink: it reads the Terraform
// files, the tables and triggers of the migrations, and the endpoints, and makes
// of them boxes, lines and steps. Where these are on the paper is the business of
// package draw.
package diagram

import (
	"fmt"
	"strings"
)

// Picture is what a diagram shows.
type Picture struct {
	Type     Type
	Title    string
	Sequence bool // nodes are columns, and steps follow each other down the page
	Groups   []Group
	Nodes    []Node
	Edges    []Edge
	Bold     string // what fields in bold are
	Bands    []Band // of a sequence
	Waits    []Wait // of a sequence
}

// Group is a frame around nodes, or around other groups.
type Group struct {
	ID     string
	In     string // the group around it; "" is none
	Title  string
	Detail string // such as the resource that it is
	If     string // the condition under which it is there
}

// Node is a box.
type Node struct {
	ID     string
	In     string // its group; "" is none
	Title  string
	Lines  []string
	Shape  Shape
	If     string // the condition under which it is there
	Fields []Field
}

// Field is a row of a table.
type Field struct {
	Name, Type string
	Bold       bool // what that means, the picture's Bold says
}

// Edge is a line from one node to another.
type Edge struct {
	From, To string
	Text     string // what is done; lines without are not numbered
	Kind     Kind
	If       string // the condition under which it is there
	Back     bool   // it leads against the reading direction
	Step     int    // its number among those with a text, in their order; New counts them
}

// Band is a part of a sequence.
type Band struct {
	Title string
	First int // the first of its steps; it ends where the next begins
}

// Wait says that a node waits from one step to another.
type Wait struct {
	Node        string
	First, Last int
	Text        string // for how long at most
}

// Shape is how a node looks.
type Shape string

// The shapes.
const (
	Program Shape = "program"
	Person  Shape = "person"
	Store   Shape = "store"   // keeps data
	Outside Shape = "outside" // is not part of LabLink
	Table   Shape = "table"
)

// Kind is how a line looks, by what goes along it.
type Kind string

// The kinds of lines.
const (
	Request Kind = "request" // is answered at once
	Answer  Kind = "answer"
	Held    Kind = "held" // is answered when there is something to say
	Write   Kind = "write"
	Notify  Kind = "notify"
	Run     Kind = "run" // starts, or makes, something
	Refers  Kind = "refers to"
)

// line adds a line, perhaps under a condition.
func (p *Picture) line(from, to, text string, kind Kind, when string) {
	p.Edges = append(p.Edges, Edge{From: from, To: to, Text: text, Kind: kind, If: when})
}

// back adds a line that leads back.
func (p *Picture) back(from, to, text string, kind Kind, when string) {
	p.Edges = append(p.Edges, Edge{From: from, To: to, Text: text, Kind: kind, If: when, Back: true})
}

// String writes the picture as text, one thing to a line: what tests compare.
func (p *Picture) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n", p.Type, p.Title)
	for _, g := range p.Groups {
		fmt.Fprintf(&b, "group %s%s: %s%s%s\n", g.ID, within(g.In), g.Title, bracketed(g.Detail), condition(g.If))
	}
	for _, n := range p.Nodes {
		fmt.Fprintf(&b, "%s %s%s: %s%s\n", n.Shape, n.ID, within(n.In), n.Title, condition(n.If))
		for _, line := range n.Lines {
			fmt.Fprintf(&b, "    %s\n", line)
		}
		for _, f := range n.Fields {
			bold := ""
			if f.Bold {
				bold = " (bold)"
			}
			fmt.Fprintf(&b, "    %s %s%s\n", f.Name, f.Type, bold)
		}
	}
	for _, e := range p.Edges {
		for _, band := range p.Bands {
			if band.First == e.Step {
				fmt.Fprintf(&b, "band: %s\n", band.Title)
			}
		}
		step := ""
		if e.Step > 0 {
			step = fmt.Sprintf("%d. ", e.Step)
		}
		fmt.Fprintf(&b, "%s%s -> %s, %s: %s%s\n", step, e.From, e.To, e.Kind, e.Text, condition(e.If))
	}
	for _, w := range p.Waits {
		fmt.Fprintf(&b, "%s waits from %d to %d%s\n", w.Node, w.First, w.Last, bracketed(w.Text))
	}
	return b.String()
}

func within(group string) string {
	if group == "" {
		return ""
	}
	return " in " + group
}

func bracketed(text string) string {
	if text == "" {
		return ""
	}
	return " (" + text + ")"
}

func condition(text string) string {
	if text == "" {
		return ""
	}
	return ", if " + text
}

// finish numbers the steps, and finds mistakes in how the picture is put together.
func (p *Picture) finish() error {
	groups, nodes := map[string]bool{"": true}, map[string]bool{}
	for _, g := range p.Groups {
		if !groups[g.In] {
			return fmt.Errorf("%s: group %s is in %s, which does not come before it", p.Type, g.ID, g.In)
		}
		groups[g.ID] = true
	}
	for _, n := range p.Nodes {
		if !groups[n.In] || nodes[n.ID] {
			return fmt.Errorf("%s: node %s is there twice, or in no group", p.Type, n.ID)
		}
		nodes[n.ID] = true
	}
	step := 0
	for i, e := range p.Edges {
		if !nodes[e.From] || !nodes[e.To] {
			return fmt.Errorf("%s: a line from %s to %s, of which one is not there", p.Type, e.From, e.To)
		}
		if e.Text != "" {
			step++
			p.Edges[i].Step = step
		}
	}
	return nil
}
