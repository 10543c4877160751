package web

import (
	"net/http"
	"strconv"
	"time"

	"lablink/internal/fleet"
)

// listedOperations is how many operations the list holds.
const listedOperations = 50

// operationsView is the admin's list of operations.
type operationsView struct {
	frame
	List operationsList
}

// operationsList is the part of it that is read again and again.
type operationsList struct {
	Makes bool // VMs can be created here
	Most  int  // operations in the list
	Full  bool // there may be older ones
	Rows  []operationRow
}

// Version names what the list shows.
func (l operationsList) Version() string { return versionOf(l) }

// operationRow is one operation in a list.
type operationRow struct {
	ID        int64
	Title     string
	Condition condition
	Created   moment
	Took      string // "" before it began
	Over      bool
	Tally     string
}

func operationRowOf(o fleet.Operation, now time.Time) operationRow {
	row := operationRow{
		ID: o.ID, Title: operationTitle(o), Condition: operationCondition(o), Created: momentOf(o.Created, now),
		Took: lasted(o, now), Over: o.State.Final(), Tally: tally(o),
	}
	if o.State == fleet.OperationFailed {
		row.Condition.Note = reasonOf("", o.Error).Short
	}
	return row
}

func (w *Web) getOperations(rw http.ResponseWriter, r *http.Request) error {
	ops, err := w.store.Operations(r.Context(), listedOperations)
	if err != nil {
		return err
	}
	list := operationsList{Makes: w.makesVMs(), Most: listedOperations, Full: len(ops) == listedOperations}
	now := time.Now()
	for _, o := range ops {
		list.Rows = append(list.Rows, operationRowOf(o, now))
	}
	return w.page(rw, http.StatusOK, "admin_operations", operationsView{w.adminFrame("Operations", "operations"), list})
}

// operationID is the one in the address.
func operationID(r *http.Request) (int64, error) {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		return 0, fleet.Errorf(fleet.NotFound, "There is no such operation. Operations have numbers.")
	}
	return id, nil
}

func operationAddress(id int64) string { return "/admin/operations/" + strconv.FormatInt(id, 10) }
