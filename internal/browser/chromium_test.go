package browser_test

import (
	"context"
	"os/exec"
	"testing"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"
)

// plainHost is a name for this machine whose pages are no secure context, as
// those of a classroom's server without a certificate. 127.0.0.1 is one.
const plainHost = "lablink.workshop.example"

// chromium is a running browser.
type chromium struct {
	ctx context.Context
}

// startChromium starts the one browser of all stories.
func startChromium(t *testing.T) *chromium {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		t.Fatal("there is no browser in PATH (chromium, chromium-browser or google-chrome). On Debian: apt-get install chromium; or: make deps")
	}
	// The folder of its profile is new, empty, and removed at the end: chromedp sees to that.
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path),
		chromedp.NoSandbox, // tests run as root
		chromedp.Flag("disable-gpu", true),
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-features", "Translate,HttpsUpgrades,HttpsFirstBalancedMode,HttpsFirstModeIncognito,MediaRouter,OptimizationHints"),
		chromedp.Flag("host-resolver-rules", "MAP "+plainHost+" 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"),
		chromedp.Flag("lang", "en-GB"),
	)
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(stop)
	ctx, cancel := chromedp.NewContext(allocator, chromedp.WithErrorf(func(string, ...any) {}))
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("%s does not start: %v", path, err)
	}
	return &chromium{ctx}
}

// person is somebody with a browser of their own: cookies and log-ins are theirs.
type person struct {
	t        *testing.T
	chromium *chromium
	profile  cdp.BrowserContextID
	base     string // address of the allocator, as this person types it
}

// person opens a browser in which nobody has done anything yet.
func (c *chromium) person(t *testing.T, base string) *person {
	t.Helper()
	made, err := chromedp.CallBrowser(c.ctx, target.CreateBrowserContext, target.CreateBrowserContextParams{})
	if err != nil {
		t.Fatal(err)
	}
	profile := made.BrowserContextID
	t.Cleanup(func() {
		_, err := chromedp.CallBrowser(c.ctx, target.DisposeBrowserContext, target.DisposeBrowserContextParams{BrowserContextID: profile})
		if err != nil {
			t.Errorf("closing a browser: %v", err)
		}
	})
	return &person{t, c, profile, base}
}

// mayReadClipboard answers the question that the browser would ask.
func (p *person) mayReadClipboard() {
	p.t.Helper()
	_, err := chromedp.CallBrowser(p.chromium.ctx, browser.SetPermission, browser.SetPermissionParams{
		Permission: &browser.PermissionDescriptor{Name: "clipboard-read"}, Setting: browser.PermissionSettingGranted, BrowserContextID: p.profile,
	})
	if err != nil {
		p.t.Fatal(err)
	}
}
