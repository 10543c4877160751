package draw

import (
	rgba "image/color"
	"strings"

	"github.com/go-fonts/liberation/liberationsansbold"
	"github.com/go-fonts/liberation/liberationsansregular"
	"github.com/tdewolff/canvas"
)

// mm is the size of a point, the unit of everything here but the canvas.
const mm = 25.4 / 72

// family names the font for viewers of SVG, which need not have it.
const family = "Liberation Sans, Arial, Helvetica, sans-serif"

// point is a place on the sheet, from its upper left corner.
type point struct{ x, y float64 }

// rect is an area of the sheet.
type rect struct{ x, y, w, h float64 }

func (r rect) center() point   { return point{r.x + r.w/2, r.y + r.h/2} }
func (r rect) right() float64  { return r.x + r.w }
func (r rect) bottom() float64 { return r.y + r.h }

// sheet is the paper: it knows how wide texts are, and takes what is drawn.
type sheet struct {
	fonts  *canvas.FontFamily
	canvas *canvas.Canvas
	ctx    *canvas.Context
}

func newSheet() (*sheet, error) {
	s := &sheet{fonts: canvas.NewFontFamily(family)}
	if err := s.fonts.LoadFont(liberationsansregular.TTF, 0, canvas.FontRegular); err != nil {
		return nil, err
	}
	return s, s.fonts.LoadFont(liberationsansbold.TTF, 0, canvas.FontBold)
}

// open begins a sheet of that size. What is measured before may be drawn on it.
func (s *sheet) open(width, height float64) {
	s.canvas = canvas.New(width*mm, height*mm)
	s.ctx = canvas.NewContext(s.canvas)
	s.ctx.SetCoordSystem(canvas.CartesianIV)
	s.area(rect{0, 0, width, height}, 0, "#ffffff", "", nil)
}

// font is how text is set.
type font struct {
	size  float64
	bold  bool
	color string
}

func (s *sheet) face(f font) *canvas.FontFace {
	style := canvas.FontRegular
	if f.bold {
		style = canvas.FontBold
	}
	return s.fonts.Face(f.size, canvas.Hex(f.color), style, canvas.FontNormal)
}

func (s *sheet) width(f font, text string) float64 { return s.face(f).TextWidth(text) / mm }

// widest is the width of the longest of the lines.
func (s *sheet) widest(f font, texts ...string) float64 {
	w := 0.
	for _, text := range texts {
		w = max(w, s.width(f, text))
	}
	return w
}

// leading is how far lines of text are from each other.
func leading(size float64) float64 { return size * 1.25 }

// wrap breaks a text into lines that are no wider.
func (s *sheet) wrap(f font, text string, width float64) []string {
	var wrapped []string
	current := ""
	for word := range strings.FieldsSeq(text) {
		switch longer := current + " " + word; {
		case current == "":
			current = word
		case s.width(f, longer) <= width:
			current = longer
		default:
			wrapped = append(wrapped, current)
			current = word
		}
	}
	return append(wrapped, current)
}

// write sets a line of text, with its base line at y. Where along it x is, align
// says: canvas.Left, canvas.Center, canvas.Right.
func (s *sheet) write(f font, x, y float64, text string, align canvas.TextAlign) {
	s.ctx.DrawText(x*mm, y*mm, canvas.NewTextLine(s.face(f), text, align))
}

// writeUp sets a line of text that is read from bottom to top.
func (s *sheet) writeUp(f font, x, y float64, text string) {
	s.ctx.Push()
	s.ctx.RotateAbout(90, x*mm, y*mm)
	s.write(f, x, y, text, canvas.Center)
	s.ctx.Pop()
}

// area draws a rectangle with rounded corners.
func (s *sheet) area(r rect, radius float64, fill, border string, dash []float64) {
	s.path(r.x, r.y, canvas.RoundedRectangle(r.w*mm, r.h*mm, radius*mm), fill, border, 1.2, dash)
}

func (s *sheet) path(x, y float64, p *canvas.Path, fill, stroke string, width float64, dash []float64) {
	s.ctx.SetFillColor(color(fill))
	s.ctx.SetStrokeColor(color(stroke))
	s.ctx.SetStrokeWidth(width * mm)
	scaled := make([]float64, len(dash))
	for i, d := range dash {
		scaled[i] = d * mm
	}
	s.ctx.SetDashes(0, scaled...)
	s.ctx.DrawPath(x*mm, y*mm, p)
}

// color is one that is written #rrggbb; "" is none.
func color(text string) rgba.RGBA {
	if text == "" {
		return canvas.Transparent
	}
	return canvas.Hex(text)
}
