package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"onevoice/lab"
)

func newLabMovesCommand() *cobra.Command {
	o := lab.MoveOptions{}
	var kind string
	cmd := &cobra.Command{
		Use:   "moves",
		Short: "Move a bucket again and again under its flows",
		Long: `Move the bucket of one client from node to node under many flows of that
client, and replace one of them at each move, so that all nodes come to hold
some. It exits 0 only if no flow ended and no node sent a reset.`,
		Args: cobra.NoArgs,
		RunE: func(_ *cobra.Command, _ []string) error {
			if err := o.Check(); err != nil {
				return usageError{err}
			}
			return enter("moves", o.Spec, kind, fmt.Sprintf("--times=%d", o.Times), fmt.Sprintf("--flows=%d", o.Flows))
		},
	}
	labFlags(cmd, &o.Spec, &kind)
	cmd.Flags().IntVar(&o.Times, "times", 100, "how often the bucket moves")
	cmd.Flags().IntVar(&o.Flows, "flows", 100, "how many flows run at each move")
	return cmd
}
