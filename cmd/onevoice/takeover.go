package main

import (
	"github.com/spf13/cobra"

	"onevoice/admin"
)

func newTakeoverCommand() *cobra.Command {
	var socket, to string
	cmd := &cobra.Command{
		Use:   "takeover NODE",
		Short: "Answer for the clients of another system's node that is gone",
		Long: `Answer for the clients of another system's node that is gone.

NODE is a name in a service's "local" that no node of this cluster had when the
service was defined: a node of CLUSTERIP, xt_cluster and the like. Its numbers
stay its own until this command, whatever happens to it, for this cluster cannot
see whether it still answers. Take the VIP and the rules off that host first;
what its users send next is answered with a reset, and they log in anew.

All its numbers, in all services, go to the node of this cluster that has the
same name, or to the one that --to names. It may be asked on any node of the
cluster. docs/migrate.md has the whole way.`,
		Example: `  onevoice takeover unix2
  onevoice takeover unix4 --to unix1`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return admin.Tell(cmd.Context(), socket, admin.Wish{Do: admin.DoTakeover, Node: args[0], To: to})
		},
	}
	socketFlag(cmd, &socket)
	cmd.Flags().StringVar(&to, "to", "", "`node` that gets its numbers (default of its name)")
	return cmd
}
