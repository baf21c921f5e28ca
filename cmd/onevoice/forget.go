package main

import (
	"github.com/spf13/cobra"

	"onevoice/admin"
)

func newForgetCommand() *cobra.Command {
	var socket string
	cmd := &cobra.Command{
		Use:   "forget NODE",
		Short: "Remove a node that is out, for good",
		Long: `Remove a node that is out, for good.

NODE is a name or an address. It must not run: stop it first. This returns when
nobody waits for its sessions any more, some 3 s after it stopped. It loses its
vote, its weight and its pins, and "onevoice status" no longer tells of it. Take
it out of [cluster] peers as well. To bring it back later, give it an empty
state directory: it joins as a new node. With its old one it is told that it was
removed, and gets no clients.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return admin.Tell(cmd.Context(), socket, admin.Wish{Do: admin.DoForget, Node: args[0]})
		},
	}
	socketFlag(cmd, &socket)
	return cmd
}
