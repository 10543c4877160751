package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lablink/deploy"
	"lablink/internal/config"
	"lablink/internal/diagram"
	"lablink/internal/diagram/draw"
	"lablink/internal/provision"
	"lablink/internal/tffiles"
)

// diagramOptions are the flags of "lablink diagram", as the script of the Python
// LabLink had them.
type diagramOptions struct {
	kind, terraform, vms, output string
	format, preset               string
	dpi                          int
	timestamp, noTimestamp       bool
	verbose                      bool
}

func newDiagramCommand() *cobra.Command {
	var o diagramOptions
	cmd := &cobra.Command{
		Use:   "diagram",
		Short: "Draw how LabLink works, from its Terraform files, database and endpoints",
		Long: `Draw how LabLink works: one picture for each type, or all of them.

What is drawn comes from the Terraform files, the database's tables and triggers,
and the endpoints. Without --terraform-dir, the files are those that come with
LabLink.`,
		Example: `  lablink diagram --diagram-type crd-connection --format svg
  lablink diagram --terraform-dir infrastructure/ --preset poster --format all`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := fromEnvironment(cmd.Flags(), nil); err != nil {
				return err
			}
			return drawDiagrams(cmd, o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.kind, "diagram-type", "all", "what to draw: "+diagram.Choices())
	f.StringVar(&o.terraform, "terraform-dir", "", "folder with the Terraform files of the allocator")
	f.StringVar(&o.vms, "client-vm-terraform-dir", "", "folder with the Terraform files of the VMs")
	f.StringVar(&o.output, "output-dir", "figures", "folder for the pictures")
	f.StringVar(&o.format, "format", "png", strings.Join(draw.Formats(), ", ")+" or all")
	f.StringVar(&o.preset, "preset", "paper", "size of the text: paper, poster or presentation")
	f.StringVar(&o.preset, "fontsize-preset", "paper", "the same as --preset")
	f.IntVar(&o.dpi, "dpi", 300, "dots per inch of PNG")
	f.BoolVar(&o.timestamp, "timestamp-runs", true, "write into a new folder run_YYYYMMDD_HHMMSS each time")
	f.BoolVar(&o.noTimestamp, "no-timestamp-runs", false, "write into the folder itself")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "tell what was read")
	cmd.MarkFlagsMutuallyExclusive("timestamp-runs", "no-timestamp-runs")
	cmd.MarkFlagsMutuallyExclusive("preset", "fontsize-preset")
	return cmd
}

// drawDiagrams draws what was asked for. One picture that fails does not keep
// the others from being drawn.
func drawDiagrams(cmd *cobra.Command, o diagramOptions) error {
	types, err := diagram.ParseTypes(o.kind)
	if err != nil {
		return usageError{fmt.Errorf("--diagram-type: %w", err)}
	}
	preset, err := draw.ParsePreset(o.preset)
	if err != nil {
		return usageError{fmt.Errorf("--preset: %w", err)}
	}
	formats := draw.Formats()
	if o.format != "all" {
		if !slices.Contains(formats, o.format) {
			return usageError{fmt.Errorf("--format: there is no format %q: use %s or all", o.format, strings.Join(formats, ", "))}
		}
		formats = []string{o.format}
	}
	if o.dpi < 20 || o.dpi > 1200 {
		return usageError{fmt.Errorf("--dpi: %d is not from 20 to 1200", o.dpi)}
	}
	sources, err := diagramSources(o)
	if err != nil {
		return err
	}
	if o.verbose {
		for _, f := range []*tffiles.Folder{sources.Allocator, sources.VMs} {
			fmt.Fprintf(cmd.ErrOrStderr(), "%s declares %d resources\n", f.Name, len(f.Resources))
		}
	}
	now := time.Now()
	dir := o.folder(now)
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // pictures are to be shown
		return err
	}
	var errs []error
	for _, t := range types {
		paths, err := drawDiagram(cmd.Context(), t, sources, preset, formats, float64(o.dpi), dir)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s is not drawn: %w", t, err))
		}
		for _, path := range paths {
			fmt.Fprintln(cmd.OutOrStdout(), path)
		}
	}
	errs = append(errs, os.WriteFile(filepath.Join(dir, "diagram_metadata.txt"), o.metadata(now, sources, types, formats), 0o644)) //nolint:gosec // as are the pictures
	return errors.Join(errs...)
}

// diagramSources reads the Terraform files.
func diagramSources(o diagramOptions) (diagram.Sources, error) {
	s := diagram.Sources{}
	read := func(dir, builtin string, files fs.FS) (*tffiles.Folder, error) {
		if dir == "" {
			return tffiles.Read(files, builtin)
		}
		return tffiles.Read(os.DirFS(dir), filepath.Clean(dir))
	}
	var err error
	if s.Allocator, err = read(o.terraform, "deploy/aws", deploy.AWS()); err != nil {
		return s, fmt.Errorf("--terraform-dir: %w", err)
	}
	if s.VMs, err = read(o.vms, "the built-in module aws", provision.Builtin("aws")); err != nil {
		return s, fmt.Errorf("--client-vm-terraform-dir: %w", err)
	}
	defaults, err := config.Load(config.Options{})
	if err != nil {
		return s, err
	}
	s.MaxWait = defaults.Poll.MaxWait
	return s, nil
}

// perRun reports whether each run has a folder of its own.
func (o diagramOptions) perRun() bool { return o.timestamp && !o.noTimestamp }

// folder is where the pictures go. Where the script of the Python LabLink had
// folders main and supplementary, each run stands beside them.
func (o diagramOptions) folder(now time.Time) string {
	if !o.perRun() {
		return o.output
	}
	base, category := o.output, "diagrams"
	if last := filepath.Base(o.output); last == "main" || last == "supplementary" {
		base, category = filepath.Dir(o.output), last
	}
	return filepath.Join(base, now.Format("run_20060102_150405"), category)
}

func drawDiagram(ctx context.Context, t diagram.Type, from diagram.Sources, preset draw.Preset, formats []string, dpi float64, dir string) (paths []string, err error) {
	name := func(format string) string { return filepath.Join(dir, t.FileName()+"."+format) }
	for _, format := range formats {
		// An older picture must not be taken for this one, should this one fail.
		if err := os.Remove(name(format)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	picture, err := diagram.New(t, from)
	if err != nil {
		return nil, err
	}
	drawing, err := draw.Draw(ctx, picture, preset)
	if err != nil {
		return nil, err
	}
	for _, format := range formats {
		data, err := drawing.Bytes(format, dpi)
		if err != nil {
			return paths, err
		}
		path := name(format)
		if err := os.WriteFile(path, data, 0o644); err != nil { //nolint:gosec // pictures are to be shown
			return paths, err
		}
		paths = append(paths, path)
	}
	return paths, nil
}

func (o diagramOptions) metadata(now time.Time, s diagram.Sources, types []diagram.Type, formats []string) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "Generated: %s\n", now.Format(time.RFC3339))
	fmt.Fprintf(&b, "LabLink: %s\n", Version)
	fmt.Fprintf(&b, "Terraform source: %s, %d resources\n", s.Allocator.Name, len(s.Allocator.Resources))
	fmt.Fprintf(&b, "Client VM Terraform source: %s, %d resources\n", s.VMs.Name, len(s.VMs.Resources))
	names := make([]string, len(types))
	for i, t := range types {
		names[i] = string(t)
	}
	fmt.Fprintf(&b, "Diagram types: %s\nFormats: %s\nDPI: %d\nFont size preset: %s\nTimestamp runs: %t\n",
		strings.Join(names, ", "), strings.Join(formats, ", "), o.dpi, o.preset, o.perRun())
	return []byte(b.String())
}
