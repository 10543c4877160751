package pgserver

import (
	"errors"
	"io"
	"os"
	"strings"
	"time"
)

// The server appends to one file, so that it goes on writing when the program is
// killed. The program keeps the file small: it copies it aside and cuts it, which
// needs no help from the server. What is written between the two is lost.
const (
	maxLog      = 8 << 20
	logInterval = 30 * time.Second
)

// openLog opens the log for appending, and tells its size.
func openLog(path string) (*os.File, int64, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, 0, err
	}
	fi, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, fi.Size(), nil
}

// boundLog keeps the log small until the server ends.
func (s *Server) boundLog() {
	tick := time.NewTicker(logInterval)
	defer tick.Stop()
	for {
		if err := rotate(s.lay.log(), s.lay.oldLog(), maxLog); err != nil {
			s.log.Warn("cannot cut the log of PostgreSQL", "error", err)
		}
		select {
		case <-tick.C:
		case <-s.proc.ended:
			return
		case <-s.quit:
			return
		}
	}
}

// rotate keeps the last part of a file that has grown beyond limit, and empties it.
func rotate(path, old string, limit int64) (err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil || fi.Size() <= limit {
		return err
	}
	out, err := os.OpenFile(old, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, io.NewSectionReader(f, fi.Size()-limit, limit))
	// Cut it even if the copy failed: a full disk is a reason to.
	return errors.Join(err, out.Close(), f.Truncate(0))
}

// tailLog is the end of what was written to the log after offset, for messages.
func tailLog(path string, offset int64) string {
	const most = 4096
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err.Error()
	}
	b, err := io.ReadAll(io.NewSectionReader(f, max(offset, fi.Size()-most), most))
	if err != nil {
		return err.Error()
	}
	return lastLines(string(b))
}

func lastLines(text string) string {
	const most = 8
	text = strings.TrimSpace(text)
	if text == "" {
		return "(nothing)"
	}
	lines := strings.Split(text, "\n")
	return strings.Join(lines[max(0, len(lines)-most):], "\n")
}
