package ship

import (
	"bytes"
	"errors"
	"io"
	"os"
	"time"
)

const (
	maxLine  = 64 << 10 // bytes; what follows up to the newline is not sent
	readSize = 64 << 10
	cutMark  = " [cut here: the line is longer than 64 KiB]"
)

// event is a line, or a part of one.
type event struct {
	offset int64 // in its file
	lost   bool  // it says what is missing in front of the line of that offset
	at     time.Time
	text   string
}

// errReplaced means that a file no longer has what was read from it.
var errReplaced = errors.New("the file was truncated or written anew")

// reader takes lines from a file that grows.
type reader struct {
	file   *os.File
	at     int64  // offset of buf
	buf    []byte // read, but not taken
	before []byte // what precedes buf
	head   fingerprint
	skip   bool  // up to the next newline
	cut    int64 // beyond at: a line ends here without a newline

	scratch []byte
	atEnd   bool      // the last read came to the end of the file
	grew    time.Time // when one found something last
	written time.Time // when the file was written last
}

func newReader(file *os.File, p position) (*reader, error) {
	r := &reader{file: file, at: p.Offset, skip: p.Skip, cut: p.Cut, head: p.Head, grew: time.Now()}
	r.before = make([]byte, p.Tail.Bytes)
	if _, err := file.ReadAt(r.before, p.Offset-int64(p.Tail.Bytes)); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if fingerprintOf(r.before) != p.Tail {
		return nil, errReplaced
	}
	return r, nil
}

// end is the offset behind what was read.
func (r *reader) end() int64 { return r.at + int64(len(r.buf)) }

// partial reports whether what was taken last is a line without its end.
func (r *reader) partial() bool { return r.cut > 0 && r.cut == r.at }

// more reads on, and returns whether there was anything. With the new it reads the
// last of the old: a file may be truncated and grow again between two looks.
func (r *reader) more() (bool, error) {
	old := lastOf(r.before, r.buf)
	if r.scratch == nil {
		r.scratch = make([]byte, fingerprinted+readSize)
	}
	b := r.scratch[:len(old)+readSize]
	n, err := r.file.ReadAt(b, r.end()-int64(len(old)))
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	if n < len(old) || !bytes.Equal(b[:len(old)], old) {
		return false, errReplaced
	}
	if len(old) == 0 && fingerprintOf(b[:min(n, r.head.Bytes)]) != r.head {
		return false, errReplaced
	}
	if info, err := r.file.Stat(); err == nil {
		r.written = info.ModTime()
	}
	r.buf = append(r.buf, b[len(old):n]...)
	r.atEnd = n < len(b)
	if n == len(old) {
		return false, nil
	}
	r.grew = time.Now()
	return true, nil
}

// line takes a line out of what was read, if it is complete: partial tells to take
// what there is of one that is not.
func (r *reader) line(partial bool) (e event, ok bool) {
	for r.skip {
		i := bytes.IndexByte(r.buf, '\n')
		r.skip = i < 0
		if i < 0 {
			i = len(r.buf) - 1
		}
		r.take(i + 1)
		if len(r.buf) == 0 {
			return event{}, false
		}
	}
	e = event{offset: r.at, at: r.written}
	b, forced := r.buf[:min(len(r.buf), maxLine+1)], false
	if left := r.cut - r.at; left > 0 && left <= int64(len(b)) {
		b, forced = b[:left], true
	}
	i := bytes.IndexByte(b, '\n')
	switch {
	case i >= 0:
		e.text = string(bytes.TrimRight(b[:i], "\r"))
		r.take(i + 1)
	case len(b) > maxLine:
		e.text, r.skip = string(b[:maxLine])+cutMark, true
		r.take(maxLine)
	case len(b) > 0 && (partial || forced):
		e.text = string(b)
		r.cut = r.at + int64(len(b))
		r.take(len(b))
	default:
		return event{}, false
	}
	return e, true
}

// take moves on by n bytes.
func (r *reader) take(n int) {
	r.before = append(r.before[:0], lastOf(r.before, r.buf[:n])...)
	r.at += int64(n)
	r.buf = r.buf[n:]
	if len(r.buf) == 0 {
		r.buf = nil
	}
}

// lastOf returns the last bytes of a followed by b that a fingerprint is of.
func lastOf(a, b []byte) []byte {
	if len(b) >= fingerprinted {
		return b[len(b)-fingerprinted:]
	}
	return append(append(make([]byte, 0, fingerprinted), a[len(a)-min(len(a), fingerprinted-len(b)):]...), b...)
}
