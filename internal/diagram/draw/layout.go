package draw

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"

	"oss.terrastruct.com/d2/d2compiler"
	"oss.terrastruct.com/d2/d2graph"
	"oss.terrastruct.com/d2/d2layouts/d2elklayout"
	"oss.terrastruct.com/d2/lib/log"
	"oss.terrastruct.com/d2/lib/textmeasure"
)

// placed is where everything is, from the upper left corner of the picture.
type placed struct {
	nodes, groups map[string]rect
	routes        [][]point // of the edges
	width, height float64
}

// place computes where everything is. sizes are those of the nodes.
func (d *pen) place(ctx context.Context, sizes map[string]rect) (placed, error) {
	ids := map[string]string{} // what D2 calls a group or a node
	var source strings.Builder
	source.WriteString("direction: right\n")
	full := func(in, id string) string {
		if in == "" {
			return id
		}
		return ids["group "+in] + "." + id
	}
	for i, g := range d.Groups {
		ids["group "+g.ID] = full(g.In, fmt.Sprintf("g%d", i))
		fmt.Fprintf(&source, "%s: \"\"\n", ids["group "+g.ID])
	}
	for i, n := range d.Nodes {
		ids["node "+n.ID] = full(n.In, fmt.Sprintf("n%d", i))
		fmt.Fprintf(&source, "%s: \"\" {width: %.0f; height: %.0f}\n", ids["node "+n.ID], math.Ceil(sizes[n.ID].w), math.Ceil(sizes[n.ID].h))
	}
	for _, e := range d.Edges {
		label := ""
		if e.Step > 0 {
			label = fmt.Sprintf(": \" %d \"", e.Step)
		}
		// A line that leads back is laid out from its end, so that it does not change the order.
		from, arrow, to := e.From, "->", e.To
		if e.Back {
			from, arrow, to = e.To, "<-", e.From
		}
		fmt.Fprintf(&source, "%s %s %s%s\n", ids["node "+from], arrow, ids["node "+to], label)
	}
	g, err := d.layout(ctx, source.String())
	if err != nil {
		return placed{}, fmt.Errorf("lay out: %w", err)
	}

	p := placed{nodes: map[string]rect{}, groups: map[string]rect{}}
	byID := map[string]rect{}
	for _, o := range g.Objects {
		r := rect{o.TopLeft.X, o.TopLeft.Y, o.Width, o.Height}
		byID[o.AbsID()] = r
		p.width, p.height = max(p.width, r.right()), max(p.height, r.bottom())
	}
	for _, group := range d.Groups {
		p.groups[group.ID] = byID[ids["group "+group.ID]]
	}
	for _, n := range d.Nodes {
		p.nodes[n.ID] = byID[ids["node "+n.ID]]
	}
	for i, e := range g.Edges { // in the order of the source
		var route []point
		for _, at := range e.Route {
			route = append(route, point{at.X, at.Y})
			p.width, p.height = max(p.width, at.X), max(p.height, at.Y)
		}
		if d.Edges[i].Back {
			slices.Reverse(route)
		}
		p.routes = append(p.routes, route)
	}
	return p, nil
}

func (d *pen) layout(ctx context.Context, source string) (*d2graph.Graph, error) {
	g, _, err := d2compiler.Compile("", strings.NewReader(source), nil)
	if err != nil {
		return nil, err
	}
	ruler, err := textmeasure.NewRuler()
	if err != nil {
		return nil, err
	}
	if err := g.SetDimensions(nil, ruler, nil, nil); err != nil {
		return nil, err
	}
	ctx = log.With(ctx, slog.New(slog.DiscardHandler)) // it tells how it works
	return g, d2elklayout.Layout(ctx, g, &d2elklayout.ConfigurableOpts{
		Algorithm:       "layered",
		NodeSpacing:     int(d.preset.rank * .45),
		Padding:         fmt.Sprintf("[top=%.0f,left=20,bottom=20,right=20]", d.headline()),
		EdgeNodeSpacing: int(d.preset.space * .3),
		SelfLoopSpacing: 30,
	})
}

// headline is how much of a group its title takes.
func (d *pen) headline() float64 { return leading(d.preset.node) + 2*leading(d.preset.edge*.85) + 14 }
