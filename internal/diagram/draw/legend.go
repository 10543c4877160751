package draw

import (
	"slices"

	"github.com/tdewolff/canvas"

	"lablink/internal/diagram"
)

// panel is something below the picture.
type panel struct {
	height float64
	draw   func(x, y float64)
}

// steps is the list of what the numbers on the lines mean, in columns.
func (d *pen) steps(width float64) panel {
	f := font{d.preset.edge, false, ink}
	numbered := slices.DeleteFunc(slices.Clone(d.Edges), func(e diagram.Edge) bool { return e.Step == 0 })
	if len(numbered) == 0 {
		return panel{draw: func(float64, float64) {}}
	}
	indent := 2*d.radius() + 10
	columns := max(1, min(3, int(width/(d.preset.edge*28))))
	column := width / float64(columns)
	high := (len(numbered) + columns - 1) / columns
	texts := make([][]string, len(numbered))
	heights := make([]float64, columns)
	for i, e := range numbered {
		text := e.Text
		if e.If != "" {
			text += " (if " + e.If + ")"
		}
		texts[i] = d.wrap(f, text, column-indent-20)
		heights[i/high] += d.stepHeight(len(texts[i]))
	}
	return panel{slices.Max(heights) + 12, func(left, top float64) {
		x, y := left, top
		for i, e := range numbered {
			if i > 0 && i%high == 0 {
				x, y = x+column, top
			}
			d.badge(point{x + d.radius(), y + d.radius()}, e.Step, lineOf(e.Kind).color)
			for n, line := range texts[i] {
				d.write(f, x+indent, y+d.radius()+d.preset.edge*.36+float64(n)*leading(f.size), line, canvas.Left)
			}
			y += d.stepHeight(len(texts[i]))
		}
	}}
}

func (d *pen) stepHeight(lines int) float64 {
	return max(2*d.radius()+6, float64(lines)*leading(d.preset.edge)+8)
}

// entry is one thing that the legend explains.
type entry struct {
	words string
	draw  func(x, y float64)
}

// legend explains the lines and boxes that are in the picture.
func (d *pen) legend(width float64) panel {
	f := d.texts(soft)
	const sample = 46.
	var entries []entry
	for _, l := range lines {
		if slices.ContainsFunc(d.Edges, func(e diagram.Edge) bool { return e.Kind == l.kind }) {
			entries = append(entries, entry{l.words, func(x, y float64) { d.line([]point{{x, y}, {x + sample, y}}, l) }})
		}
	}
	for _, b := range boxes {
		if b.words != "" && slices.ContainsFunc(d.Nodes, func(n diagram.Node) bool { return n.Shape == b.shape }) {
			entries = append(entries, entry{b.words, func(x, y float64) {
				d.node(rect{x + 8, y - 9, sample - 16, 18}, diagram.Node{Shape: b.shape})
			}})
		}
	}
	if slices.ContainsFunc(d.Nodes, func(n diagram.Node) bool { return n.If != "" }) || slices.ContainsFunc(d.Groups, func(g diagram.Group) bool { return g.If != "" }) {
		entries = append(entries, entry{"only under the condition that it tells", func(x, y float64) {
			d.area(rect{x + 8, y - 9, sample - 16, 18}, 4, "#ffffff", soft, dashes("if"))
		}})
	}
	if d.Bold != "" {
		entries = append(entries, entry{d.Bold, func(x, y float64) {
			d.write(font{f.size, true, ink}, x+sample/2, y+f.size*.36, "bold", canvas.Center)
		}})
	}
	type spot struct{ x, y float64 }
	spots := make([]spot, len(entries))
	x, y, row := 0., 0., leading(f.size)+12
	for i, e := range entries {
		w := sample + 8 + d.width(f, e.words) + 26
		if x > 0 && x+w > width {
			x, y = 0, y+row
		}
		spots[i] = spot{x, y}
		x += w
	}
	return panel{y + row + 14, func(left, top float64) {
		d.path(left, top, canvas.Line(width*mm, 0), "", groupEdge, .8, nil)
		for i, e := range entries {
			x, y := left+spots[i].x, top+22+spots[i].y
			e.draw(x, y)
			d.write(f, x+sample+8, y+f.size*.36, e.words, canvas.Left)
		}
	}}
}
