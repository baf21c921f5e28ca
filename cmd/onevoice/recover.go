package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"onevoice/cluster"
	"onevoice/config"
	"onevoice/control"
)

// fencedFlag is what an operator vouches for.
const fencedFlag = "i-have-fenced-the-others"

func newRecoverCommand() *cobra.Command {
	var file string
	var fenced bool
	cmd := &cobra.Command{
		Use:   "recover",
		Short: "Make a new cluster of this node when the majority is lost",
		Long: `Make a new cluster of this node, when the majority is lost for good.

The daemon must be stopped here. The new cluster consists of this node alone;
the others join it as new nodes, with empty state directories.

With --` + fencedFlag + ` you vouch that none of the others runs, and that
none will be started again with its old state directory. If one of them runs
after all, two nodes may answer for the same client, and nothing can prevent it.
Without the flag the command says what it would do, and does nothing.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load(file)
			if err != nil {
				return err
			}
			return recoverCluster(cmd.OutOrStdout(), cfg.Node.StateDir, fenced)
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", configFromEnvironment(), "`file`")
	cmd.Flags().BoolVar(&fenced, fencedFlag, false, "none of the others runs, or ever will")
	return cmd
}

func recoverCluster(out io.Writer, dir string, fenced bool) error {
	if !fenced {
		r, err := control.LookRecover(dir)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "This node would go on as a cluster of its own, and forget %s.\n", hostNames(r.Forgotten))
		return usageError{errors.New("nothing was changed; make sure that all of these are off, and say so with --" + fencedFlag)}
	}
	r, err := control.Recover(dir, [16]byte(randomBytes(16)))
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "Cluster %q consists of this node alone now; it has forgotten %s.\n", r.Cluster, hostNames(r.Forgotten))
	fmt.Fprintf(out, "Start it here, empty [node] state_dir on each of the others, and start them: they join as new nodes.\n")
	return nil
}

// hostNames are hosts for people.
func hostNames(hosts []cluster.Host) string {
	if len(hosts) == 0 {
		return "nobody"
	}
	var out []string
	for _, h := range hosts {
		out = append(out, fmt.Sprintf("%s (%s)", h.Name, h.Address))
	}
	return strings.Join(out, ", ")
}
