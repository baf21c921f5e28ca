package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"onevoice/lab"
)

func newLabUpgradeCommand() *cobra.Command {
	o := lab.UpgradeOptions{}
	var kind string
	cmd := &cobra.Command{
		Use:   "upgrade",
		Short: "Upgrade the nodes in turn, and see that nobody notices",
		Long: `Upgrade every node, one after the other, under a session by SSH on each, a scp
that is under way (where the machine has sshd and scp), many flows, a new client
each 100 ms and a login each second. It exits 0 only if all were served and no
session was broken.`,
		Args: cobra.NoArgs,
		RunE: func(_ *cobra.Command, _ []string) error {
			if err := o.Check(); err != nil {
				return usageError{err}
			}
			return enter("upgrade", o.Spec, kind, fmt.Sprintf("--times=%d", o.Times), fmt.Sprintf("--flows=%d", o.Flows))
		},
	}
	labFlags(cmd, &o.Spec, &kind)
	cmd.Flags().IntVar(&o.Times, "times", 3, "how often each node is upgraded")
	cmd.Flags().IntVar(&o.Flows, "flows", 300, "how many flows run beside the sessions")
	return cmd
}
