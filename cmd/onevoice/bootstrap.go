package main

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/spf13/cobra"

	"onevoice/config"
)

// founding is how a cluster may be founded before all its peers are there.
type founding struct {
	// without are peers that nobody waits for, as the operator has named them.
	without []string
	// forced: the operator vouches that they are off, and stay away.
	forced bool
}

func newBootstrapCommand() *cobra.Command {
	var file string
	var f founding
	cmd := &cobra.Command{
		Use:   "bootstrap --without NODE...",
		Short: "Found the cluster before all nodes are there, then run",
		Long: `Found the cluster before all its nodes are there; then go on as run does.

Without this, run founds a cluster as soon as all peers of the file have found
each other with empty state directories. NODE is a peer, by its address, that is
not waited for; it joins later. Call it on one node; run does on the others.
Once there is a cluster it does what run does.

A majority of the peers has to be there, or two halves of a cut network could
each found a cluster. With --` + fencedFlag + ` you vouch that the
peers left out are off, or hold no state, and less is enough.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(f.without) == 0 {
				return usageError{errors.New("nobody is to be left out, so run is enough; name nodes with --without")}
			}
			log := newLog(cmd.ErrOrStderr())
			return run(file, "", f, log)
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", configFromEnvironment(), "`file`")
	cmd.Flags().StringSliceVar(&f.without, "without", nil, "found the cluster without this `node`")
	cmd.Flags().BoolVar(&f.forced, fencedFlag, false, "the nodes left out are off, or hold no state")
	return cmd
}

// leftOut are the peers that are not waited for.
func (f founding) leftOut(cfg *config.Config, self netip.Addr) ([]netip.Addr, error) {
	named := slices.Clone(cfg.Cluster.Peers)
	if w := cfg.Cluster.Witness; w.IsValid() {
		named = append(named, w.Addr())
	}
	var out []netip.Addr
	for _, text := range f.without {
		a, err := netip.ParseAddr(text)
		switch {
		case err != nil || !slices.Contains(named, a):
			return nil, usageError{fmt.Errorf("--without %s: that is no peer of the file; name one of %s", text, join(named))}
		case a == self:
			return nil, usageError{fmt.Errorf("--without %s: that is this node", text)}
		case !slices.Contains(out, a):
			out = append(out, a)
		}
	}
	if left, most := len(named)-len(out), len(named)/2+1; len(out) > 0 && left < most && !f.forced {
		return nil, usageError{fmt.Errorf("%d of %d peers are left, and a majority is %d; leave fewer out, or make sure that those left out are off and say so with --%s", left, len(named), most, fencedFlag)}
	}
	return out, nil
}
