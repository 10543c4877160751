package draw

import (
	"math"

	"github.com/tdewolff/canvas"

	"lablink/internal/diagram"
)

// message is a step of a sequence on its way between two columns.
type message struct {
	diagram.Edge
	from, to int
	text     []string
	y        float64
}

// sequence draws columns, and below them the steps in their order.
func (d *pen) sequence() {
	index := map[string]int{}
	heads := make([]rect, len(d.Nodes))
	tallest := 0.
	for i, n := range d.Nodes {
		index[n.ID], heads[i] = i, d.size(n)
		tallest = max(tallest, heads[i].h)
	}
	f := d.texts(ink)
	bands := 0. // the column in which their titles are
	for _, b := range d.Bands {
		for _, line := range d.wrap(d.titles(ink), b.Title, d.preset.node*8) {
			bands = max(bands, d.width(d.titles(ink), line)+2*pad)
		}
	}

	// Columns are as near to each other as their heads and the texts between them allow.
	gaps := make([]float64, len(d.Nodes)-1)
	for i := range gaps {
		gaps[i] = (heads[i].w+heads[i+1].w)/2 + d.preset.space*.3
		if d.Nodes[i].In != d.Nodes[i+1].In {
			gaps[i] += d.preset.space * .2
		}
	}
	var messages []message
	for _, e := range d.Edges {
		m := message{Edge: e, from: index[e.From], to: index[e.To]}
		low, high := min(m.from, m.to), max(m.from, m.to)
		room := -2 * (d.radius() + 20)
		for _, gap := range gaps[low:high] {
			room += gap
		}
		m.text = d.wrap(f, e.Text, max(room, d.preset.edge*10))
		if missing := d.widest(f, m.text...) - room; missing > 0 {
			gaps[high-1] += missing
		}
		messages = append(messages, m)
	}
	x := make([]float64, len(d.Nodes))
	x[0] = d.margin + bands + heads[0].w/2 + pad
	for i, gap := range gaps {
		x[i+1] = x[i] + gap
	}
	right := x[len(x)-1] + heads[len(heads)-1].w/2 + pad

	groups := d.headline()
	y := d.top + groups + tallest + 16
	tops := make([]float64, len(d.Bands)+1)
	for i := range messages {
		for b, band := range d.Bands {
			if band.First == messages[i].Step {
				y += 14
				tops[b] = y
			}
		}
		y += 12 + float64(len(messages[i].text))*leading(f.size) + 8
		messages[i].y = y
	}
	bottom := y + 22
	tops[len(d.Bands)] = bottom
	width := right + d.margin
	legend := d.legend(width - 2*d.margin)
	d.open(width, bottom+20+legend.height+d.margin)

	d.columns(x, heads, groups, tallest, tops, right, bands)
	for _, w := range d.Waits {
		d.wait(w, x[index[w.Node]], messages)
	}
	for _, m := range messages {
		d.message(m, x)
	}
	legend.draw(d.margin, bottom+20)
}

// columns draws what is behind the steps.
func (d *pen) columns(x []float64, heads []rect, groups, tallest float64, tops []float64, right, bands float64) {
	head := d.top + groups
	for _, g := range d.Groups {
		left, end := math.Inf(1), 0.
		for i, n := range d.Nodes {
			if n.In == g.ID {
				left, end = min(left, x[i]-heads[i].w/2), max(end, x[i]+heads[i].w/2)
			}
		}
		d.group(rect{left - 9, d.top, end - left + 18, groups + tallest + 12}, g)
	}
	for i, b := range d.Bands {
		r := rect{d.margin, tops[i], right - d.margin, tops[i+1] - tops[i] - 6}
		d.area(r, 6, bandFill, "", nil)
		for n, line := range d.wrap(d.titles(ink), b.Title, bands-2*pad+1) {
			d.write(d.titles(ink), r.x+pad, r.y+pad/2+d.preset.node+float64(n)*leading(d.preset.node), line, canvas.Left)
		}
	}
	for i, n := range d.Nodes {
		d.path(x[i], head+tallest, canvas.Line(0, (tops[len(tops)-1]-head-tallest)*mm), "", groupEdge, 1, []float64{3, 3})
		d.node(rect{x[i] - heads[i].w/2, head + tallest - heads[i].h, heads[i].w, heads[i].h}, n)
	}
}

const bar = 10 // the width of the bar of who waits

func (d *pen) wait(w diagram.Wait, x float64, messages []message) {
	var top, bottom float64
	for _, m := range messages {
		if m.Step == w.First {
			top = m.y
		}
		if m.Step == w.Last {
			bottom = m.y
		}
	}
	d.area(rect{x - bar/2, top, bar, bottom - top}, 2, waitFill, lineOf(diagram.Held).color, nil)
	if w.Text != "" {
		d.writeUp(d.texts(lineOf(diagram.Held).color), x+bar/2+d.preset.edge, (top+bottom)/2, w.Text)
	}
}

func (d *pen) message(m message, x []float64) {
	look := lineOf(m.Kind)
	from, to := x[m.from], x[m.to]
	sign := 1.
	if to < from {
		sign = -1
	}
	from, to = from+sign*bar/2, to-sign*bar/2
	d.line([]point{{from, m.y}, {to, m.y}}, look)
	at := from + sign*(d.radius()+4)
	f := d.texts(ink)
	left, right := at+sign*(d.radius()+4), to-sign*12
	center := (left + right) / 2
	for i, line := range m.text {
		y := m.y - 6 - float64(len(m.text)-1-i)*leading(f.size)
		w := d.width(f, line)
		d.area(rect{center - w/2 - 2, y - f.size*.85, w + 4, leading(f.size)}, 2, bandFill, "", nil) // over the columns that it passes
		d.write(f, center, y, line, canvas.Center)
	}
	d.badge(point{at, m.y}, m.Step, look.color)
}
