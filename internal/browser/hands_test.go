package browser_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/dom"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// object is an element of the page.
type object = runtime.RemoteObjectID

// named finds elements as assistive technology does, by role and name.
func named(ctx context.Context, t *chromedp.Target, role, name string) ([]object, error) {
	document, err := cdp.Call(ctx, t, runtime.Evaluate, runtime.EvaluateParams{Expression: "document"})
	if err != nil {
		return nil, err
	}
	found, err := cdp.Call(ctx, t, accessibility.QueryAXTree, accessibility.QueryAXTreeParams{
		ObjectID: document.Result.ObjectID, Role: role, AccessibleName: name,
	})
	if err != nil {
		return nil, err
	}
	var objects []object
	for _, node := range found.Nodes {
		if node.Ignored {
			continue
		}
		resolved, err := cdp.Call(ctx, t, dom.ResolveNode, dom.ResolveNodeParams{BackendNodeID: node.BackendDOMNodeID})
		if err != nil {
			return nil, err
		}
		objects = append(objects, resolved.Object.ObjectID)
	}
	return objects, nil
}

// with does something with the one element of that role and name. It waits for
// it, and tries again when the page replaces it meanwhile.
func (p *page) with(role, name string, do func(context.Context, *chromedp.Target, object) error) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	tick := time.NewTicker(15 * time.Millisecond)
	defer tick.Stop()
	for {
		err := chromedp.Do(ctx, chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
			found, err := named(ctx, t, role, name)
			if err != nil {
				return err
			}
			if len(found) != 1 {
				return fmt.Errorf("there are %d", len(found))
			}
			return do(ctx, t, found[0])
		}))
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			p.t.Fatalf("no %s %q can be used: %v\n%s", role, name, err, p.describe())
		case <-tick.C:
		}
	}
}

// count tells how many elements have that role and name now.
func (p *page) count(role, name string) int {
	p.t.Helper()
	n := 0
	p.do(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		found, err := named(ctx, t, role, name)
		n = len(found)
		return err
	}))
	return n
}

// click clicks with the mouse.
func (p *page) click(role, name string) {
	p.t.Helper()
	p.with(role, name, func(ctx context.Context, t *chromedp.Target, o object) error { return clickOn(ctx, t, o, 1) })
}

// doubleClick clicks twice, as people do who double-click everything.
func (p *page) doubleClick(role, name string) {
	p.t.Helper()
	p.with(role, name, func(ctx context.Context, t *chromedp.Target, o object) error { return clickOn(ctx, t, o, 2) })
}

// clickOn clicks with the mouse, and returns an error if the page moved away under
// it, so that nothing was clicked.
func clickOn(ctx context.Context, t *chromedp.Target, o object, clicks int64) error {
	if ok, err := callOn[bool](ctx, t, o, "function() { return !this.disabled }"); err != nil || !ok {
		return errors.Join(errors.New("it is disabled"), err)
	}
	if _, err := cdp.Call(ctx, t, dom.ScrollIntoViewIfNeeded, dom.ScrollIntoViewIfNeededParams{ObjectID: o}); err != nil {
		return err
	}
	found, err := cdp.Call(ctx, t, dom.GetContentQuads, dom.GetContentQuadsParams{ObjectID: o})
	if err != nil {
		return err
	}
	if len(found.Quads) == 0 {
		return errors.New("it is not visible")
	}
	q := found.Quads[0]
	x, y := (q[0]+q[4])/2, (q[1]+q[5])/2
	if _, err := callOn[chromedp.Void](ctx, t, o, awaitClick); err != nil {
		return err
	}
	for n := int64(1); n <= clicks; n++ {
		for _, event := range []input.DispatchMouseEventType{input.DispatchMouseEventTypeMousePressed, input.DispatchMouseEventTypeMouseReleased} {
			if _, err := cdp.Call(ctx, t, input.DispatchMouseEvent, input.DispatchMouseEventParams{
				Type: event, X: x, Y: y, Button: input.MouseButtonLeft, ClickCount: n,
			}); err != nil {
				return err
			}
		}
	}
	// An error means that the page is gone: the click has led elsewhere.
	if hit, err := callOn[bool](ctx, t, o, "function() { return this.wasClicked }"); err == nil && !hit {
		return errors.New("the click missed it")
	}
	return nil
}

// awaitClick notes whether the next click is on the element, or on another one
// that the page has put in its place meanwhile. A page without script cannot tell, nor
// does it move.
const awaitClick = `function() {
	this.wasClicked = matchMedia('(scripting: none)').matches
	document.addEventListener('click', e => {
		const clicked = e.target.closest(this.tagName)
		this.wasClicked = clicked === this || clicked !== null && !this.isConnected && clicked.innerText === this.innerText
	}, {once: true, capture: true})
}`

// unfold clicks what opens details.
func (p *page) unfold(summary string) {
	p.t.Helper()
	p.until(summary, summaryOf(summary))
	p.do(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		found, err := cdp.Call(ctx, t, runtime.Evaluate, runtime.EvaluateParams{Expression: summaryOf(summary)})
		if err != nil {
			return err
		}
		return clickOn(ctx, t, found.Result.ObjectID, 1)
	}))
}

func summaryOf(text string) string {
	return fmt.Sprintf("[...document.querySelectorAll('summary')].find(e => e.innerText.trim() === %q)", text)
}

// callOn calls a function with the element as this.
func callOn[T any](ctx context.Context, t *chromedp.Target, o object, function string) (T, error) {
	return chromedp.CallFunctionOn[T](function, func(p *runtime.CallFunctionOnParams) { p.ObjectID = o })(ctx, t)
}

// fill puts text into a field, in place of what is there, as by pasting it.
func (p *page) fill(name, text string) {
	p.t.Helper()
	p.fillIn("textbox", name, text)
}

// fillIn is fill for fields of another role.
func (p *page) fillIn(role, name, text string) {
	p.t.Helper()
	p.with(role, name, func(ctx context.Context, t *chromedp.Target, o object) error {
		if _, err := callOn[chromedp.Void](ctx, t, o, "function() { this.focus(); this.select() }"); err != nil {
			return err
		}
		_, err := cdp.Call(ctx, t, input.InsertText, input.InsertTextParams{Text: text})
		return err
	})
}

// value is what stands in a field.
func (p *page) value(name string) string {
	p.t.Helper()
	var value string
	p.with("textbox", name, func(ctx context.Context, t *chromedp.Target, o object) (err error) {
		value, err = callOn[string](ctx, t, o, "function() { return this.value }")
		return err
	})
	return value
}

// press presses keys, see package kb for those that are not letters.
func (p *page) press(keys string) {
	p.t.Helper()
	p.do(chromedp.KeyEvent(keys))
}

// focused describes what the keyboard works on now: by its id, else its name,
// else its text.
func (p *page) focused() string {
	p.t.Helper()
	return eval[string](p, `(e => e.id || e.name || e.innerText.trim().replace(/\s+/g, ' '))(document.activeElement)`)
}

// copyOf clicks the copy button beside a term and waits for its answer.
func (p *page) copyOf(term string) {
	p.t.Helper()
	p.do(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		found, err := cdp.Call(ctx, t, runtime.Evaluate, runtime.EvaluateParams{Expression: definition(term) + ".querySelector('button')"})
		if err != nil {
			return err
		}
		return clickOn(ctx, t, found.Result.ObjectID, 1)
	}))
	p.until("the button to say Copied", definition(term)+".querySelector('button').innerText === 'Copied'")
}

// definition is the element that stands beside a term in a list of definitions.
func definition(term string) string {
	return fmt.Sprintf("[...document.querySelectorAll('dt')].find(e => e.innerText.trim() === %q).nextElementSibling", term)
}
