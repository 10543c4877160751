package ship

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// Sizes of a spool.
const (
	segmentBytes = 1 << 20
	spoolBytes   = 16 << 20
)

// Spool is a log on disk that Run can follow, bounded in size: what is written is
// appended to the last of its segments, and the oldest are removed.
type Spool struct {
	dir               string
	segment, together int64

	mu     sync.Mutex
	file   *os.File
	size   int64 // of the file
	total  int64 // of all that was written, in front of the file
	within bool  // a line
}

// NewSpool is a spool in a folder that is made when it is first needed. Only one
// may write in a folder.
func NewSpool(dir string) *Spool {
	return &Spool{dir: dir, segment: segmentBytes, together: spoolBytes}
}

// Write appends p. A segment ends with a line, unless that is very long.
func (s *Spool) Write(p []byte) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file != nil && s.size > 0 && s.size+int64(len(p)) > s.segment {
		rest := 0 // of a line
		if s.within {
			rest = bytes.IndexByte(p, '\n') + 1
		}
		if n, err = s.append(p[:rest]); err != nil {
			return n, err
		}
		if !s.within || s.size > 2*s.segment {
			s.shut()
		}
	}
	if s.file == nil {
		if err := s.roll(); err != nil {
			s.total += int64(len(p) - n)
			return n, err
		}
	}
	more, err := s.append(p[n:])
	return n + more, err
}

func (s *Spool) append(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := s.file.Write(p)
	s.size += int64(n)
	s.within = p[len(p)-1] != '\n'
	if err != nil {
		s.shut()
		s.total += int64(len(p) - n) // is missing
	}
	return n, err
}

// roll begins a segment. After a start it is always a new one: after a power cut
// the last may be shorter than what was already sent of it.
func (s *Spool) roll() error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	all, err := segments{s.dir}.list()
	if err != nil {
		return err
	}
	created, kept := time.Now().UnixNano(), int64(0)
	for i, old := range slices.Backward(all) {
		created = max(created, old.created+1)
		s.total = max(s.total, old.total+old.size)
		kept += old.size
		if kept > s.together-s.segment || len(all)-i > 1000 {
			if err := os.Remove(old.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	path := filepath.Join(s.dir, fmt.Sprintf(segmentName, created, s.total))
	s.file, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
	s.size = 0
	return err
}

func (s *Spool) shut() {
	if s.file != nil {
		s.file.Close()
		s.file = nil
		s.total += s.size
		s.size, s.within = 0, false
	}
}

// Close ends the writing.
func (s *Spool) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shut()
}

// segmentName is when a segment was begun, and how many bytes were written before
// it.
const segmentName = "%020d-%015d"

type segment struct {
	path                 string
	created, total, size int64
}

// segments are the files of a spool.
type segments struct{ dir string }

func (l segments) list() ([]segment, error) {
	entries, err := os.ReadDir(l.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []segment
	for _, e := range entries {
		var s segment
		if n, err := fmt.Sscanf(e.Name(), "%d-%d", &s.created, &s.total); n != 2 || err != nil {
			continue
		}
		if info, err := e.Info(); err == nil {
			s.path, s.size = filepath.Join(l.dir, e.Name()), info.Size()
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b segment) int { return cmp.Compare(a.created, b.created) })
	return all, nil
}

func (s segment) id() string { return fmt.Sprintf("%020d", s.created) }

func (l segments) find(p *position) (*os.File, error) {
	all, err := l.list()
	for _, s := range all {
		if s.id() != p.ID {
			continue
		}
		file, err := open(s.path)
		if file == nil || p.in(file) {
			return file, err
		}
		file.Close() // shorter, after a power cut
	}
	if err != nil {
		return nil, err
	}
	return l.open(p)
}

func (l segments) next(p position) (bool, error) {
	all, err := l.list()
	return len(all) > 0 && all[len(all)-1].id() > p.ID, err
}

func (l segments) open(p *position) (*os.File, error) {
	all, err := l.list()
	for _, s := range all {
		if s.id() <= p.ID {
			continue
		}
		file, err := open(s.path)
		if err != nil {
			return nil, err
		}
		if file == nil {
			return nil, nil // removed meanwhile
		}
		q := position{Path: p.Path, Made: p.Made + 1, ID: s.id(), Total: s.total, Lost: p.Lost}
		if p.ID != "" && s.total > p.Total+p.Offset {
			q.Lost += s.total - p.Total - p.Offset
		}
		*p = q
		return file, nil
	}
	return nil, err
}

func (l segments) copied(*position) (*os.File, error) { return nil, errGone }
