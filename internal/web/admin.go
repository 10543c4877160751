package web

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"lablink/internal/config"
	"lablink/internal/fleet"
	"lablink/internal/store"
)

// pageSize is how many machines one page of the table holds.
const pageSize = 200

func (w *Web) machinesOpen() bool { return w.cfg.Auth.Machines == config.MachineOpen }

// makesVMs reports whether this server has a provider of VMs.
func (w *Web) makesVMs() bool { return w.cfg.Provider != config.ProviderNone }

func (w *Web) adminFrame(title, nav string) frame {
	return frame{Title: title, Nav: nav, AWS: w.aws != nil, Open: w.machinesOpen()}
}

// overviewView is the admin's first page.
type overviewView struct {
	frame
	Makes   bool // VMs can be created here
	Numbers numbersView
}

// numbersView is the part of it that is read again and again.
type numbersView struct {
	Makes                                        bool // VMs can be created here
	Total, Free, Waiting, Taken, Silent, Trouble int
	Seats                                        []seatCount
	Operations                                   []operationRow // those that are not over
	Strays                                       []string       // machines that no row knows
}

// Version names what the numbers show.
func (n numbersView) Version() string { return versionOf(n) }

type seatCount struct {
	Words string
	Count int
	Tone  tone
}

// seatWords name the states of seats for the admin, in the order of their life.
var seatWords = []struct {
	state fleet.SeatState
	words string
	tone  tone
}{
	{fleet.SeatRequested, "command on its way to the VM", toneBusy},
	{fleet.SeatDelivered, "being set up", toneBusy},
	{fleet.SeatConnected, "ready for their participant", toneGood},
	{fleet.SeatAssumed, "should be ready (client reports no result)", toneGood},
	{fleet.SeatFailed, "set-up failed, fresh code needed", toneBad},
	{fleet.SeatReleasing, "being cleaned after release", toneBusy},
	{fleet.SeatUnclean, "clean-up failed", toneBad},
}

func numbersOf(c fleet.Counts) numbersView {
	n := numbersView{Total: c.Total, Free: c.Free, Waiting: c.Waiting, Silent: c.Silent, Trouble: c.Trouble}
	for _, s := range seatWords {
		if s.state.Held() {
			n.Taken += c.Seats[s.state]
		}
		if c.Seats[s.state] > 0 {
			n.Seats = append(n.Seats, seatCount{s.words, c.Seats[s.state], s.tone})
		}
	}
	return n
}

func (w *Web) getOverview(rw http.ResponseWriter, r *http.Request) error {
	counts, err := w.store.Counts(r.Context())
	if err != nil {
		return err
	}
	open, err := w.store.UnfinishedOperations(r.Context())
	if err != nil {
		return err
	}
	strays, err := w.store.Strays(r.Context(), string(w.cfg.Provider))
	if err != nil {
		return err
	}
	numbers := numbersOf(counts)
	numbers.Makes, numbers.Strays = w.makesVMs(), forgotten(strays, open)
	now := time.Now()
	for _, o := range open {
		numbers.Operations = append(numbers.Operations, operationRowOf(o, now))
	}
	return w.page(rw, http.StatusOK, "admin_overview", overviewView{w.adminFrame("Overview", "overview"), w.makesVMs(), numbers})
}

// forgotten returns the strays that no open operation is about to destroy.
func forgotten(strays []string, open []fleet.Operation) []string {
	for _, o := range open {
		if o.Kind != fleet.KindDestroy {
			continue
		}
		for _, s := range o.Steps {
			strays = slices.DeleteFunc(strays, func(hostname string) bool { return hostname == s.Hostname })
		}
	}
	// As people count: 9 before 10.
	slices.SortFunc(strays, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b)) })
	return strays
}

// instancesView is the admin's table of machines.
type instancesView struct {
	frame
	Flash string
	Makes bool // VMs can be created here
	Table tableView
}

// tableView is the part of it that is read again and again.
type tableView struct {
	Query    string
	Page     int // from 1
	Total    int // machines that fit the query
	From, To int // of them, those shown
	Rows     []rowView
	Makes    bool   // VMs can be created here
	Picks    bool   // some of those shown can be destroyed
	Previous string // address of the page before, "" if none
	Next     string
}

// Version names what the table shows.
func (t tableView) Version() string { return versionOf(t) }

// rowView is one machine in the table.
type rowView struct {
	Hostname  string
	Pick      bool // it can be destroyed
	Condition condition
	Email     string
	Since     moment
	GPU       string
	GPUBad    bool
	InUse     bool
	Waiting   bool // seen now
	Seen      moment
	Startup   string
}

func rowOf(v fleet.VM, now time.Time) rowView {
	return rowView{
		Hostname: v.Hostname, Condition: conditionOf(v, now), Email: v.Email, Since: momentOf(v.SeatSince, now),
		GPU: gpuWords(v.Health), GPUBad: v.Health == fleet.Unhealthy, InUse: v.InUse,
		Waiting: v.Waiting, Seen: momentOf(v.LastSeen, now), Startup: took(startupTotal(v)),
	}
}

func gpuWords(h fleet.Health) string {
	switch h {
	case fleet.Healthy:
		return "healthy"
	case fleet.Unhealthy:
		return "unhealthy"
	case fleet.NotApplicable:
		return "none"
	default:
		return ""
	}
}

func (w *Web) getInstances(rw http.ResponseWriter, r *http.Request) error {
	query := strings.TrimSpace(r.URL.Query().Get("q"))
	page, err := strconv.Atoi(r.URL.Query().Get("page"))
	if err != nil || page < 1 || page > 1_000_000 {
		page = 1
	}
	vms, total, err := w.store.VMs(r.Context(), store.VMFilter{Text: query, Limit: pageSize, Offset: (page - 1) * pageSize})
	if err != nil {
		return err
	}
	table := tableView{Query: query, Page: page, Total: total, Makes: w.makesVMs()}
	now := time.Now()
	for _, v := range vms {
		row := rowOf(v, now)
		row.Pick = w.destroys(v)
		table.Rows, table.Picks = append(table.Rows, row), table.Picks || row.Pick
	}
	if len(vms) > 0 {
		table.From = (page-1)*pageSize + 1
		table.To = table.From + len(vms) - 1
	}
	if page > 1 {
		table.Previous = instancesAddress(query, min(page-1, (total+pageSize-1)/pageSize))
	}
	if table.To < total && len(vms) > 0 {
		table.Next = instancesAddress(query, page+1)
	}
	return w.page(rw, http.StatusOK, "admin_instances", instancesView{
		w.adminFrame("Machines", "instances"), flashes[r.URL.Query().Get("done")], w.makesVMs(), table,
	})
}

// destroys reports whether this server can destroy a VM: it is its provider's.
func (w *Web) destroys(v fleet.VM) bool { return v.Provider == string(w.cfg.Provider) }

func instancesAddress(query string, page int) string {
	values := url.Values{}
	if query != "" {
		values.Set("q", query)
	}
	if page > 1 {
		values.Set("page", strconv.Itoa(page))
	}
	if len(values) == 0 {
		return "/admin/instances"
	}
	return "/admin/instances?" + values.Encode()
}

// flashes are what the page after an action says, by the code in its address:
// free text there could be written by anybody.
var flashes = map[string]string{
	"released": "The seat is released. The VM is free again as soon as its agent has taken it off the participant's Google account.",
	"clean":    "The VM is free again.",
	"removed":  "The machine is removed. Its tokens are no longer valid.",
}
