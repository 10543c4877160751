package browser_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/fetch"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// patience bounds each wait. Nothing takes a quarter of it, on a busy machine.
const patience = 30 * time.Second

// page is one tab of a person's browser. What the browser complains about while
// it is open, scripts, security policy or missing files, fails the test.
type page struct {
	t      *testing.T
	person *person
	ctx    context.Context
	close  func()

	mu        sync.Mutex
	troubles  []trouble
	refusals  map[string]bool // addresses of documents that were answered with an error, as they may be
	status    int             // of the last document
	expecting *regexp.Regexp
}

// trouble is a complaint of the browser.
type trouble struct {
	text, url string
	network   bool // of a request that was answered with an error status
}

// tab opens an empty tab.
func (p *person) tab() *page {
	p.t.Helper()
	pg := &page{t: p.t, person: p, refusals: map[string]bool{}}
	ctx, cancel := chromedp.NewContext(p.chromium.ctx, chromedp.WithExistingBrowserContext(p.profile),
		chromedp.WithListener(pg.listen))
	pg.ctx, pg.close = ctx, sync.OnceFunc(func() {
		cancel()
		for _, complaint := range pg.complaints() {
			p.t.Errorf("the browser complains: %s", complaint)
		}
	})
	p.t.Cleanup(pg.close)
	if err := chromedp.Do(ctx); err != nil { // without a time limit, which would be that of the tab
		p.t.Fatal(err)
	}
	pg.do(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true})
		return err
	}))
	pg.look(desktop, light)
	return pg
}

// open opens a page of the allocator in a new tab.
func (p *person) open(path string) *page {
	p.t.Helper()
	pg := p.tab()
	pg.visit(path)
	return pg
}

func (p *page) do(steps ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		p.t.Fatalf("%v\n%s", err, p.describe())
	}
}

// visit goes to a page as by typing its address.
func (p *page) visit(path string) {
	p.t.Helper()
	p.do(chromedp.Navigate(p.person.base + path))
}

func (p *page) reload() {
	p.t.Helper()
	p.do(chromedp.Reload())
}

func (p *page) back() {
	p.t.Helper()
	p.do(chromedp.NavigateBack())
}

// listen notes what the browser says about the page.
func (p *page) listen(event any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e := event.(type) {
	case *network.EventResponseReceived:
		if e.Type == network.ResourceTypeDocument {
			p.status = int(e.Response.Status)
			if p.status >= http.StatusBadRequest {
				p.refusals[e.Response.URL] = true
			}
		}
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning {
			p.troubles = append(p.troubles, trouble{e.Entry.Text, e.Entry.URL, strings.Contains(e.Entry.Text, "responded with a status of")})
		}
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning {
			words := make([]string, len(e.Args))
			for i, arg := range e.Args {
				words[i] = string(arg.Value) + arg.Description
			}
			p.troubles = append(p.troubles, trouble{text: "console: " + strings.Join(words, " ")})
		}
	case *runtime.EventExceptionThrown:
		text := e.ExceptionDetails.Text
		if e.ExceptionDetails.Exception != nil {
			text += " " + e.ExceptionDetails.Exception.Description
		}
		p.troubles = append(p.troubles, trouble{text: text, url: e.ExceptionDetails.URL})
	}
}

// expect tells which complaints are no wonder, such as those about a server that
// the test stopped.
func (p *page) expect(pattern string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.expecting = regexp.MustCompile(pattern)
}

func (p *page) complaints() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []string
	for _, c := range p.troubles {
		switch {
		case c.network && p.refusals[c.url]: // the page itself says what is wrong
		case p.expecting != nil && p.expecting.MatchString(c.text):
		default:
			all = append(all, c.text+" "+c.url)
		}
	}
	return all
}

// lastStatus is that of the document which is shown.
func (p *page) lastStatus() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.status
}

// eval evaluates an expression in the page.
func eval[T any](p *page, expression string) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		p.t.Fatalf("%s: %v\n%s", expression, err, p.describe())
	}
	return v
}

// until waits for an expression to be true, also across pages.
func (p *page) until(what, expression string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	tick := time.NewTicker(15 * time.Millisecond)
	defer tick.Stop()
	for {
		// Where the page is just leaving, it cannot be asked: the next one can.
		ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("!!("+expression+")"))
		if err == nil && ok {
			return
		}
		select {
		case <-ctx.Done():
			p.t.Fatalf("waited in vain for %s (%v)\n%s", what, err, p.describe())
		case <-tick.C:
		}
	}
}

// visibleText is what a reader of the page sees, in one line.
const visibleText = `document.body.innerText.replace(/\s+/g, ' ')`

// sees waits until the page shows each of the texts.
func (p *page) sees(texts ...string) {
	p.t.Helper()
	for _, text := range texts {
		p.until(fmt.Sprintf("%q", text), fmt.Sprintf("document.body && %s.includes(%q)", visibleText, text))
	}
}

// seesNot waits until the page does not show the text any more.
func (p *page) seesNot(text string) {
	p.t.Helper()
	p.until(fmt.Sprintf("%q to go", text), fmt.Sprintf("document.body && !%s.includes(%q)", visibleText, text))
}

// heading waits for the page's heading, also of one to come.
func (p *page) heading(text string) {
	p.t.Helper()
	p.until(fmt.Sprintf("the heading %q", text), fmt.Sprintf(
		"document.readyState === 'complete' && [...document.querySelectorAll('h1')].some(h => h.innerText === %q)", text))
}

// at waits until the page at path is shown.
func (p *page) at(path string) {
	p.t.Helper()
	p.until("the page "+path, fmt.Sprintf("location.pathname === %q && document.readyState === 'complete'", path))
}

func (p *page) title() string {
	p.t.Helper()
	return eval[string](p, "document.title")
}

// mark leaves a mark in the page that a reload would wipe off.
func (p *page) mark() {
	p.t.Helper()
	eval[bool](p, "window.marked = true")
}

// stillMarked fails if the page was loaded anew since mark.
func (p *page) stillMarked() {
	p.t.Helper()
	if !eval[bool](p, "window.marked === true") {
		p.t.Errorf("the page was loaded anew, it should have changed by itself")
	}
}

// html is all that the server put into the page, and what became of it.
func (p *page) html() string {
	p.t.Helper()
	return eval[string](p, "document.documentElement.outerHTML")
}

// describe says what the page shows, for failures.
func (p *page) describe() string {
	ctx, cancel := context.WithTimeout(p.ctx, 5*time.Second)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string]("location.href + '\\n' + document.title + '\\n' + document.body.innerText"))
	if err != nil {
		text = err.Error()
	}
	return "the page shows: " + text + "\n" + strings.Join(p.complaints(), "\n")
}

// plain is the address of a server by a name that makes it no secure context.
func plain(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		panic(err) // testkit made it
	}
	return "http://" + plainHost + ":" + u.Port()
}

// refusesToLogIn answers the browser's question for a password by Cancel, so
// that the tab shows what the server says to strangers.
func (p *page) refusesToLogIn() {
	p.t.Helper()
	if err := chromedp.Listen(p.ctx, func(event any) {
		switch e := event.(type) {
		case *fetch.EventRequestPaused:
			go func() {
				_, _ = chromedp.Call(p.ctx, fetch.ContinueRequest, fetch.ContinueRequestParams{RequestID: e.RequestID})
			}()
		case *fetch.EventAuthRequired:
			go func() {
				_, _ = chromedp.Call(p.ctx, fetch.ContinueWithAuth, fetch.ContinueWithAuthParams{
					RequestID: e.RequestID, AuthChallengeResponse: &fetch.AuthChallengeResponse{Response: fetch.AuthChallengeResponseResponseCancelAuth},
				})
			}()
		}
	}); err != nil {
		p.t.Fatal(err)
	}
	p.do(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		handle := true
		_, err := cdp.Call(ctx, t, fetch.Enable, fetch.EnableParams{HandleAuthRequests: &handle})
		return err
	}))
}
