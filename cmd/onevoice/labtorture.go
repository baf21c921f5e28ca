package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"

	"github.com/spf13/cobra"

	"onevoice/lab"
)

// tortureFlags are those of a torture beside the lab's own.
type tortureFlags struct {
	short    bool
	seed     uint64
	rounds   int
	ssh, tcp int
	report   string
}

// Flows of a torture, when nothing is said.
const (
	tortureSSH, tortureTCP = 20, 80
	shortSSH, shortTCP     = 8, 24
)

func (f *tortureFlags) add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.short, "short", false, "one or two rounds of each kind, in less than a minute")
	cmd.Flags().Uint64Var(&f.seed, "seed", 1, "chooses rounds, nodes and times")
	cmd.Flags().IntVar(&f.rounds, "rounds", 0, "end after so many rounds, 0 for all")
	cmd.Flags().IntVar(&f.ssh, "ssh", 0, fmt.Sprintf("live SSH sessions (default %d, short %d)", tortureSSH, shortSSH))
	cmd.Flags().IntVar(&f.tcp, "tcp", 0, fmt.Sprintf("live flows without SSH (default %d, short %d)", tortureTCP, shortTCP))
	cmd.Flags().StringVar(&f.report, "report", "", "write the result as JSON to this `file`")
}

// args are the same flags for `lab inside`.
func (f *tortureFlags) args() []string {
	return []string{fmt.Sprintf("--short=%t", f.short), fmt.Sprintf("--seed=%d", f.seed), fmt.Sprintf("--rounds=%d", f.rounds),
		fmt.Sprintf("--ssh=%d", f.ssh), fmt.Sprintf("--tcp=%d", f.tcp), "--report=" + f.report}
}

func (f *tortureFlags) run(ctx context.Context, out io.Writer, spec lab.Spec, pcap string, colour bool) error {
	o := lab.TortureOptions{Spec: spec, Counts: lab.FullTorture(), Seed: f.seed, Rounds: f.rounds, SSH: f.ssh, TCP: f.tcp, Report: f.report, Pcap: pcap, Colour: colour}
	if f.short {
		o.Counts = lab.ShortTorture()
	}
	return lab.RunTorture(ctx, out, o)
}

// setDefaults chooses how many flows, when nothing was said.
func (f *tortureFlags) setDefaults(cmd *cobra.Command) {
	ssh, tcp := tortureSSH, tortureTCP
	if f.short {
		ssh, tcp = shortSSH, shortTCP
	}
	if !cmd.Flags().Changed("ssh") {
		f.ssh = ssh
	}
	if !cmd.Flags().Changed("tcp") {
		f.tcp = tcp
	}
}

func newLabTortureCommand() *cobra.Command {
	spec := lab.Spec{}
	var kind, pcap string
	var f tortureFlags
	cmd := &cobra.Command{
		Use:   "torture",
		Short: "Kill, stall and cut off nodes, and see who notices",
		Long: `Kill, stall and cut off nodes again and again under live flows, flood them with
SYNs, and check after each round that no client noticed more than it must: flows
of living nodes go on, users of a dead node are told, new clients wait for one
retransmission at most. The sniffer judges all frames meanwhile.

The same seed makes the same rounds. It takes about an hour, with --short less
than a minute, and exits 0 only if nothing was broken.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f.setDefaults(cmd)
			o := lab.TortureOptions{Spec: spec, SSH: f.ssh, TCP: f.tcp}
			o.Spec.LAN = lab.Kind(kind)
			if err := o.Check(); err != nil {
				return usageError{err}
			}
			if f.report != "" {
				var err error
				if f.report, err = filepath.Abs(f.report); err != nil {
					return err
				}
			}
			return enter("torture", spec, kind, append(f.args(), "--pcap="+pcap)...)
		},
	}
	labFlags(cmd, &spec, &kind)
	f.add(cmd)
	cmd.Flags().StringVar(&pcap, "pcap", "", "write the headers of all frames on the LAN to this `file`")
	return cmd
}

func newLabBeatCommand() *cobra.Command {
	return &cobra.Command{
		Use:    lab.BeatCommand + " NODE ADDRESS…",
		Hidden: true,
		Args:   cobra.MinimumNArgs(2),
		RunE:   func(_ *cobra.Command, args []string) error { return lab.ServeBeat(args[0], args[1:]...) },
	}
}

func newLabNamesCommand() *cobra.Command {
	var ipv6 bool
	cmd := &cobra.Command{
		Use:    lab.NamesCommand + " NODE",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE:   func(_ *cobra.Command, args []string) error { return lab.ServeNames(args[0], ipv6) },
	}
	cmd.Flags().BoolVar(&ipv6, "ipv6", false, "also at ::1")
	return cmd
}
