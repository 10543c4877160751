package ship

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"lablink/internal/agent/disk"
)

// position is how far one log is shipped. It is saved before the first line of a
// file is sent, because it names the lines of it, and after each batch that was
// accepted.
type position struct {
	Path string `json:"path"` // of the log; of another one nothing is known
	Made int    `json:"made"` // how many files of it were named

	// The file that is being shipped. None yet if ID is empty.
	ID       string      `json:"id"`
	Device   uint64      `json:"device"`
	Inode    uint64      `json:"inode"`
	Modified time.Time   `json:"modified"`
	Head     fingerprint `json:"head"` // its first bytes: inodes are used again

	Offset int64       `json:"offset"`         // of the first byte that is not accepted
	Tail   fingerprint `json:"tail"`           // the bytes before Offset
	Skip   bool        `json:"skip,omitempty"` // Offset is in the middle of a line whose rest is not sent
	Cut    int64       `json:"cut,omitempty"`  // beyond Offset: a line was sent that ended here, without a newline

	Total int64 `json:"total,omitempty"` // bytes in a spool before this file
	Lost  int64 `json:"lost,omitempty"`  // bytes before this file; -1: perhaps some
}

// fingerprint is a hash of some bytes of a file.
type fingerprint struct {
	Bytes int    `json:"bytes"`
	Hash  string `json:"hash"`
}

// fingerprinted is how many bytes a fingerprint is of, if there are as many.
const fingerprinted = 256

func fingerprintOf(b []byte) fingerprint {
	if len(b) == 0 {
		return fingerprint{}
	}
	hash := sha256.Sum256(b)
	return fingerprint{len(b), hex.EncodeToString(hash[:12])}
}

// at reports whether the file has these bytes there.
func (p fingerprint) at(file *os.File, offset int64) bool {
	b := make([]byte, p.Bytes)
	if _, err := file.ReadAt(b, offset); err != nil && !errors.Is(err, io.EOF) {
		return false
	}
	return fingerprintOf(b) == p
}

// in reports whether a file is the one of the position, or a copy of it.
func (p *position) in(file *os.File) bool {
	info, err := file.Stat()
	return err == nil && info.Size() >= p.Offset && p.Head.at(file, 0) && p.Tail.at(file, p.Offset-int64(p.Tail.Bytes))
}

// name begins a file: its lines get a name that no other's have, and the same
// again should all that is remembered be lost. Before it has a line, unless that
// takes longer than a moment, it is io.EOF: nothing would tell it from others.
func (p *position) name(file *os.File, path string, moment time.Duration) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	head := make([]byte, fingerprinted)
	n, err := file.ReadAt(head, 0)
	if n == 0 {
		return err
	}
	first := bytes.IndexByte(head[:n], '\n') + 1 // the same however much follows by now
	if first == 0 && n < fingerprinted && time.Since(info.ModTime()) < moment {
		return io.EOF
	}
	if first == 0 {
		first = n
	}
	*p = position{Path: path, Made: p.Made + 1, Head: fingerprintOf(head[:n]), Lost: p.Lost}
	p.see(info)
	hash := sha256.Sum256(fmt.Appendf(nil, "%d %d %d %s", p.Device, p.Inode, p.Made, head[:first]))
	p.ID = hex.EncodeToString(hash[:8])
	return nil
}

// see notes what tells the file from others.
func (p *position) see(info fs.FileInfo) {
	p.Device, p.Inode = identity(info)
	p.Modified = info.ModTime()
}

// forget says that the file is no longer what it was, though it may be in its place.
func (p *position) forget() { p.Device, p.Inode = 0, 0 }

// is reports whether it is the very file, if nobody has replaced its content.
func (p *position) is(info fs.FileInfo) bool {
	device, inode := identity(info)
	return p.Device == device && p.Inode == inode
}

func identity(info fs.FileInfo) (device, inode uint64) {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Dev), st.Ino //nolint:unconvert // another type on other systems
	}
	return 0, 0
}

// load reads a position. What cannot be read is no position.
func load(path, log string) position {
	var p position
	data, err := os.ReadFile(path)
	if err != nil || json.Unmarshal(data, &p) != nil || p.Path != log {
		return position{Path: log}
	}
	return p
}

func (p *position) save(path string) error {
	data, err := json.Marshal(p)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return disk.Replace(path, append(data, '\n'))
}
