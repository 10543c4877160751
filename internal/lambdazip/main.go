// Command lambdazip builds the log processor for AWS Lambda: one zip file for each
// kind of processor, made of the program alone. The same source and Go make the
// same bytes, so that Terraform sees whether anything has changed.
package main

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"time"
)

func main() {
	dir := flag.String("o", "bin", "folder of the zip files")
	arches := flag.String("arch", "arm64,amd64", "processors, as Go calls them")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	for arch := range strings.SplitSeq(*arches, ",") {
		name := filepath.Join(*dir, "lablink-logproc-"+arch+".zip")
		if err := build(ctx, arch, name); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
			os.Exit(1) //nolint:gocritic // stop has nothing to undo
		}
	}
}

func build(ctx context.Context, arch, name string) (err error) {
	dir, err := os.MkdirTemp("", "lambdazip-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	program := filepath.Join(dir, "bootstrap")
	// Without what differs from one checkout to the next, and without aws-lambda-go's
	// other protocol, which this runtime does not speak.
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-tags", "lambda.norpc",
		"-ldflags", "-s -w -buildid=", "-o", program, "lablink/cmd/lablink-logproc")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch, "GOFLAGS=", "GOAMD64=v1", "GOARM64=v8.0")
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("go build: %w", err)
	}
	data, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	var packed bytes.Buffer
	if err := pack(&packed, data); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil { //nolint:gosec // as make build makes it
		return err
	}
	return os.WriteFile(name, packed.Bytes(), 0o644) //nolint:gosec // it holds no secret
}

// pack writes a zip file of the program as the runtime provided.al2023 wants it.
func pack(to io.Writer, program []byte) error {
	z := zip.NewWriter(to)
	header := &zip.FileHeader{Name: "bootstrap", Method: zip.Deflate, Modified: time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)}
	header.SetMode(0o755)
	w, err := z.CreateHeader(header)
	if err != nil {
		return err
	}
	if _, err := w.Write(program); err != nil {
		return err
	}
	return z.Close()
}
