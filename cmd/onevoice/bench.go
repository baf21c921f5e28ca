package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"onevoice/bench"
	"onevoice/lab"
)

// benchFlags are what is given to the process inside the lab as well.
type benchFlags struct {
	o     bench.Options
	quick bool
}

func (f *benchFlags) add(cmd *cobra.Command) {
	cmd.Flags().IntVar(&f.o.Rounds, "rounds", 0, fmt.Sprintf("how often each path has its turn (default %d)", bench.DefaultRounds))
	cmd.Flags().IntVar(&f.o.Seconds, "seconds", 0, fmt.Sprintf("how long each measurement takes (default %d)", bench.DefaultSeconds))
	cmd.Flags().StringSliceVar(&f.o.Only, "only", nil, "these `rows` alone, with commas between")
	cmd.Flags().StringSliceVar(&f.o.Peers, "peers", nil, "these `paths` alone, with commas between")
	cmd.Flags().StringVar(&f.o.MACMode, "mac-mode", "", "`mode` of ours: multicast (default) or unicast")
}

// args are the same flags for the process inside.
func (f *benchFlags) args() []string {
	return []string{fmt.Sprintf("--rounds=%d", f.o.Rounds), fmt.Sprintf("--seconds=%d", f.o.Seconds),
		"--only=" + strings.Join(f.o.Only, ","), "--peers=" + strings.Join(f.o.Peers, ","), "--mac-mode=" + f.o.MACMode}
}

func newBenchCommand() *cobra.Command {
	var f benchFlags
	var out benchOutput
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure this program beside others on this machine",
		Long: `Measure the kernel without a proxy, the kernel's cluster match, HAProxy, nginx
and this program in front of the same service, one after the other in each
round, in network namespaces on this machine.

Rows:   ` + listed(bench.TestNames()) + `
Paths:  ` + listed(bench.PathNames()) + `

What is not installed is named and skipped; "make bench-deps" installs it all.
The machine should do nothing else meanwhile.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if out.read != "" {
				return out.again(cmd.OutOrStdout())
			}
			f.o.SetDefaults(f.quick)
			if err := f.o.Check(); err != nil {
				return usageError{err}
			}
			if err := out.check(); err != nil {
				return err
			}
			r, err := benchInLab(f.args())
			if err != nil {
				return err
			}
			if r.Interrupted {
				err = errors.New("interrupted before the last round was complete")
			}
			return errors.Join(err, out.write(cmd.OutOrStdout(), r))
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&f.quick, "quick", false, fmt.Sprintf("%d short rounds of the main rows, in less than 5 minutes", bench.QuickRounds))
	out.add(cmd)
	return cmd
}

// listed is a list for a help text, broken to the width of a terminal.
func listed(names []string) string {
	const width, indent = 72, "\n        "
	var b strings.Builder
	column := 0
	for i, name := range names {
		if i < len(names)-1 {
			name += ","
		}
		if column > 0 && column+1+len(name) > width {
			b.WriteString(indent)
			column = 0
		} else if column > 0 {
			b.WriteByte(' ')
			column++
		}
		b.WriteString(name)
		column += len(name)
	}
	return b.String()
}

// benchOutput says what becomes of a report.
type benchOutput struct {
	asJSON          bool
	read, html, svg string
}

func (o *benchOutput) add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&o.asJSON, "json", false, "print the report as JSON")
	cmd.Flags().StringVar(&o.html, "html", "", "write a page with bars to this `file`")
	cmd.Flags().StringVar(&o.svg, "svg", "", "write a picture of bars to this `file`")
	cmd.Flags().StringVar(&o.read, "read", "", "measure nothing; show what --json wrote to this `file`")
}

// check makes the files, so that nobody measures for an hour to hear that they
// cannot be written.
func (o *benchOutput) check() error {
	nothing := func(io.Writer) error { return nil }
	return errors.Join(drawFile(o.html, nothing), drawFile(o.svg, nothing))
}

// again shows an older report.
func (o *benchOutput) again(out io.Writer) error {
	text, err := os.ReadFile(o.read)
	if err != nil {
		return err
	}
	r := &bench.Report{}
	if err := json.Unmarshal(text, r); err != nil || len(r.Rows) == 0 {
		return fmt.Errorf("%s is no report of `onevoice bench --json`", o.read)
	}
	return o.write(out, r)
}

// write writes the report wherever it was wanted.
func (o *benchOutput) write(out io.Writer, r *bench.Report) error {
	errs := []error{drawFile(o.html, r.HTML), drawFile(o.svg, r.SVG)}
	if o.asJSON {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		return errors.Join(append(errs, enc.Encode(r))...)
	}
	r.Table(out, colour())
	return errors.Join(errs...)
}

// drawFile writes a file, if there is to be one.
func drawFile(name string, write func(io.Writer) error) error {
	if name == "" {
		return nil
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}

// benchInLab runs the harness in namespaces of its own and gets its report.
func benchInLab(args []string) (*bench.Report, error) {
	result, child, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer result.Close()
	// The lab is to end with us, and the kernel means the thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := lab.Enter(append([]string{benchInsideCommand}, args...), true, child)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	// The lab takes itself down on a signal.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	err = cmd.Start()
	child.Close()
	if err != nil {
		return nil, lab.ExplainEnter(err)
	}
	defer context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })()
	text, errRead := io.ReadAll(result)
	if err := exited(cmd.Wait()); err != nil {
		return nil, err
	}
	r := &bench.Report{}
	if err := errors.Join(errRead, json.Unmarshal(text, r)); err != nil {
		return nil, err
	}
	if r.Environment.Commit == "" {
		r.Environment.Commit = commitBeside()
	}
	return r, nil
}

// commitBeside is what git says of the sources around this program, for one that
// was built without; empty where there are none.
func commitBeside() string {
	self, err := os.Executable()
	if err != nil {
		return ""
	}
	text, err := exec.Command("git", "-C", filepath.Dir(self), "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*").Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// benchInsideCommand is the hidden command of `lab` that measures.
const benchInsideCommand = "bench"

// newBenchInsideCommand does the work inside the namespaces.
func newBenchInsideCommand() *cobra.Command {
	var f benchFlags
	cmd := &cobra.Command{
		Use:    benchInsideCommand,
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			result := lab.PassedFile(0)
			r, err := bench.Run(ctx, os.Stderr, f.o)
			if err != nil {
				return err
			}
			return errors.Join(json.NewEncoder(result).Encode(r), result.Close())
		},
	}
	f.add(cmd)
	return cmd
}

func newBenchDNSCommand() *cobra.Command {
	return &cobra.Command{
		Use:    bench.DNSCommand + " ADDRESS",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE:   func(_ *cobra.Command, args []string) error { return bench.ServeDNS(args[0]) },
	}
}
