package docs_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"lablink/internal/config"
	"lablink/internal/testkit"
)

// script is the blocks of one name on one page.
type script struct {
	page  string
	parts []part
}

type part struct {
	line   int
	text   string
	prints string // what it must print, if checked
	check  bool
}

// readScript collects the blocks that are marked with a name.
func readScript(t *testing.T, name, run string) script {
	t.Helper()
	s := script{page: name}
	_, blocks := readPage(t, name).split(t)
	last := -1 // the block before is the last part
	for i, b := range blocks {
		switch {
		case b.marker == "run "+run && b.lang == "sh":
			s.parts = append(s.parts, part{line: b.line, text: b.text})
			last = i
		case b.marker == "prints" && len(s.parts) > 0 && last == i-1:
			s.parts[len(s.parts)-1].prints, s.parts[len(s.parts)-1].check = b.text, true
		}
	}
	if len(s.parts) == 0 {
		t.Fatalf("%s has no block that is marked to be run as %q", name, run)
	}
	return s
}

// run executes the script in one shell and compares what each part prints.
// Replacements put the test's own folders and addresses in the place of those
// that the page names.
func (s script) run(t *testing.T, dir string, env []string, replacements ...string) {
	t.Helper()
	const mark = "--- end of a part"
	replace := strings.NewReplacer(replacements...)
	var text strings.Builder
	text.WriteString("set -eu\n")
	for _, p := range s.parts {
		text.WriteString(replace.Replace(p.text))
		text.WriteString("echo '" + mark + "'\n")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", text.String())
	cmd.Dir = dir
	_, base := program(t)
	cmd.Env = slices.Concat(base, env)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	outputs := strings.Split(stdout.String(), mark+"\n")
	for i, p := range s.parts {
		if i >= len(outputs)-1 {
			t.Fatalf("%s:%d: %v\n%s%s\nin:\n%s", s.page, p.line, err, outputs[len(outputs)-1], &stderr, replace.Replace(p.text))
		}
		if p.check && !pattern(p.prints).MatchString(outputs[i]) {
			t.Errorf("%s:%d: it printed\n%snot\n%s%s", s.page, p.line, outputs[i], p.prints, &stderr)
		}
	}
}

// pattern matches what a page says that a command prints.
func pattern(want string) *regexp.Regexp {
	return regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(want), "…", ".+") + "$")
}

// program returns the path of a lablink that is this test binary, and the
// environment of scripts that call it: settings of whoever runs the tests do not
// count.
func program(t *testing.T) (path string, env []string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	path = filepath.Join(bin, "lablink")
	if err := os.Symlink(self, path); err != nil {
		t.Fatal(err)
	}
	return path, []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "HOME=" + bin, "TMPDIR=" + os.TempDir(), "LC_ALL=C"}
}

// TestMarkers finds markers that no test would ever look at.
func TestMarkers(t *testing.T) {
	t.Parallel()
	known := map[string]bool{
		"docs/api.md run api":                    true,
		"docs/moving.md run moving":              true,
		"docs/operators.md run check":            true,
		"docs/operators.md run password":         true,
		"docs/operators.md run migrate":          true,
		"docs/operators.md run health":           true,
		"docs/operators.md run backup-private":   true,
		"docs/operators.md run restore-private":  true,
		"docs/operators.md run backup-external":  true,
		"docs/operators.md run restore-external": true,
		"docs/operators.md config":               true,
	}
	for _, p := range pages(t) {
		_, blocks := p.split(t)
		for _, b := range blocks {
			if strings.HasPrefix(b.marker, "run ") && !known[p.name+" "+b.marker] {
				t.Errorf("%s:%d: no test runs %q", p.name, b.line, b.marker)
			}
		}
	}
}

// TestAPI sends every request of docs/api.md.
func TestAPI(t *testing.T) {
	t.Parallel()
	a := testkit.Serve(t, testkit.LocalProvider(t, testkit.ServeOptions{}))
	dir := t.TempDir()
	address, err := url.Parse(a.URL)
	if err != nil {
		t.Fatal(err)
	}
	login := fmt.Sprintf("machine %s login admin password %q\n", address.Hostname(), testkit.AdminPassword)
	if err := os.WriteFile(filepath.Join(dir, "admin.netrc"), []byte(login), 0o600); err != nil {
		t.Fatal(err)
	}
	readScript(t, "docs/api.md", "api").run(t, dir, []string{"URL=" + a.URL})
}

// TestModule makes a VM with the module that docs/provisioning.md shows.
func TestModule(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, blocks := readPage(t, "docs/provisioning.md").split(t)
	i := slices.IndexFunc(blocks, func(b block) bool { return b.marker == "module" })
	if i < 0 {
		t.Fatal("docs/provisioning.md shows no module")
	}
	if err := os.WriteFile(filepath.Join(dir, "main.tf"), []byte(blocks[i].text), 0o600); err != nil {
		t.Fatal(err)
	}
	a := testkit.Serve(t, testkit.LocalProvider(t, testkit.ServeOptions{
		Configure: func(c *config.Config) { c.Provision.Module = dir },
	}))
	if op := a.Ended(a.Launch(2).ID); op.State != "succeeded" || len(op.Hostnames("done")) != 2 {
		t.Errorf("launch: %+v", op)
	}
	if op := a.Ended(a.DestroyAll(2).ID); op.State != "succeeded" {
		t.Errorf("destroy: %+v", op)
	}
}

// installation is a lablink that runs as docs/operators.md says, in a folder of
// its own.
type installation struct {
	t    *testing.T
	dir  string // stands for /var/lib/lablink
	etc  string // stands for /etc/lablink
	work string
	env  []string

	url  string
	stop func()
}

const password = "not of these docs"

func install(t *testing.T) *installation {
	t.Helper()
	// Short, so that the socket is where the page says, and open to the user that
	// PostgreSQL runs as.
	base, err := os.MkdirTemp("", "ll-docs-") //nolint:usetesting // t.TempDir is too long
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(base); err != nil {
			t.Error(err)
		}
	})
	i := &installation{t: t, dir: filepath.Join(base, "lib"), etc: filepath.Join(base, "etc"), work: filepath.Join(base, "work")}
	for _, dir := range []string{i.etc, i.work} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(base, 0o711); err != nil {
		t.Fatal(err)
	}
	return i
}

// start runs "lablink serve" until stop, and returns when it answers.
func (i *installation) start() {
	i.t.Helper()
	bin, env := program(i.t)
	cmd := exec.Command(bin, //nolint:noctx // stopped below
		"serve", "--data-dir", i.dir, "--listen", "127.0.0.1:0", "--log-format", "json")
	cmd.Env = slices.Concat(env, i.env, []string{lifeline + "=1"})
	alive, err := cmd.StdinPipe()
	if err != nil {
		i.t.Fatal(err)
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		i.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		i.t.Fatal(err)
	}
	log := &testkit.LogBuffer{}
	address, ended := make(chan string, 1), make(chan error, 1)
	go func() {
		for lines := bufio.NewScanner(io.TeeReader(stderr, log)); lines.Scan(); {
			var entry struct {
				Msg     string `json:"msg"`
				Address string `json:"address"`
			}
			if json.Unmarshal(lines.Bytes(), &entry) == nil && entry.Msg == "serving" {
				address <- entry.Address
			}
		}
		ended <- cmd.Wait()
	}()
	stopped := false
	i.stop = func() {
		if stopped {
			return
		}
		stopped = true
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			i.t.Error(err)
		}
		if err := <-ended; err != nil {
			i.t.Errorf("lablink serve: %v\n%s", err, log)
		}
		_ = alive.Close() // was only there to end with us
	}
	i.t.Cleanup(i.stop)
	select {
	case a := <-address:
		i.url = "http://" + a
	case err := <-ended:
		stopped = true
		i.t.Fatalf("lablink serve ended: %v\n%s", err, log)
	case <-time.After(2 * time.Minute):
		i.t.Fatalf("lablink serve does not answer\n%s", log)
	}
}

// script runs the marked blocks of docs/operators.md on this installation.
func (i *installation) script(run string, replacements ...string) {
	i.t.Helper()
	readScript(i.t, "docs/operators.md", run).run(i.t, i.work, i.env, append(replacements,
		"sudo -u lablink ", "", "/var/lib/lablink", i.dir, "/etc/lablink", i.etc, "http://127.0.0.1:5000", i.url)...)
}

// request sends JSON, and returns status and body of the answer.
func (i *installation) request(method, path, user, body string) (status int, answer string) {
	i.t.Helper()
	req, err := http.NewRequestWithContext(i.t.Context(), method, i.url+path, strings.NewReader(body))
	if err != nil {
		i.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if name, secret, found := strings.Cut(user, ":"); found {
		req.SetBasicAuth(name, secret)
	} else if user != "" {
		req.Header.Set("Authorization", "Bearer "+user)
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		i.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		i.t.Fatal(err)
	}
	return resp.StatusCode, string(data)
}

// fill gives one of two machines to a participant, and returns the token of that.
func (i *installation) fill() (token string) {
	i.t.Helper()
	status, answer := i.request(http.MethodPost, "/api/vms", "admin:"+password, `{"hostname":"lab-01"}`)
	var vm struct {
		Token string `json:"token"`
	}
	if err := json.Unmarshal([]byte(answer), &vm); err != nil || status != http.StatusCreated {
		i.t.Fatalf("registering: %d %s", status, answer)
	}
	for _, r := range []struct{ path, body string }{
		{"/api/vm-status", `{"hostname":"lab-01","status":"running"}`},
		{"/api/request_vm", `{"email":"ada@example.org","crd_command":"4/0AeanS0a"}`},
	} {
		if status, answer := i.request(http.MethodPost, r.path, vm.Token, r.body); status != http.StatusOK {
			i.t.Fatalf("%s: %d %s", r.path, status, answer)
		}
	}
	return vm.Token
}

// empty checks that nothing of fill is there.
func (i *installation) empty() {
	i.t.Helper()
	if status, answer := i.request(http.MethodGet, "/api/vm-status", "", ""); status != http.StatusNotFound {
		i.t.Fatalf("the new database is not empty: %d %s", status, answer)
	}
}

// restored checks that everything of fill is there: the machine and its token,
// the seat, and that numbers are not given twice.
func (i *installation) restored(token string) {
	i.t.Helper()
	if status, answer := i.request(http.MethodGet, "/api/vm-status", "", ""); status != http.StatusOK || !strings.Contains(answer, `"lab-01":"running"`) {
		i.t.Errorf("status: %d %s", status, answer)
	}
	if status, answer := i.request(http.MethodPost, "/vm_startup", token, `{"hostname":"lab-01","agent":"test"}`); status != http.StatusOK || !strings.Contains(answer, "4/0AeanS0a") {
		i.t.Errorf("the seat's command: %d %s", status, answer)
	}
	if status, answer := i.request(http.MethodDelete, "/api/vms/lab-01", "admin:"+password, ""); status != http.StatusConflict {
		i.t.Errorf("removing a machine that is held: %d %s", status, answer)
	}
	if status, answer := i.request(http.MethodPost, "/api/vms", "admin:"+password, `{"hostname":"lab-02"}`); status != http.StatusCreated {
		i.t.Errorf("registering another: %d %s", status, answer)
	}
}

// TestPrivate goes through what docs/operators.md says about a server with a
// private PostgreSQL: from the check of the configuration to a restored backup.
func TestPrivate(t *testing.T) {
	t.Parallel()
	i := install(t)
	_, blocks := readPage(t, "docs/operators.md").split(t)
	for _, b := range blocks {
		if b.marker == "config" {
			if err := os.WriteFile(filepath.Join(i.etc, "config.yaml"), []byte(b.text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	i.script("check")
	i.script("migrate") // starts PostgreSQL for as long as it takes
	i.start()
	i.script("migrate") // and finds it running
	i.script("health")
	i.script("password", "a long password of mine", password)
	token := i.fill()
	i.script("backup-private")

	i.stop()
	if err := os.Rename(filepath.Join(i.dir, "postgres"), filepath.Join(i.dir, "postgres.old")); err != nil {
		t.Fatal(err)
	}
	i.start()
	i.empty()
	i.script("restore-private")
	i.stop()
	i.start()
	i.restored(token)
}

// TestExternal does the same with backups of an external PostgreSQL.
func TestExternal(t *testing.T) {
	t.Parallel()
	i := install(t)
	old, fresh := testkit.DB(t), testkit.DB(t)
	use := func(databaseURL string) (replacements []string) {
		u, err := url.Parse(databaseURL)
		if err != nil {
			t.Fatal(err)
		}
		secret, _ := u.User.Password()
		host := u.Query().Get("host")
		i.env = []string{
			"LABLINK_DATABASE_URL=" + databaseURL, "LABLINK_ADMIN_PASSWORD=" + password,
			"PGPORT=" + u.Query().Get("port"), "PGPASSWORD=" + secret,
		}
		name := strings.TrimPrefix(u.Path, "/")
		return []string{
			"db.example.org", host, "--username lablink", "--username " + u.User.Username(),
			"--dbname lablink", "--dbname " + name, "data lablink >", "data " + name + " >",
		}
	}
	replacements := use(old)
	i.start()
	token := i.fill()
	i.script("backup-external", replacements...)
	i.stop()

	replacements = use(fresh)
	i.start()
	i.empty()
	i.stop()
	i.script("restore-external", replacements...)
	i.start()
	i.restored(token)
}
