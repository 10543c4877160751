package main

import (
	"archive/zip"
	"bytes"
	"debug/elf"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// What make logproc makes is what the runtime provided.al2023 runs.
func TestZip(t *testing.T) {
	t.Parallel()
	build := func(dir, arches string) {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), "go", "run", "lablink/internal/lambdazip", "-o", dir, "-arch", arches).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	dir, again := t.TempDir(), t.TempDir()
	build(dir, "arm64,amd64")
	build(again, runtime.GOARCH)
	const prefix = "lablink-logproc-"
	for arch, machine := range map[string]elf.Machine{"arm64": elf.EM_AARCH64, "amd64": elf.EM_X86_64} {
		z, err := zip.OpenReader(filepath.Join(dir, prefix+arch+".zip"))
		if err != nil {
			t.Fatal(err)
		}
		if len(z.File) != 1 || z.File[0].Name != "bootstrap" || z.File[0].Mode() != 0o755 || z.File[0].Modified.Year() != 1980 {
			t.Errorf("%s: the zip file has %+v", arch, z.File[0].FileHeader)
		}
		r, err := z.File[0].Open()
		if err != nil {
			t.Fatal(err)
		}
		program, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Error(err)
		}
		e, err := elf.NewFile(bytes.NewReader(program))
		if err != nil {
			t.Fatal(err)
		}
		if libraries, err := e.ImportedLibraries(); e.Machine != machine || err != nil || len(libraries) > 0 {
			t.Errorf("%s: it is for %v and needs %v, %v", arch, e.Machine, libraries, err)
		}
		if arch == runtime.GOARCH {
			runs(t, program)
			if !bytes.Equal(read(t, filepath.Join(dir, prefix+arch+".zip")), read(t, filepath.Join(again, prefix+arch+".zip"))) {
				t.Error("two builds differ")
			}
		}
	}
}

// runs delivers something by that program.
func runs(t *testing.T, program []byte) {
	t.Helper()
	bootstrap := filepath.Join(t.TempDir(), "bootstrap")
	if err := os.WriteFile(bootstrap, program, 0o755); err != nil {
		t.Fatal(err)
	}
	a := serve(t)
	a.Register("vm-1")
	f := startProgram(t, bootstrap, "API_ENDPOINT="+a.URL+"/api/vm-logs", "API_TOKEN="+token)
	f.wantDelivered(delivery(t, "vm-1", 0, "hello"))
	wantLog(t, a, "vm-1", "hello")
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
