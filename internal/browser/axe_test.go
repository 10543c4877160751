package browser_test

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	pagedomain "github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

//go:embed testdata/axe.min.js
var axe string

// screen is the size of a window, in pixels.
type screen struct{ width, height int64 }

var (
	phone   = screen{360, 740}
	desktop = screen{1366, 768}
	large   = screen{1920, 1080}
)

// scheme is what people choose for their whole desktop.
type scheme string

const (
	light scheme = "light"
	dark  scheme = "dark"
)

// look gives the window a size and a colour scheme.
func (p *page) look(s screen, colours scheme) {
	p.t.Helper()
	p.do(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		if _, err := cdp.Call(ctx, t, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
			Width: s.width, Height: s.height, DeviceScaleFactor: 1, Mobile: s == phone,
		}); err != nil {
			return err
		}
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
			{Name: "prefers-color-scheme", Value: string(colours)}, {Name: "prefers-reduced-motion", Value: "reduce"},
		}})
		return err
	}))
}

// everybody fails where somebody could not use the page as it is now: on a small
// or a large screen, in light or dark colours, with assistive technology.
func (p *page) everybody(name string) {
	p.t.Helper()
	p.until("axe-core", "document.readyState === 'complete'")
	eval[chromedp.Void](p, axe+"; void 0")
	for _, s := range []screen{phone, desktop, large} {
		for _, colours := range []scheme{light, dark} {
			p.look(s, colours)
			where := fmt.Sprintf("%s, %dx%d, %s", name, s.width, s.height, colours)
			if wide := eval[int64](p, "document.documentElement.scrollWidth"); wide > s.width {
				p.t.Errorf("%s: it is %d pixels wide", where, wide)
			}
			for _, violation := range p.violations(colours) {
				p.t.Errorf("%s: %s", where, violation)
			}
			p.picture(fmt.Sprintf("%s-%d-%s", name, s.width, colours))
		}
	}
	p.look(desktop, light)
}

// violations asks axe-core. Only contrast depends on colours.
func (p *page) violations(colours scheme) []string {
	p.t.Helper()
	options := "{resultTypes: ['violations'], rules: {'target-size': {enabled: true}}}"
	if colours == dark {
		options = "{resultTypes: ['violations'], runOnly: ['color-contrast', 'link-in-text-block']}"
	}
	return eval[[]string](p, "axe.run(document, "+options+`).then(r => r.violations.map(v =>
		v.id + ': ' + v.help + v.nodes.map(n => '\n\t' + n.html + ' ' + n.failureSummary.replace(/\s+/g, ' ')).join('')))`)
}

// picture keeps what the page looks like, if that is wanted.
func (p *page) picture(name string) {
	p.t.Helper()
	dir := os.Getenv("LABLINK_SCREENSHOTS")
	if dir == "" {
		return
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		p.t.Fatal(err)
	}
	p.do(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		beyond := true
		shot, err := cdp.Call(ctx, t, pagedomain.CaptureScreenshot, pagedomain.CaptureScreenshotParams{CaptureBeyondViewport: &beyond})
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, strings.ReplaceAll(name, " ", "-")+".png"), shot.Data, 0o644)
	}))
}
