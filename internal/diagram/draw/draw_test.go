package draw_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"image"
	_ "image/png"
	"io"
	"strings"
	"testing"

	"lablink/internal/diagram"
	"lablink/internal/diagram/draw"
)

// small are a flow and a sequence with everything that pictures have.
func small(sequence bool) *diagram.Picture {
	p := &diagram.Picture{
		Title: "A & B", Sequence: sequence, Bold: "the key",
		Groups: []diagram.Group{{ID: "g", Title: "Group", Detail: "its detail"}, {ID: "h", In: "g", Title: "Inner", If: "var.h"}},
		Nodes: []diagram.Node{
			{ID: "a", Title: "Ada", Shape: diagram.Person},
			{ID: "b", In: "h", Title: "Program", Lines: []string{"a line"}, Shape: diagram.Program, If: "var.b"},
			{ID: "c", In: "g", Title: "Store", Shape: diagram.Store},
			{ID: "d", In: "g", Title: "table", Shape: diagram.Table, Fields: []diagram.Field{{Name: "id", Type: "bigint", Bold: true}}},
		},
		Edges: []diagram.Edge{
			{From: "a", To: "b", Text: "asks for <something>", Kind: diagram.Request, Step: 1},
			{From: "b", To: "c", Text: "keeps it", Kind: diagram.Write, Step: 2},
			{From: "c", To: "d", Kind: diagram.Refers},
			{From: "d", To: "a", Text: "answers", Kind: diagram.Held, Step: 3, Back: true},
		},
	}
	if sequence {
		p.Groups, p.Nodes = p.Groups[:1], p.Nodes[:3]
		p.Nodes[1].In = "g"
		p.Edges = []diagram.Edge{p.Edges[0], p.Edges[1], {From: "c", To: "a", Text: "answers", Kind: diagram.Answer, Step: 3}}
		p.Bands, p.Waits = []diagram.Band{{Title: "First", First: 1}, {Title: "Then", First: 3}}, []diagram.Wait{{Node: "b", First: 1, Last: 3, Text: "waits"}}
	}
	return p
}

func drawn(t *testing.T, p *diagram.Picture, preset string) *draw.Drawing {
	t.Helper()
	size, err := draw.ParsePreset(preset)
	if err != nil {
		t.Fatal(err)
	}
	d, err := draw.Draw(t.Context(), p, size)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func file(t *testing.T, d *draw.Drawing, format string, dpi float64) []byte {
	t.Helper()
	data, err := d.Bytes(format, dpi)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// texts are the texts in an SVG file, which must be well-formed.
func texts(t *testing.T, data []byte) string {
	t.Helper()
	decoder, all := xml.NewDecoder(bytes.NewReader(data)), ""
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if text, ok := token.(xml.CharData); ok {
			all += string(text) + "\n"
		}
	}
}

func TestDraw(t *testing.T) {
	t.Parallel()
	for name, p := range map[string]*diagram.Picture{"flow": small(false), "sequence": small(true)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := drawn(t, p, "paper")
			svg := file(t, d, "svg", 0)
			text := texts(t, svg)
			for _, want := range []string{"A & B", "Group", "its detail", "Ada", "Program", "if var.b", "Store", "asks for", "<something>", "answers", "\n3\n"} {
				if !strings.Contains(text, want) {
					t.Errorf("the picture lacks %q:\n%s", want, text)
				}
			}
			if !bytes.Contains(svg, []byte(`role="img" aria-label="A &amp; B"`)) {
				t.Errorf("it does not say what it is: %.200s", svg)
			}
			if again := file(t, drawn(t, p, "paper"), "svg", 0); !bytes.Equal(svg, again) {
				t.Error("it is not the same when it is drawn again")
			}

			small, _, err := image.DecodeConfig(bytes.NewReader(file(t, d, "png", 50)))
			if err != nil {
				t.Fatal(err)
			}
			large, _, err := image.DecodeConfig(bytes.NewReader(file(t, d, "png", 100)))
			if err != nil || large.Width < 2*small.Width-2 || large.Width > 2*small.Width+2 {
				t.Errorf("at 50 dpi it is %d wide, at 100 dpi %d; %v", small.Width, large.Width, err)
			}
			if pdf := file(t, d, "pdf", 0); !bytes.HasPrefix(pdf, []byte("%PDF-")) || !bytes.Contains(pdf, []byte("%%EOF")) {
				t.Error("the PDF is none")
			}
			if _, err := d.Bytes("gif", 50); err == nil {
				t.Error("it is a GIF")
			}
		})
	}
}

func TestParsePreset(t *testing.T) {
	t.Parallel()
	width := map[string]int{}
	for _, name := range []string{"paper", "presentation", "poster"} {
		config, _, err := image.DecodeConfig(bytes.NewReader(file(t, drawn(t, small(true), name), "png", 50)))
		if err != nil {
			t.Fatal(err)
		}
		width[name] = config.Width
	}
	if width["paper"] >= width["presentation"] || width["presentation"] >= width["poster"] {
		t.Errorf("widths: %v", width)
	}
	if _, err := draw.ParsePreset("huge"); err == nil || !strings.Contains(err.Error(), "paper, poster, presentation") {
		t.Errorf("an unknown one: %v", err)
	}
}
