//go:build linux

package bench_test

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
)

// figure is one measured number beside its floor.
type figure struct {
	name  string // for people
	key   string // for ReportMetric: no spaces
	unit  string
	value float64
	floor float64 // 0 if there is none
	goal  string
}

// ratio is how many times the floor it is; of a rate, which part of it.
func (f figure) ratio() float64 { return f.value / f.floor }

// report is a list of figures, printed as a table.
type report struct {
	title string

	mu      sync.Mutex
	figures []figure
}

// add takes a figure that cannot be nothing.
func (r *report) add(tb testing.TB, f figure) {
	tb.Helper()
	if f.value <= 0 {
		tb.Errorf("%s: nothing was measured", f.name)
	}
	r.keep(tb, f)
}

// keep keeps a figure for the table, and reports it if tb is a benchmark.
func (r *report) keep(tb testing.TB, f figure) {
	tb.Helper()
	r.mu.Lock()
	r.figures = append(r.figures, f)
	r.mu.Unlock()
	b, ok := tb.(*testing.B)
	if !ok {
		return
	}
	b.ReportMetric(0, "ns/op") // means nothing here
	b.ReportMetric(f.value, f.key+"-"+f.unit)
	if f.floor > 0 {
		b.ReportMetric(f.floor, f.key+"-floor-"+f.unit)
		b.ReportMetric(f.ratio(), f.key+"-ratio")
	}
}

func (r *report) print(w io.Writer) {
	if len(r.figures) == 0 {
		return
	}
	fmt.Fprintf(w, "\n%s\n", r.title)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "measure\tLabLink\tfloor\tratio\tgoal")
	for _, f := range r.figures {
		floor, ratio := "", ""
		if f.floor > 0 {
			floor, ratio = number(f.floor)+" "+f.unit, fmt.Sprintf("%.2f", f.ratio())
		}
		fmt.Fprintln(t, strings.Join([]string{f.name, number(f.value) + " " + f.unit, floor, ratio, f.goal}, "\t"))
	}
	_ = t.Flush() // to a terminal or a pipe; nothing can be done
}

func number(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}
