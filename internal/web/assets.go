package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"

	"lablink/internal/fleet"
)

//go:embed static
var staticFiles embed.FS

// contentTypes are fixed here: what the machine's own table says varies.
var contentTypes = map[string]string{
	".css": "text/css; charset=utf-8",
	".js":  "text/javascript; charset=utf-8",
	".svg": "image/svg+xml",
	".txt": "text/plain; charset=utf-8",
}

// assets are the files under /static/, by path. Their addresses carry a hash of
// the content, so that browsers may keep them for ever.
type assets struct {
	files map[string]asset
}

type asset struct {
	contentType string
	hash        string
	plain       []byte
	gzipped     []byte // a room full of people loads the first page at once
}

func loadAssets() (*assets, error) {
	a := &assets{files: map[string]asset{}}
	err := fs.WalkDir(staticFiles, "static", func(name string, entry fs.DirEntry, err error) error {
		kind, ok := contentTypes[path.Ext(name)]
		if err != nil || entry.IsDir() || !ok {
			return err
		}
		plain, err := staticFiles.ReadFile(name)
		if err != nil {
			return err
		}
		var small bytes.Buffer
		z := gzip.NewWriter(&small)
		if _, err := z.Write(plain); err != nil {
			return err
		}
		if err := z.Close(); err != nil {
			return err
		}
		sum := sha256.Sum256(plain)
		a.files[strings.TrimPrefix(name, "static/")] = asset{kind, hex.EncodeToString(sum[:6]), plain, small.Bytes()}
		return nil
	})
	return a, err
}

// address returns where a file is served. Templates call it; a misspelt name
// fails the first test that renders the page.
func (a *assets) address(name string) (string, error) {
	f, ok := a.files[name]
	if !ok {
		return "", fmt.Errorf("no static file %q", name)
	}
	return "/static/" + name + "?v=" + f.hash, nil
}

func (w *Web) getStatic(rw http.ResponseWriter, r *http.Request) error {
	return w.serveAsset(rw, r, r.PathValue("file"))
}

func (w *Web) getFavicon(rw http.ResponseWriter, r *http.Request) error {
	return w.serveAsset(rw, r, "favicon.svg")
}

func (w *Web) serveAsset(rw http.ResponseWriter, r *http.Request, name string) error {
	f, ok := w.assets.files[name]
	if !ok {
		return fleet.Errorf(fleet.NotFound, "There is no such file.")
	}
	h := rw.Header()
	h.Set("Content-Type", f.contentType)
	h.Set("Vary", "Accept-Encoding")
	h.Set("Cache-Control", "public, max-age=300")
	if r.URL.Query().Get("v") == f.hash {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	body := f.plain
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		body = f.gzipped
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = rw.Write(body) // a caller that has gone needs no file
	return nil
}
