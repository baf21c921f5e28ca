package main

import (
	"fmt"
	"net/netip"

	"github.com/spf13/cobra"

	"onevoice/admin"
	"onevoice/cluster"
)

func newRemapCommand() *cobra.Command {
	var socket string
	cmd := &cobra.Command{
		Use:   "remap SERVICE",
		Short: "Have the cluster share a service as this host's file says",
		Long: `Have the cluster share a service as this host's file says.

What a service listens on and how its clients are shared, its affinity, hash
and pins, is the cluster's, and counts until this command. A node whose file
says another thing takes no bucket of the service. So change the files and
restart the nodes one by one; when some are done, run this on one of them. New
connections then go by the new definition, within a second, to nodes whose
file has it; running ones stay where they are. Then restart the rest. With the
same definition it makes another hash key.

SERVICE may also be a VIP's address. Where it is, its MAC, interface and VLAN,
is the cluster's too: after all nodes were restarted with another mac_mode,
nobody answers for it until this command.

It is refused while nodes of another system own buckets of the service.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return admin.Tell(cmd.Context(), socket, admin.Wish{Do: admin.DoRemap, Service: args[0]})
		},
	}
	socketFlag(cmd, &socket)
	return cmd
}

// remap is the service's definition in this host's file, under a key that nobody knows.
func (d *daemon) remap(service string) (cluster.Wish, error) {
	options, err := d.clusterOptions()
	if err != nil {
		return nil, err
	}
	if vip, err := netip.ParseAddr(service); err == nil {
		service = vipService(vip)
	}
	for _, s := range options.Services {
		if s.Name == service {
			return cluster.Remap{Service: service, Mapping: cluster.Mapping{Digest: s.Digest, Key: options.NewKey, Sharing: s.Sharing}}, nil
		}
	}
	return nil, fmt.Errorf("this host's file has no service called %q", service)
}
