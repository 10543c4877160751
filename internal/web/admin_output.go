package web

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"lablink/internal/httpx"
)

// downloadPatience is how long a piece of a download may wait for its reader,
// who holds a connection to the database meanwhile.
const downloadPatience = 30 * time.Second

// download is an answer in the form of a file, which begins with the first piece
// of it.
type download struct {
	rw    http.ResponseWriter
	rc    *http.ResponseController
	name  string
	begun bool
}

func (d *download) begin() {
	h := d.rw.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", d.name))
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	d.rw.WriteHeader(http.StatusOK)
	d.begun = true
}

// Write implements io.Writer.
func (d *download) Write(p []byte) (int, error) {
	if !d.begun {
		d.begin()
	}
	if err := d.rc.SetWriteDeadline(time.Now().Add(downloadPatience)); err != nil {
		return 0, err
	}
	return d.rw.Write(p)
}

// getOutput sends all that Terraform wrote in an operation.
func (w *Web) getOutput(rw http.ResponseWriter, r *http.Request) error {
	id, err := operationID(r)
	if err != nil {
		return err
	}
	if err := w.findOperation(r.Context(), id); err != nil {
		return err
	}
	d := &download{rw: rw, rc: http.NewResponseController(rw), name: fmt.Sprintf("lablink-operation-%d.txt", id)}
	if err := d.rc.SetReadDeadline(time.Time{}); err != nil { // it is that of ordinary requests
		return err
	}
	err = w.store.Output(r.Context(), id, 0, d)
	switch {
	case err != nil && !d.begun:
		return err
	case err != nil:
		httpx.Logger(r.Context()).Warn("output of an operation not sent to its end", "operation", id, "error", err)
		panic(http.ErrAbortHandler) // half a file must not look like a whole one
	case !d.begun:
		d.begin() // nothing was written yet
	}
	_ = d.rc.SetWriteDeadline(time.Time{}) // the connection may carry more answers; a broken one carries none
	return nil
}

func (w *Web) findOperation(ctx context.Context, id int64) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	_, err := w.store.Operation(ctx, id)
	return err
}
