package pgserver

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func TestStart_ForeignFolder(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ file, says string }{
		"somebody's files":          {"thesis.tex", "thesis.tex"},
		"another cluster":           {"PG_VERSION", "did not make"},
		"a cluster without version": {"data/base/1/pg_class", "PG_VERSION"},
		"an empty version":          {"data/PG_VERSION", "damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(tempDir(t), "pg")
			mustMkdir(t, filepath.Dir(filepath.Join(dir, c.file)), 0o755)
			mustWrite(t, filepath.Join(dir, c.file), "")
			before := tree(t, dir)
			refused(t, options(dir), dir, c.says)
			if after := tree(t, dir); after != before {
				t.Errorf("the folder was changed from\n%s\nto\n%s", before, after)
			}
		})
	}
}

func TestStart_OtherMajorVersion(t *testing.T) {
	t.Parallel()
	l := layout{filepath.Join(tempDir(t), "pg")}
	mustMkdir(t, l.dir, 0o711)
	mustMkdir(t, l.data(), 0o700)
	mustWrite(t, l.versionFile(), "7\n")
	acct, err := chooseAccount(layout{filepath.Join(l.dir, "none")})
	if err != nil {
		t.Fatal(err)
	}
	if err := acct.own(l.data()); err != nil {
		t.Fatal(err)
	}
	before := tree(t, l.data())
	bin, err := findBinaries(testContext(t), "", "")
	if err != nil {
		t.Fatal(err)
	}
	refused(t, options(l.dir), "PostgreSQL 7", strconv.Itoa(bin.major), "pg_upgrade", "pg_dump")
	if after := tree(t, l.data()); after != before {
		t.Errorf("the folder was changed from\n%s\nto\n%s", before, after)
	}
}

func TestStart_NoPrograms(t *testing.T) {
	t.Parallel()
	o := options(filepath.Join(tempDir(t), "pg"))
	o.BinDir = tempDir(t)
	refused(t, o, o.BinDir, "apt install postgresql", "--database-url")
}

// Root's server runs as somebody else, who may not pass a closed folder of
// root's. To any other user the folder belongs, and then nothing is wrong.
func TestStart_ParentOutOfReach(t *testing.T) {
	t.Parallel()
	closed := mustMkdir(t, filepath.Join(tempDir(t), "closed"), 0o700)
	o := options(filepath.Join(closed, "lablink", "postgres"))
	if os.Geteuid() != 0 {
		stop(t, start(t, o))
		return
	}
	refused(t, o, "chmod o+x "+closed+",", "user ")
	if err := os.Chmod(closed, 0o711); err != nil {
		t.Fatal(err)
	}
	stop(t, start(t, o)) // the advice works
}

func TestAccount_BlockedAt(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(tempDir(t), "a")
	mustMkdir(t, filepath.Join(dir, "b", "c"), 0o755)
	stranger := account{uid: 54321, gid: 54321}
	for path, mode := range map[string]os.FileMode{dir: 0o754, filepath.Join(dir, "b"): 0o710} {
		mustMkdir(t, path, mode)
		got, err := stranger.blockedAt(filepath.Join(dir, "b", "c"))
		if err != nil {
			t.Fatal(err)
		}
		if got != path {
			t.Errorf("got %s, want %s", got, path)
		}
		mustMkdir(t, path, 0o755)
	}
}

// A killed initdb leaves only its own folder.
func TestStart_AfterKilledInitdb(t *testing.T) {
	t.Parallel()
	l := layout{tempDir(t)}
	mustMkdir(t, filepath.Join(l.dir, stagingPrefix+"123", "data", "base"), 0o700)
	mustWrite(t, filepath.Join(l.dir, stagingPrefix+"123", "data", "PG_VERSION"), "15\n")
	mustWrite(t, l.lock(), "1\n")
	mustWrite(t, l.passwordFile()+".new", "cut sho")
	mustMkdir(t, l.data(), 0o700)
	s := start(t, options(l.dir))
	query(t, s.URL(), "SELECT 1")
	if strings.Contains(tree(t, l.dir), stagingPrefix) {
		t.Error("the leftover is still there")
	}
	stop(t, s)
}

// After a crash of the machine, the process ids in lock files may be anybody's.
func TestStart_StalePIDFile(t *testing.T) {
	t.Parallel()
	s := start(t, options(tempDir(t)))
	stop(t, s)
	// The server's user's, so that PostgreSQL cannot tell it from a server.
	other := s.acct.command(testContext(t), "/", "sleep", "1000")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = other.Process.Kill()
		_ = other.Wait()
	}()
	for _, path := range []string{pidFile(s.lay.data()), s.socket.file() + ".lock"} {
		mustWrite(t, path, strconv.Itoa(other.Process.Pid)+"\n"+s.lay.data()+"\n1\n5432\n"+s.socket.path+"\n\n\nready\n")
		if err := s.acct.own(path); err != nil {
			t.Fatal(err)
		}
	}
	again := start(t, options(s.Dir()))
	query(t, again.URL(), "SELECT 1")
	stop(t, again)

	// A file that a crash cut short.
	mustWrite(t, pidFile(s.lay.data()), "")
	if err := s.acct.own(pidFile(s.lay.data())); err != nil {
		t.Fatal(err)
	}
	again = start(t, options(s.Dir()))
	stop(t, again)
}

func TestClassify(t *testing.T) {
	t.Parallel()
	data, other := t.TempDir(), t.TempDir()
	link := filepath.Join(other, "link")
	if err := os.Symlink(data, link); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		argv []string
		want pmState
	}{
		"ours":                  {[]string{"/usr/lib/postgresql/15/bin/postgres", "-D", data, "-c", "port=5432"}, pmOurs},
		"ours in one word":      {[]string{"postgres", "-D" + data}, pmOurs},
		"ours through a link":   {[]string{"postmaster", "-c", "x=y", "-D", link}, pmOurs},
		"of another cluster":    {[]string{"postgres", "-D", other}, pmForeign},
		"a relative path":       {[]string{"postgres", "-D", "data"}, pmUnknown},
		"folder by environment": {[]string{"postgres"}, pmUnknown},
		"child of a server":     {[]string{"postgres: checkpointer "}, pmForeign},
		"something else":        {[]string{"/bin/sleep", "-D", data}, pmForeign},
		"a zombie":              {[]string{""}, pmDead},
	} {
		if got := classify(c.argv, data); got != c.want {
			t.Errorf("%s: got %d, want %d", name, got, c.want)
		}
	}
}

func TestChoose(t *testing.T) {
	t.Parallel()
	found := []binaries{{"/path", 12}, {"/a", 17}, {"/b", 15}}
	for want, dir := range map[string]string{"": "/a", "15": "/b", "12": "/path"} {
		if got, err := choose(found, want); err != nil || got.dir != dir {
			t.Errorf("choose(%q): got %v, %v", want, got, err)
		}
	}
	for want, says := range map[string]string{"16": "only PostgreSQL 12, 17, 15 is installed", "": "too old"} {
		if want == "" {
			found = found[:1]
		}
		if _, err := choose(found, want); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("choose(%q): got %v", want, err)
		}
		found = []binaries{{"/path", 12}, {"/a", 17}, {"/b", 15}}
	}
}

func TestGlobNewest(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, v := range []string{"9.6", "17", "10"} {
		mustMkdir(t, filepath.Join(dir, v, "bin"), 0o755)
	}
	// The pattern's own digits must not be read as a version.
	got := globNewest([]string{filepath.Join(dir, "*", "bin")})
	want := []string{"17", "10", "9.6"}
	for i := range want {
		if got[i] != filepath.Join(dir, want[i], "bin") {
			t.Fatalf("got %v", got)
		}
	}
}

func TestRotate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path, old := filepath.Join(dir, "log"), filepath.Join(dir, "log.1")
	// The server goes on writing to its open file.
	f, _, err := openLog(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, step := range []struct{ write, log, old string }{
		{"12345678", "12345678", ""},
		{"90abcd", "", "567890abcd"},
		{"fresh", "fresh", "567890abcd"},
	} {
		if _, err := f.WriteString(step.write); err != nil {
			t.Fatal(err)
		}
		if err := rotate(path, old, 10); err != nil {
			t.Fatal(err)
		}
		if got := mustRead(t, path); got != step.log {
			t.Errorf("log: got %q, want %q", got, step.log)
		}
		if b, _ := os.ReadFile(old); string(b) != step.old {
			t.Errorf("older log: got %q, want %q", b, step.old)
		}
	}
}
