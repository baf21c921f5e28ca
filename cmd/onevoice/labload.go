package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"onevoice/lab"
)

// loadFlags are those of a load beside the lab's own.
type loadFlags struct {
	duration time.Duration
	flows    int
	report   string
	json     bool
}

// What a load is, when nothing is said (OWNERSHIP.md R6).
const (
	loadFor   = 10 * time.Minute
	loadFlows = 10_000
)

// args are the same flags for `lab inside`.
func (f *loadFlags) args() []string {
	return []string{"--for=" + f.duration.String(), fmt.Sprintf("--flows=%d", f.flows), "--report=" + f.report, fmt.Sprintf("--json=%t", f.json)}
}

func (f *loadFlags) run(ctx context.Context, out io.Writer, spec lab.Spec, colour bool) error {
	return lab.RunLoad(ctx, out, f.options(spec, colour))
}

func (f *loadFlags) options(spec lab.Spec, colour bool) lab.LoadOptions {
	return lab.LoadOptions{Spec: spec, For: f.duration, Flows: f.flows, Report: f.report, JSON: f.json, Colour: colour}
}

func newLabLoadCommand() *cobra.Command {
	spec := lab.Spec{}
	var kind string
	var f loadFlags
	cmd := &cobra.Command{
		Use:   "load",
		Short: "Load all nodes to the full, and see that no lease is lost",
		Long: `Keep many flows open through the cluster, move as much over them as this machine
can, let new clients come all the time, and check that no node loses its lease,
none is evicted, and no flow is broken.

A lease that is lost while the whole machine stood still is excused: a thread
beside the cluster, of the same priority as a node's heartbeat, notes when it
could not run either. It exits 0 only if nothing else was lost.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			spec.LAN = lab.Kind(kind)
			o := f.options(spec, false)
			if err := o.Check(); err != nil {
				return usageError{err}
			}
			if f.report != "" {
				var err error
				if f.report, err = filepath.Abs(f.report); err != nil {
					return err
				}
			}
			return enter("load", spec, kind, f.args()...)
		},
	}
	labFlags(cmd, &spec, &kind)
	cmd.Flags().DurationVar(&f.duration, "for", loadFor, "how long")
	cmd.Flags().IntVar(&f.flows, "flows", loadFlows, "how many flows are open all the time")
	cmd.Flags().StringVar(&f.report, "report", "", "write the result as JSON to this `file`")
	cmd.Flags().BoolVar(&f.json, "json", false, "print the result as JSON")
	return cmd
}

func newLabBystanderCommand() *cobra.Command {
	var raised bool
	cmd := &cobra.Command{
		Use:    lab.BystanderCommand,
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE:   func(cmd *cobra.Command, _ []string) error { return lab.Bystand(cmd.OutOrStdout(), raised) },
	}
	cmd.Flags().BoolVar(&raised, "raised", false, "")
	return cmd
}
