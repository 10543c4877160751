// Package draw puts the pictures of package diagram on paper.
//
// Where boxes and lines are is computed by ELK, as D2 has it: of the layout
// libraries that Go programs can use, it is the one whose lines are right-angled,
// go around boxes and groups, and cross as little as possible; it has no part in
// C, and does nothing before it is called. (Graphviz, compiled to WebAssembly,
// does: it would slow down the start of every agent.) A sequence needs no
// library: its columns and rows are given. The drawing is done by canvas, which
// writes the same picture as SVG, PNG and PDF.
package draw

import (
	"bytes"
	"context"
	"fmt"
	"html"
	"image/png"

	"github.com/tdewolff/canvas"
	"github.com/tdewolff/canvas/renderers/pdf"
	"github.com/tdewolff/canvas/renderers/rasterizer"
	"github.com/tdewolff/canvas/renderers/svg"

	"lablink/internal/diagram"
)

// Drawing is a picture on paper. It is the same each time.
type Drawing struct {
	canvas *canvas.Canvas
	title  string
}

// pen is what draws one picture.
type pen struct {
	*sheet
	*diagram.Picture
	preset Preset
	margin float64
	top    float64 // where the picture begins, below the title
}

// Draw draws a picture.
func Draw(ctx context.Context, p *diagram.Picture, preset Preset) (*Drawing, error) {
	s, err := newSheet()
	if err != nil {
		return nil, err
	}
	d := &pen{sheet: s, Picture: p, preset: preset, margin: 36} // half an inch
	d.top = d.margin + preset.title + leading(preset.title)*.6
	if p.Sequence {
		d.sequence()
	} else if err := d.flow(ctx); err != nil {
		return nil, err
	}
	d.write(font{preset.title, true, ink}, d.margin, d.margin+preset.title*.8, p.Title, canvas.Left)
	return &Drawing{s.canvas, p.Title}, nil
}

// Formats are the names of those that a drawing can be written in.
func Formats() []string { return []string{"png", "svg", "pdf"} }

// Bytes returns the drawing as a file of a format. dpi is the resolution of those
// that have one, in dots per inch. A PDF also holds the time at which it was made.
func (d *Drawing) Bytes(format string, dpi float64) ([]byte, error) {
	var b bytes.Buffer
	width, height := d.canvas.Size()
	switch format {
	case "svg":
		r := svg.New(&b, width, height, &svg.Options{})
		d.canvas.RenderTo(r)
		if err := r.Close(); err != nil {
			return nil, err
		}
		// Screen readers say what it is.
		return bytes.Replace(b.Bytes(), []byte("<svg "), fmt.Appendf(nil, "<svg role=\"img\" aria-label=\"%s\" ", html.EscapeString(d.title)), 1), nil
	case "png":
		err := png.Encode(&b, rasterizer.Draw(d.canvas, canvas.DPI(dpi), canvas.SRGBColorSpace{}))
		return b.Bytes(), err
	case "pdf":
		r := pdf.New(&b, width, height, nil)
		r.SetInfo(d.title, "", "", "", "LabLink")
		d.canvas.RenderTo(r)
		err := r.Close()
		return b.Bytes(), err
	default:
		return nil, fmt.Errorf("there is no format %q", format)
	}
}
