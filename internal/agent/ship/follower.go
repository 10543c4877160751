package ship

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"time"

	"lablink/internal/wire"
)

// Limits of a batch.
const (
	maxEvents = 500
	maxBytes  = 512 << 10
)

// What a follower complains about.
const (
	cannotRead = "the log cannot be read"
	cannotSave = "how far the log is sent cannot be saved"
	cannotSend = "the log cannot be sent; trying again"
	cannotTake = "the allocator refuses lines of the log for good; they are not sent again"
)

// follower ships one log.
type follower struct {
	cfg    *Config
	source Source
	files  files
	saved  string // where the position is

	p      position
	r      *reader // nil: no file yet
	closed bool    // the reader's file was truncated: it is not read any more
	gap    bool    // and there was perhaps more in it

	events []event // taken from the reader, all of one file
	bytes  int
	most   int // events in a batch, fewer after a 413
	ending bool

	complaints map[string]complaint // by what cannot be done: why, as logged last
}

type complaint struct {
	why string
	at  time.Time
}

// run ships until ctx ends, and then what is left.
func (f *follower) run(ctx context.Context) {
	f.p, f.most = load(f.saved, f.source.Path), maxEvents
	defer f.shut()
	var sent time.Time
	for ctx.Err() == nil {
		if f.fill(false) || len(f.events) > 0 && time.Since(sent) >= f.cfg.Timing.Batch {
			_ = f.deliver(ctx) // or ctx has ended
			sent = time.Now()
		} else {
			pause(ctx, f.cfg.Timing.Look)
		}
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), f.cfg.Timing.Stop)
	defer cancel()
	f.ending = true
	for stop.Err() == nil {
		f.fill(true)
		if len(f.events) == 0 || f.deliver(stop) != nil {
			return
		}
	}
}

// fill takes lines until there are no more for now, or it is time to send what
// there is. The last lines are taken even if they are not complete.
func (f *follower) fill(last bool) (full bool) {
	for len(f.events) < f.most && f.bytes < maxBytes && (len(f.events) == 0 || !f.r.partial()) {
		if f.r == nil && !f.begin(f.files.find) {
			return false
		}
		if e, ok := f.r.line(false); ok {
			f.add(e)
			continue
		}
		next, err := f.files.next(f.p) // before the end is read: after it, nothing comes
		if err == nil && f.more() {
			continue
		}
		if err != nil {
			f.complain(cannotRead, err)
			return false
		}
		next = next && (f.closed || f.source.Spool || time.Since(f.r.written) >= f.cfg.Timing.Settle)
		if next || last || time.Since(f.r.grew) >= f.cfg.Timing.Partial {
			if e, ok := f.r.line(true); ok {
				f.add(e)
				return true
			}
		}
		switch {
		case !next:
			return false
		case len(f.events) > 0:
			return true
		}
		f.p.Offset = f.r.at // also if the rest of a long line was not sent
		if !f.begin(f.files.open) {
			return false
		}
	}
	return true
}

func (f *follower) add(e event) {
	e = e.unwrapped()
	f.events = append(f.events, e)
	f.bytes += len(e.text)
}

// begin opens a file, and saves its name before a line of it is sent.
func (f *follower) begin(open func(*position) (*os.File, error)) bool {
	p := f.p
	file, err := open(&p)
	if file == nil {
		if err != nil && (!f.source.Maybe || !errors.Is(err, fs.ErrPermission)) {
			f.complain(cannotRead, err)
		}
		return false
	}
	r, err := newReader(file, p)
	if err != nil {
		file.Close()
		if !errors.Is(err, errReplaced) { // just now: at the next look it is found
			f.complain(cannotRead, err)
		}
		return false
	}
	f.shut()
	if f.gap {
		p.Lost = -1
	}
	f.p, f.r, f.closed, f.gap = p, r, false, false
	if p.Lost != 0 {
		f.add(event{offset: p.Offset, lost: true, at: time.Now(), text: lostText(p.Lost)})
	}
	f.save()
	return true
}

func lostText(bytes int64) string {
	if bytes < 0 {
		return "[lablink: lines may be missing here: the file was replaced while nobody read it]"
	}
	return fmt.Sprintf("[lablink: %d bytes are missing here: more was written than could be kept until the allocator took it]", bytes)
}

// more reads on. What was truncated is read to its end in its copy, if there is one.
func (f *follower) more() bool {
	if f.closed {
		return false
	}
	more, err := f.r.more()
	if !errors.Is(err, errReplaced) {
		if err != nil {
			f.complain(cannotRead, err)
		}
		return more
	}
	at := f.p
	old := lastOf(f.r.before, f.r.buf)
	at.Offset, at.Tail = f.r.end(), fingerprintOf(old)
	copied, err := f.files.copied(&at)
	if copied != nil {
		f.r.file.Close()
		f.r.file = copied
		f.p.Device, f.p.Inode = at.Device, at.Inode
		return true
	}
	if !errors.Is(err, errGone) {
		if err != nil {
			f.complain(cannotRead, err)
		}
		return false // yet
	}
	f.closed = true
	f.p.forget()
	f.gap = !f.r.atEnd
	return false
}

// deliver sends what was taken, again and again until it is accepted or refused
// for good; at the end, only once. Its error says that it was neither.
func (f *follower) deliver(ctx context.Context) error {
	if f.r.cut > f.p.Offset && f.p.Cut != f.r.cut {
		f.p.Cut = f.r.cut // before it is sent: afterwards the line may be longer
		f.save()
	}
	rest := f.events
	for n, fails := len(rest), 0; len(rest) > 0; n = min(n, len(rest)) {
		err := f.cfg.Send(ctx, f.batch(rest[:n]))
		status := 0
		if refusal, ok := errors.AsType[Refusal](err); ok {
			status = refusal.Status()
		}
		switch {
		case err == nil:
			rest, fails = rest[n:], 0
			f.relieved()
		case ctx.Err() != nil:
			return ctx.Err()
		case f.ending && status != http.StatusRequestEntityTooLarge && !final(status):
			return err // the next start goes on from here
		case status == http.StatusRequestEntityTooLarge && n > 1:
			n = (n + 1) / 2
			f.most = n
		case final(status):
			f.complain(cannotTake, err)
			rest = rest[n:]
		default:
			f.complain(cannotSend, err)
			pause(ctx, f.cfg.Pause(fails, err))
			fails++
		}
	}
	f.accepted()
	return nil
}

// final reports whether the same again is of no use.
func final(status int) bool {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, // an admin may repair these
		http.StatusRequestTimeout, http.StatusTooManyRequests:
		return false
	default:
		return status >= 400 && status < 500
	}
}

func (f *follower) batch(events []event) wire.LogBatch {
	b := wire.LogBatch{Hostname: f.cfg.Hostname, Source: f.source.Name, Events: make([]wire.LogEvent, len(events))}
	now := time.Now()
	for i, e := range events {
		id := fmt.Sprintf("%08x-%s", e.offset, f.p.ID)
		if e.lost {
			id += "-lost"
		}
		if e.at.After(now) {
			e.at = now
		}
		for _, s := range f.cfg.Secrets {
			e.text = strings.ReplaceAll(e.text, s, "[secret]")
		}
		b.Events[i] = wire.LogEvent{ID: id, Time: wire.LogTime{Time: e.at}, Message: strings.ToValidUTF8(e.text, "\ufffd")}
	}
	return b
}

// accepted remembers that all that was taken is the allocator's.
func (f *follower) accepted() {
	f.p.Offset, f.p.Tail, f.p.Skip = f.r.at, fingerprintOf(f.r.before), f.r.skip
	f.p.Modified, f.p.Cut = f.r.written, 0
	if len(f.events) > 0 && f.events[0].lost {
		f.p.Lost = 0
	}
	f.events, f.bytes = f.events[:0], 0
	f.most = min(2*f.most, maxEvents)
	f.save()
}

func (f *follower) save() {
	if err := f.p.save(f.saved); err != nil {
		f.complain(cannotSave, err)
	}
}

func (f *follower) shut() {
	if f.r != nil {
		f.r.file.Close()
	}
}

// complain logs what cannot be done, but the same only once in ten minutes.
func (f *follower) complain(what string, err error) {
	if last, ok := f.complaints[what]; ok && last.why == err.Error() && time.Since(last.at) < 10*time.Minute {
		return
	}
	f.complaints[what] = complaint{err.Error(), time.Now()}
	f.cfg.Log.Warn(what, "source", f.source.Name, "error", err) //nolint:sloglint // one of the constants above
}

func (f *follower) relieved() {
	if _, had := f.complaints[cannotSend]; had {
		delete(f.complaints, cannotSend)
		f.cfg.Log.Info("the log is being sent again", "source", f.source.Name)
	}
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
