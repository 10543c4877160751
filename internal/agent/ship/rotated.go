package ship

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// files finds the files of a log, one after another. All of its methods return no
// file if there is none (yet).
type files interface {
	// find opens the file of the position, or one to begin with.
	find(p *position) (*os.File, error)
	// next reports whether a file with lines in it comes after that of the position.
	next(p position) (bool, error)
	// open opens that, and names it.
	open(p *position) (*os.File, error)
	// copied opens a copy of the position's file, which was truncated. Its error is
	// errGone if there is none for sure.
	copied(p *position) (*os.File, error)
}

// rotated are the files of a log that is rotated, as logrotate and its like do:
// by a new name, or by a copy.
type rotated struct {
	path   string
	moment time.Duration // for a first line
}

func (l rotated) find(p *position) (*os.File, error) {
	if p.ID == "" {
		return l.begin(p, l.path)
	}
	file, err := l.search(p, true)
	if !errors.Is(err, errGone) {
		return file, err
	}
	p.Lost = -1
	p.forget()
	return l.open(p)
}

func (l rotated) copied(p *position) (*os.File, error) { return l.search(p, false) }

// errGone means that a file is surely not there any more.
var errGone = errors.New("the file is gone")

// tries is how often a rotation is waited for that happens while the files are
// listed: in the midst of it they have no order, and none is surely there or not.
const tries = 10

// search opens the position's file, or a copy of it; a copy only, unless the file
// itself will do.
func (l rotated) search(p *position, itself bool) (*os.File, error) {
	for range tries {
		all, err := l.list()
		if err != nil {
			return nil, err
		}
		for _, wanted := range []bool{true, false} { // first the file itself
			for _, s := range all {
				if p.is(s.info) != wanted || wanted && !itself || !wanted && s.olderThan(p) {
					continue
				}
				if file, err := s.holding(p); file != nil || err != nil {
					return file, err
				}
			}
		}
		again, err := l.list()
		if err != nil {
			return nil, err
		}
		if slices.EqualFunc(all, again, sibling.same) {
			return nil, errGone
		}
	}
	return nil, nil // at the next look
}

// olderThan reports whether the file cannot be a copy of the position's, however
// much they are alike: it was written before that.
func (s sibling) olderThan(p *position) bool { return s.info.ModTime().Before(p.Modified) }

// holding opens the file if it is the position's, or a copy of it.
func (s sibling) holding(p *position) (*os.File, error) {
	file, err := open(s.path)
	if file == nil {
		return nil, err
	}
	if info, err := file.Stat(); err == nil && os.SameFile(info, s.info) && p.in(file) {
		p.see(info)
		return file, nil
	}
	file.Close()
	return nil, nil
}

// begin opens a file that has something in it, and names it.
func (l rotated) begin(p *position, path string) (*os.File, error) {
	file, err := open(path)
	if file == nil {
		return nil, err
	}
	if err := p.name(file, l.path, l.moment); err != nil {
		file.Close()
		if errors.Is(err, io.EOF) {
			return nil, nil
		}
		return nil, err
	}
	return file, nil
}

func (l rotated) next(p position) (bool, error) {
	info, err := os.Stat(l.path)
	if err == nil && p.is(info) || err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	all, err := l.list()
	_, ok := after(all, p)
	return ok, err
}

// open begins the first file that is newer than the position's.
func (l rotated) open(p *position) (*os.File, error) {
	for range tries {
		all, err := l.list()
		if err != nil {
			return nil, err
		}
		s, ok := after(all, *p)
		if !ok {
			return nil, nil
		}
		q := *p
		file, err := l.begin(&q, s.path)
		if file == nil {
			return nil, err
		}
		again, err := l.list()
		if err == nil && slices.EqualFunc(all, again, sibling.same) && q.is(s.info) {
			*p = q
			return file, nil
		}
		file.Close()
		if err != nil {
			return nil, err
		}
	}
	return nil, nil // at the next look
}

// sibling is a file of the log.
type sibling struct {
	path   string
	number int // that rotation gave it, 0 for the log itself, -1 for another kind of name
	info   fs.FileInfo
}

func (s sibling) same(t sibling) bool { return s.path == t.path && os.SameFile(s.info, t.info) }

// list returns the log and what rotation made of it, the oldest first.
func (l rotated) list() ([]sibling, error) {
	dir, base := filepath.Split(l.path)
	if dir == "" {
		dir = "."
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []sibling
	for _, e := range entries {
		number, ok := rotation(base, e.Name())
		if !ok {
			continue
		}
		path := filepath.Join(dir, e.Name())
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && (info.Size() > 0 || number == 0) {
			all = append(all, sibling{path, number, info})
		}
	}
	slices.SortStableFunc(all, func(a, b sibling) int {
		switch {
		case a.number == 0 || b.number == 0:
			return cmp.Compare(btoi(a.number == 0), btoi(b.number == 0))
		case a.number > 0 && b.number > 0:
			return cmp.Compare(b.number, a.number)
		default:
			return a.info.ModTime().Compare(b.info.ModTime())
		}
	})
	return all, nil
}

// rotation reports whether a file of that name was, or is, the log named base:
// "x.log", "x.log.1", "x.log-20260131", "x-2026-01-31T10.log", "x.log.old", but
// nothing that was compressed.
func rotation(base, name string) (number int, ok bool) {
	if name == base {
		return 0, true
	}
	ext := filepath.Ext(base)
	rest, ok := strings.CutPrefix(name, base)
	if !ok {
		rest, ok = strings.CutPrefix(name, strings.TrimSuffix(base, ext))
		if !ok || ext == "" || !strings.HasSuffix(rest, ext) {
			return 0, false
		}
		rest = strings.TrimSuffix(rest, ext)
	}
	if len(rest) < 2 || rest[0] != '.' && rest[0] != '-' {
		return 0, false
	}
	if n, err := strconv.Atoi(rest[1:]); err == nil && len(rest) < 6 {
		return n + 1, true // some count from 0
	}
	return -1, rest == ".old" || strings.Trim(rest, "0123456789.-_:TZ") == ""
}

// after returns the sibling that follows the position's file. If that is no
// longer there, it is the first that was written later.
func after(all []sibling, p position) (sibling, bool) {
	i := slices.IndexFunc(all, func(s sibling) bool { return p.is(s.info) })
	for _, s := range all[i+1:] {
		if s.info.Size() > 0 && (i >= 0 || s.number == 0 || s.info.ModTime().After(p.Modified)) {
			return s, true
		}
	}
	return sibling{}, false
}

// open opens a regular file, and does not wait for what is none. A file that is
// not there is no error.
func open(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", path)
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}
