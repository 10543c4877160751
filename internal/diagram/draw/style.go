package draw

import (
	"fmt"
	"strings"

	"lablink/internal/diagram"
)

// Preset is how large text and distances are, for a purpose. Sizes are in
// points, as in the scripts of the Python LabLink.
type Preset struct {
	Name  string
	title float64
	node  float64
	edge  float64
	space float64 // between nodes
	rank  float64 // between columns of nodes
}

var presets = []Preset{
	{"paper", 32, 14, 14, 72, 108},
	{"poster", 48, 20, 20, 130, 180},
	{"presentation", 40, 16, 16, 86, 122},
}

// ParsePreset returns the preset of that name.
func ParsePreset(name string) (Preset, error) {
	var names []string
	for _, p := range presets {
		if p.Name == name {
			return p, nil
		}
		names = append(names, p.Name)
	}
	return Preset{}, fmt.Errorf("there is no preset %q: use %s", name, strings.Join(names, ", "))
}

// line is how a kind of edge looks. In grey they differ by dashes, width and head.
type line struct {
	kind  diagram.Kind
	words string // for the legend
	color string
	width float64
	dash  []float64
	open  bool // its head is no filled triangle
}

var lines = []line{
	{diagram.Request, "request, answered at once", "#1d4ed8", 1.6, nil, false},
	{diagram.Answer, "answer", "#1d4ed8", 1.6, []float64{6, 4}, true},
	{diagram.Held, "held request: waits for its answer", "#c2570c", 2.4, []float64{16, 5}, false},
	{diagram.Write, "writes", "#15803d", 2.8, nil, false},
	{diagram.Notify, "notifies", "#4b5563", 2, []float64{2, 4}, false},
	{diagram.Run, "starts, makes", "#6d28d9", 1.8, []float64{10, 4, 2, 4}, false},
	{diagram.Refers, "refers to (foreign key)", "#334155", 1.2, nil, true},
}

func lineOf(kind diagram.Kind) line {
	for _, l := range lines {
		if l.kind == kind {
			return l
		}
	}
	return lines[0]
}

// box is how a shape looks.
type box struct {
	shape        diagram.Shape
	words        string // for the legend
	fill, border string
	text         string
}

var boxes = []box{
	{diagram.Person, "person, or who calls", "#1e293b", "#1e293b", "#ffffff"},
	{diagram.Program, "part of LabLink, or what it runs on", "#ffffff", "#334155", "#0f172a"},
	{diagram.Store, "keeps data", "#e3f1e7", "#15803d", "#0f172a"},
	{diagram.Outside, "around it", "#eceef1", "#6b7280", "#0f172a"},
	{diagram.Table, "", "#ffffff", "#334155", "#0f172a"},
}

func boxOf(shape diagram.Shape) box {
	for _, b := range boxes {
		if b.shape == shape {
			return b
		}
	}
	return boxes[1]
}

const (
	ink       = "#0f172a"
	soft      = "#475569"
	groupFill = "#f4f6fa"
	groupEdge = "#94a3b8"
	bandFill  = "#eef2f8"
	waitFill  = "#fde8d3"
)
