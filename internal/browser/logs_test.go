package browser_test

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/jackc/pgx/v5"

	"lablink/internal/config"
	"lablink/internal/fleet"
	"lablink/internal/store"
	"lablink/internal/testkit"
)

// writes appends lines to a VM's log.
func (s *site) writes(hostname string, lines ...store.NewLogLine) {
	s.t.Helper()
	for i := range lines {
		if lines[i].At.IsZero() {
			lines[i].At = time.Now()
		}
		if lines[i].Source == "" {
			lines[i].Source = "console"
		}
	}
	for len(lines) > 0 {
		n := min(len(lines), 5000)
		if _, err := s.Store.AddLogs(s.t.Context(), s.vm(hostname).ID, store.NewLogLines{Lines: lines[:n]}); err != nil {
			s.t.Fatal(err)
		}
		lines = lines[n:]
	}
}

// vacuum tidies a table up, and counts what is in it.
func (s *site) vacuum(table string) {
	s.t.Helper()
	conn, err := pgx.Connect(s.t.Context(), s.DatabaseURL)
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close(s.t.Context())
	if _, err := conn.Exec(s.t.Context(), "VACUUM ANALYZE "+table); err != nil {
		s.t.Fatal(err)
	}
}

// boot is what a machine writes that boots, and finds something wrong.
func boot() []store.NewLogLine {
	at := time.Date(2026, 5, 4, 9, 12, 0, 0, time.UTC)
	var lines []store.NewLogLine
	for i, l := range []store.NewLogLine{
		{Source: "boot", Text: "Cloud-init v. 24.1.3 running 'modules:final'"},
		{Source: "boot", Level: fleet.LevelInfo, Text: "lablink: setting up Docker"},
		{Source: "boot", Level: fleet.LevelInfo, Text: "lablink: pulling registry.example.org/lablink-client:1"},
		{Level: fleet.LevelDebug, Text: "GET https://packages.example.org/ubuntu/dists/noble/InRelease 200"},
		{Level: fleet.LevelWarn, Text: "the disk is 91 % full"},
		{Level: fleet.LevelError, Text: "CUDA error: no kernel image is available for execution on the device " +
			"(at pytorch/aten/src/ATen/native/cuda/Loops.cuh:54); compile with TORCH_USE_CUDA_DSA to enable device-side assertions"},
		{Text: "Traceback (most recent call last):"},
		{Text: `  File "/home/client/train.py", line 12, in <module>`},
		{Source: "agent", Level: fleet.LevelInfo, Text: "this VM is ready"},
	} {
		l.At = at.Add(time.Duration(i*1700) * time.Millisecond)
		lines = append(lines, l)
	}
	return lines
}

// lastLine is the text of the last line in the page.
const lastLine = `document.querySelector('#log li:last-child .text')?.innerText`

// An organiser reads a log: by page, by search, live, and finds a failing room.
func organiserReadsLogs(t *testing.T, c *chromium) {
	s := newSite(t, c, nil)
	s.machine("lab-1")
	s.machine("lab-2")
	p := s.organiser().open("/admin/logs")
	p.sees("No machine has written an error in the last 10 minutes.")
	p.everybody("logs without errors")
	p.visit("/admin/logs/lab-1")
	p.sees("This machine has written nothing yet.")
	p.everybody("log without lines")

	// Lines appear by themselves.
	p.mark()
	s.writes("lab-1", boot()...)
	p.sees("CUDA error", "this VM is ready", "Live")
	p.stillMarked()
	p.everybody("log")
	s.writes("lab-2", store.NewLogLine{Level: fleet.LevelError, Text: "no space left on device"})
	s.writes("lab-1", store.NewLogLine{Level: fleet.LevelError, Text: "<b>again</b>"})
	p.until("the line that was written last", lastLine+" === '<b>again</b>'")

	p.visit("/admin/logs")
	p.sees("3 errors of 2 machines", "no space left on device")
	p.everybody("logs with errors")
	p.click("link", "no space left on device")
	p.at("/admin/logs/lab-2")
	p.until("the line of the link", `document.querySelector('#log .marked .text')?.innerText === 'no space left on device'`)

	// What fits a search, and nothing else.
	p.visit("/admin/logs/lab-1")
	p.fillIn("searchbox", "Search", "cuda")
	p.click("button", "Show")
	p.until("the lines that fit", `document.querySelectorAll('#log li').length === 1 && document.querySelector('#log mark').innerText === 'CUDA'`)
	p.everybody("log searched")
	s.writes("lab-1", store.NewLogLine{Text: "something else"}, store.NewLogLine{Text: "cuda is back"})
	p.until("new lines that fit", lastLine+" === 'cuda is back' && document.querySelectorAll('#log li').length === 2")
	p.click("link", "All lines")
	p.until("all lines", `document.querySelectorAll('#log li').length === 12`)
}

// What a room's worth of output does to the page: it stays quick and small.
func longLog(t *testing.T, c *chromium) {
	const total = 200_000
	s := newSite(t, c, nil)
	s.machine("lab-1")
	s.machine("lab-2")
	lines := make([]store.NewLogLine, total)
	for i := range lines {
		lines[i] = store.NewLogLine{Text: fmt.Sprintf("line %06d of a program that prints a lot", i+1)}
		if i%1000 == 999 {
			lines[i].Level = fleet.LevelError
		}
	}
	s.writes("lab-1", lines...)
	s.vacuum("vm_logs") // as PostgreSQL does by itself after a while
	p := s.organiser().open("/admin/logs/lab-2")
	p.sees("This machine has written nothing yet.")

	// How long it takes to open, beside the same page without a line.
	opened := func(path string) time.Duration {
		t.Helper()
		begun := time.Now()
		p.visit(path)
		p.until("the page", "document.readyState === 'complete' && document.querySelector('#log')")
		return time.Since(begun)
	}
	empty := opened("/admin/logs/lab-2")
	full := opened("/admin/logs/lab-1")
	t.Logf("the page opens in %v with %d lines, in %v with none", full, total, empty)
	if full > 2*time.Second && full > 20*empty {
		t.Errorf("the page opens in %v, without a line in %v", full, empty)
	}
	p.until("the newest line", lastLine+` === 'line 200000 of a program that prints a lot'`)
	p.until("the end to be in sight", `(log => log.scrollHeight - log.clientHeight - log.scrollTop < 30)(document.querySelector('#log'))`)

	// Older lines come when the reader gets there, and the place does not jump.
	eval[chromedp.Void](p, `document.querySelector('#log').dispatchEvent(new WheelEvent('wheel')); document.querySelector('#log').scrollTop = 0`)
	p.until("older lines", `document.querySelectorAll('#log li').length >= 1000`)
	if eval[int64](p, `document.querySelector('#log').scrollTop`) < 1000 {
		t.Error("the place has jumped to the new beginning")
	}
	p.until("no more following", `!document.querySelector('#follow').checked`)
	s.writes("lab-1", store.NewLogLine{Text: "one more"})
	p.sees("1 new line")
	p.click("button", "1 new line")
	p.until("the end", lastLine+` === 'one more' && document.querySelector('#follow').checked`)

	// Much more than 50 lines a second: frames keep coming. The floor is what 1,000 plain lines cost that come at once.
	longest := p.frames(func() {
		for i := range 10 {
			part := make([]store.NewLogLine, 200)
			for n := range part {
				part[n] = store.NewLogLine{Text: fmt.Sprintf("tail %04d", i*len(part)+n+1)}
			}
			s.writes("lab-1", part...)
		}
		p.until("the last line", lastLine+` === 'tail 2000'`)
	})
	floor := time.Duration(eval[float64](p, `(() => {
		const list = document.createElement('ol'), begun = performance.now()
		for (let i = 0; i < 1000; i++) list.append(Object.assign(document.createElement('li'), { textContent: 'line ' + i }))
		document.querySelector('main').append(list)
		list.getBoundingClientRect()
		list.remove()
		return performance.now() - begun
	})()`) * float64(time.Millisecond))
	t.Logf("the longest frame takes %v while 2,000 lines arrive; 1,000 plain ones take %v", longest, floor)
	if longest > 2*time.Second && longest > 40*floor {
		t.Errorf("a frame takes %v while lines arrive, 1,000 plain lines %v", longest, floor)
	}
	if n := eval[int](p, `document.querySelectorAll('#log li').length`); n > 3001 {
		t.Errorf("there are %d lines in the page", n)
	}

	p.visit("/admin/logs/lab-1?level=error")
	p.until("errors only", `document.querySelectorAll('#log li').length === 200 && document.querySelectorAll('#log li.is-error').length === 200`)
	p.visit("/admin/logs/lab-1?q=line+000042")
	p.until("what was searched for", lastLine+` === 'line 000042 of a program that prints a lot'`)
}

// frames returns how long the longest frame took while something went on.
func (p *page) frames(during func()) time.Duration {
	p.t.Helper()
	eval[chromedp.Void](p, `(() => {
		window.longestFrame = 0
		let last = performance.now()
		const frame = now => { window.longestFrame = Math.max(window.longestFrame, now - last); last = now; if (window.longestFrame >= 0) requestAnimationFrame(frame) }
		requestAnimationFrame(frame)
	})()`)
	during()
	ms := eval[float64](p, `(longest => { window.longestFrame = -Infinity; return longest })(window.longestFrame)`)
	return time.Duration(ms * float64(time.Millisecond))
}

// holds is whether a line is in the page, in sight or not.
func holds(text string) string {
	return fmt.Sprintf("document.querySelector('#log').textContent.includes(%q)", text)
}

// numbered are the lines of those numbers.
func numbered(from, to int) (lines []store.NewLogLine) {
	for i := from; i <= to; i++ {
		lines = append(lines, store.NewLogLine{Text: fmt.Sprintf("line %03d", i)})
	}
	return lines
}

// Who reads a log by keyboard is not pulled away from a line, and a server that
// is away for a while, behind a proxy that says so, costs no line and doubles none.
func logGoesOn(t *testing.T, c *chromium) {
	s := newSite(t, c, nil)
	s.machine("lab-1")
	s.writes("lab-1", numbered(1, 300)...)
	p := s.organiser().open("/admin/logs/lab-1")
	p.expect("ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_EMPTY_RESPONSE|status of 503")
	p.sees("Live")
	p.mark()
	eval[chromedp.Void](p, `document.querySelector('#log').focus()`)
	p.press(kb.PageUp)
	p.until("no more following", `!document.querySelector('#follow').checked`)
	s.writes("lab-1", numbered(301, 310)...)
	p.sees("10 new lines")
	p.press(kb.End)
	p.until("following again", `document.querySelector('#follow').checked && document.querySelector('.more').hidden`)

	s.Stop()
	address := strings.TrimPrefix(s.URL, "http://")
	asked := make(chan struct{}, 100)
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
		asked <- struct{}{}
	})}
	go func() { _ = proxy.Serve(listener) }()
	p.sees("Connecting again")
	s.writes("lab-1", numbered(311, 320)...)
	<-asked
	if err := proxy.Close(); err != nil {
		t.Error(err)
	}
	testkit.Serve(t, testkit.ServeOptions{DatabaseURL: s.DatabaseURL, Configure: func(cfg *config.Config) { cfg.Listen = address }})
	p.until("the lines of the meantime", lastLine+" === 'line 320'")
	if n := eval[int](p, `new Set([...document.querySelectorAll('#log .text')].map(e => e.innerText)).size`); n != 320 {
		t.Errorf("%d different lines of 320", n)
	}
	if n := eval[int](p, `document.querySelectorAll('#log li').length`); n != 320 {
		t.Errorf("%d lines of 320", n)
	}
	p.stillMarked()
}

// Without script, a log is read page by page.
func logWithoutScript(t *testing.T, c *chromium) {
	s := newSite(t, c, nil)
	s.machine("lab-1")
	s.writes("lab-1", numbered(1, 700)...)
	o := s.organiser()
	p := o.scriptless()
	p.visit("/admin/logs/lab-1")
	p.until("the end", holds("line 700"))
	p.click("link", "Older lines")
	p.until("the beginning", holds("line 001"))
	p.click("link", "Newer lines")
	p.until("the end", holds("line 700"))
	p.fillIn("searchbox", "Search", "line 04")
	p.click("button", "Show")
	p.until("what fits", `document.querySelectorAll('#log li').length === 10`)
}
