package web

import (
	"bufio"
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
	rw     http.ResponseWriter
	rc     *http.ResponseController
	name   string
	begun  bool
	buffer *bufio.Writer // for what is written in small pieces; write sends the rest of it
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

// download answers with a file of what write writes.
func (w *Web) download(rw http.ResponseWriter, r *http.Request, name string, write func(*download) error) error {
	d := &download{rw: rw, rc: http.NewResponseController(rw), name: name}
	d.buffer = bufio.NewWriterSize(d, 64<<10)
	if err := d.rc.SetReadDeadline(time.Time{}); err != nil { // it is that of ordinary requests
		return err
	}
	err := write(d)
	if err == nil {
		err = d.buffer.Flush()
	}
	switch {
	case err != nil && !d.begun:
		return err
	case err != nil:
		httpx.Logger(r.Context()).Warn("file not sent to its end", "file", name, "error", err)
		panic(http.ErrAbortHandler) // half a file must not look like a whole one
	case !d.begun:
		d.begin() // nothing was written yet
	}
	_ = d.rc.SetWriteDeadline(time.Time{}) // the connection may carry more answers; a broken one carries none
	return nil
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
	return w.download(rw, r, fmt.Sprintf("lablink-operation-%d.txt", id), func(d *download) error {
		return w.store.Output(r.Context(), id, 0, d)
	})
}

func (w *Web) findOperation(ctx context.Context, id int64) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	_, err := w.store.Operation(ctx, id)
	return err
}
