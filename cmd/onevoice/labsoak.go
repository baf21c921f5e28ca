package main

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"onevoice/lab"
)

// soakFlags are those of a soak beside the lab's own and those of a torture.
type soakFlags struct {
	duration time.Duration
	rate     int
	evidence string
	json     bool
}

// What a soak is, when nothing is said.
const (
	soakFor  = 10 * time.Minute
	soakRate = 300
)

// args are the same flags for `lab inside`.
func (f *soakFlags) args() []string {
	return []string{"--for=" + f.duration.String(), fmt.Sprintf("--rate=%d", f.rate), "--evidence=" + f.evidence, fmt.Sprintf("--json=%t", f.json)}
}

func (f *soakFlags) options(spec lab.Spec, t *tortureFlags, colour bool) lab.SoakOptions {
	return lab.SoakOptions{Spec: spec, For: f.duration, Seed: t.seed, Rate: f.rate, SSH: t.ssh, TCP: t.tcp,
		Evidence: f.evidence, Report: t.report, JSON: f.json, Colour: colour}
}

func newLabSoakCommand() *cobra.Command {
	spec := lab.Spec{}
	var kind string
	var f soakFlags
	var t tortureFlags
	cmd := &cobra.Command{
		Use:   "soak",
		Short: "All loads and faults by chance, until something breaks",
		Long: `Put all loads on a cluster at once, let faults come by chance, and judge
every frame and every client, until the time is over or something breaks that
must hold.

The loads are sessions of SSH and other flows that live long, short connections
as to a web server, some of them bulk, and names by UDP, all over IPv4 and IPv6.
What happens to the nodes: they are killed, stopped, stalled, drained, upgraded
and given other weights, their control processes and backends are killed, their
cables are cut, the LAN is parted, and SYNs come in floods. The processes of the
first node are not ended: its memory is looked at all the time. A soak of ten
minutes and more begins with a flood and a rest, so that the room which tables
take and keep is no growth.

After a breach the last frames, the logs and the result are in the directory of
--evidence, and the same --seed makes the same faults. It exits 0 only if
nothing broke, nothing is left behind, and the memory does not grow.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			spec.LAN = lab.Kind(kind)
			o := f.options(spec, &t, false)
			if err := o.Check(); err != nil {
				return usageError{err}
			}
			for _, path := range []*string{&f.evidence, &t.report} {
				if *path == "" {
					continue
				}
				var err error
				if *path, err = filepath.Abs(*path); err != nil {
					return err
				}
			}
			return enter("soak", spec, kind, append(f.args(), t.args()...)...)
		},
	}
	labFlags(cmd, &spec, &kind)
	cmd.Flags().DurationVar(&f.duration, "for", soakFor, "how long")
	cmd.Flags().IntVar(&f.rate, "rate", soakRate, "short connections a second")
	cmd.Flags().StringVar(&f.evidence, "evidence", "soak", "made when something breaks: `dir`")
	cmd.Flags().BoolVar(&f.json, "json", false, "print the result as JSON")
	cmd.Flags().Uint64Var(&t.seed, "seed", 1, "chooses faults, nodes and times")
	cmd.Flags().IntVar(&t.ssh, "ssh", tortureSSH, "live SSH sessions")
	cmd.Flags().IntVar(&t.tcp, "tcp", tortureTCP, "live flows without SSH")
	cmd.Flags().StringVar(&t.report, "report", "", "write the result as JSON to this `file`")
	return cmd
}
