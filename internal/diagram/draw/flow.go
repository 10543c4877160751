package draw

import (
	"context"
	"math"
	"slices"
	"strconv"

	"github.com/tdewolff/canvas"

	"lablink/internal/diagram"
)

const pad = 12 // around the text of a box

func (d *pen) titles(color string) font { return font{d.preset.node, true, color} }
func (d *pen) texts(color string) font  { return font{d.preset.edge * .85, false, color} }

// flow draws boxes with lines between them, and what the lines mean below.
func (d *pen) flow(ctx context.Context) error {
	sizes := map[string]rect{}
	for _, n := range d.Nodes {
		sizes[n.ID] = d.size(n)
	}
	at, err := d.place(ctx, sizes)
	if err != nil {
		return err
	}
	width := max(at.width+2*d.margin, d.width(font{d.preset.title, true, ink}, d.Title)+2*d.margin, 760)
	steps := d.steps(width - 2*d.margin)
	legend := d.legend(width - 2*d.margin)
	below := d.top + at.height + leading(d.preset.node)*1.5
	d.open(width, below+steps.height+legend.height+d.margin)

	left := (width - at.width) / 2
	shift := func(r rect) rect { return rect{r.x + left, r.y + d.top, r.w, r.h} }
	for _, g := range d.Groups {
		d.group(shift(at.groups[g.ID]), g)
	}
	var badges []badge
	for i, e := range d.Edges {
		route := make([]point, 0, len(at.routes[i]))
		for _, p := range at.routes[i] {
			route = append(route, point{p.x + left, p.y + d.top})
		}
		d.line(route, lineOf(e.Kind))
		if e.Step > 0 {
			badges = append(badges, badge{d.free(route, badges), e})
		}
	}
	for _, n := range d.Nodes {
		d.node(shift(at.nodes[n.ID]), n)
	}
	for _, b := range badges {
		d.badge(b.at, b.edge.Step, lineOf(b.edge.Kind).color)
	}
	steps.draw(d.margin, below)
	legend.draw(d.margin, below+steps.height)
	return nil
}

// details are the lines of a box below its title.
func details(n diagram.Node) []string {
	lines := n.Lines
	if n.If != "" {
		lines = append(slices.Clip(lines), "if "+n.If)
	}
	return lines
}

// size is how large a box must be.
func (d *pen) size(n diagram.Node) rect {
	lines := details(n)
	w := max(d.width(d.titles(ink), n.Title), d.widest(d.texts(ink), lines...))
	h := leading(d.preset.node) + float64(len(lines))*leading(d.preset.edge*.85)
	if n.Shape == diagram.Table {
		for _, f := range n.Fields {
			w = max(w, d.fieldWidth(f))
		}
		return rect{w: w + 2*pad, h: h + pad + float64(len(n.Fields))*d.row()}
	}
	if n.Shape == diagram.Store {
		h += 12 // its lid
	}
	return rect{w: max(w+2*pad, 90), h: max(h+2*pad, 48)}
}

func (d *pen) row() float64 { return d.preset.edge * 1.35 }

func (d *pen) fieldWidth(f diagram.Field) float64 {
	return d.width(font{d.preset.edge * .85, f.Bold, ink}, f.Name) + 24 + d.width(d.texts(soft), f.Type)
}

// dashes tell that something is there under a condition only.
func dashes(condition string) []float64 {
	if condition == "" {
		return nil
	}
	return []float64{5, 4}
}

func (d *pen) group(r rect, g diagram.Group) {
	d.area(r, 10, groupFill, groupEdge, dashes(g.If))
	y := r.y + d.preset.node + 6
	d.write(d.titles(ink), r.x+pad, y, g.Title, canvas.Left)
	detail := g.Detail
	if g.If != "" {
		detail = "if " + g.If
	}
	if detail != "" {
		for i, line := range d.wrap(d.texts(soft), detail, r.w-2*pad) {
			d.write(d.texts(soft), r.x+pad, y+leading(d.preset.edge*.85)*float64(i+1), line, canvas.Left)
		}
	}
}

// node draws a box.
func (d *pen) node(r rect, n diagram.Node) {
	look := boxOf(n.Shape)
	top := r.y + pad
	switch n.Shape {
	case diagram.Table:
		d.table(r, n)
		return
	case diagram.Store:
		d.cylinder(r, look, dashes(n.If))
		top += 12
	case diagram.Person:
		d.area(r, min(r.h/2, 24), look.fill, look.border, dashes(n.If))
	case diagram.Outside:
		d.area(r, 2, look.fill, look.border, dashes(n.If))
		d.area(rect{r.x + 3, r.y + 3, r.w - 6, r.h - 6}, 1, "", look.border, nil)
	default:
		d.area(r, 6, look.fill, look.border, dashes(n.If))
	}
	lines := details(n)
	text := leading(d.preset.node) + float64(len(lines))*leading(d.preset.edge*.85)
	y := top + (r.bottom()-pad-top-text)/2 + d.preset.node
	d.write(d.titles(look.text), r.center().x, y, n.Title, canvas.Center)
	for i, line := range lines {
		d.write(d.texts(look.text), r.center().x, y+leading(d.preset.edge*.85)*float64(i+1), line, canvas.Center)
	}
}

func (d *pen) table(r rect, n diagram.Node) {
	look := boxOf(n.Shape)
	head := leading(d.preset.node) + pad/2
	d.area(r, 4, look.fill, look.border, nil)
	d.area(rect{r.x, r.y, r.w, head}, 4, "#dfe5ee", look.border, nil)
	d.write(d.titles(ink), r.x+pad, r.y+d.preset.node+2, n.Title, canvas.Left)
	y := r.y + head
	for _, f := range n.Fields {
		y += d.row()
		d.write(font{d.preset.edge * .85, f.Bold, ink}, r.x+pad, y-3, f.Name, canvas.Left)
		d.write(d.texts(soft), r.right()-pad, y-3, f.Type, canvas.Right)
	}
	for _, line := range details(n) {
		y += leading(d.preset.edge * .85)
		d.write(d.texts(soft), r.x+pad, y-2, line, canvas.Left)
	}
}

func (d *pen) cylinder(r rect, look box, dash []float64) {
	const lid = 9
	p := &canvas.Path{}
	p.MoveTo(0, lid*mm)
	p.ArcTo(r.w/2*mm, lid*mm, 0, false, true, r.w*mm, lid*mm)
	p.LineTo(r.w*mm, (r.h-lid)*mm)
	p.ArcTo(r.w/2*mm, lid*mm, 0, false, true, 0, (r.h-lid)*mm)
	p.Close()
	d.path(r.x, r.y, p, look.fill, look.border, 1.2, dash)
	rim := &canvas.Path{}
	rim.MoveTo(0, lid*mm)
	rim.ArcTo(r.w/2*mm, lid*mm, 0, false, false, r.w*mm, lid*mm)
	d.path(r.x, r.y, rim, "", look.border, 1.2, nil)
}

// line draws a line along its route, with rounded corners and a head.
func (d *pen) line(route []point, look line) {
	const corner = 7
	last := len(route) - 1
	p := &canvas.Path{}
	p.MoveTo(route[0].x*mm, route[0].y*mm)
	for i := 1; i < last; i++ {
		before, after := toward(route[i], route[i-1], corner), toward(route[i], route[i+1], corner)
		p.LineTo(before.x*mm, before.y*mm)
		p.QuadTo(route[i].x*mm, route[i].y*mm, after.x*mm, after.y*mm)
	}
	end := route[last]
	neck := toward(end, route[last-1], 4)
	p.LineTo(neck.x*mm, neck.y*mm)
	d.path(0, 0, p, "", look.color, look.width, look.dash)
	d.head(end, route[last-1], look)
}

// head draws the head of a line that comes from a place to its end.
func (d *pen) head(end, from point, look line) {
	long, wide := 7+look.width*1.5, 3.2+look.width*.8
	back := toward(end, from, long)
	dx, dy := (end.x-back.x)/long*wide, (end.y-back.y)/long*wide
	p := &canvas.Path{}
	p.MoveTo((back.x-dy)*mm, (back.y+dx)*mm)
	p.LineTo(end.x*mm, end.y*mm)
	p.LineTo((back.x+dy)*mm, (back.y-dx)*mm)
	fill := ""
	if !look.open {
		p.Close()
		fill = look.color
	}
	d.path(0, 0, p, fill, look.color, 1.4, nil)
}

// toward is the place that is so far from a on the way to b, at most half of it.
func toward(a, b point, far float64) point {
	length := math.Hypot(b.x-a.x, b.y-a.y)
	if length == 0 {
		return a
	}
	part := min(far/length, .5)
	return point{a.x + (b.x-a.x)*part, a.y + (b.y-a.y)*part}
}

// badge is the number of a step on its line.
type badge struct {
	at   point
	edge diagram.Edge
}

func (d *pen) radius() float64 { return d.preset.edge * .8 }

func (d *pen) badge(at point, step int, color string) {
	r := d.radius()
	d.path(at.x, at.y, canvas.Circle(r*mm), "#ffffff", color, 1.6, nil)
	size := d.preset.edge * .9
	d.write(font{size, true, color}, at.x, at.y+size*.36, strconv.Itoa(step), canvas.Center)
}

// free is a place for a badge on a route, where no other one is: the middle of
// its longest part, or else beside that.
func (d *pen) free(route []point, taken []badge) point {
	from, to := route[0], route[1]
	for i := 1; i < len(route); i++ {
		if distance(route[i-1], route[i]) > distance(from, to) {
			from, to = route[i-1], route[i]
		}
	}
	for _, part := range []float64{.5, .4, .6, .3, .7, .2, .8} {
		at := point{from.x + (to.x-from.x)*part, from.y + (to.y-from.y)*part}
		alone := true
		for _, b := range taken {
			alone = alone && distance(b.at, at) > 2.3*d.radius()
		}
		if alone {
			return at
		}
	}
	return point{(from.x + to.x) / 2, (from.y + to.y) / 2}
}

func distance(a, b point) float64 { return math.Hypot(a.x-b.x, a.y-b.y) }
