package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"onevoice/admin"
	"onevoice/control"
	"onevoice/stack"
)

func newFlowsCommand() *cobra.Command {
	var socket, service string
	var asJSON, kill bool
	cmd := &cobra.Command{
		Use:   "flows [CLIENT]",
		Short: "List the running flows of this host, or end some",
		Long: `List the running flows of this host, oldest first. CLIENT is an address, a
prefix such as 192.0.2.0/24, or an address with a port; without it all are
listed.

With --kill those flows are ended, of TCP with a reset to client and service.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if kill && len(args) == 0 {
				return usageError{errors.New("--kill needs to know whose flows; write an address or a prefix")}
			}
			which := control.Kill{Service: service}
			any := len(args) == 0
			if !any {
				var err error
				if which.Clients, which.Port, err = clients(args[0]); err != nil {
					return usageError{err}
				}
			}
			if kill {
				n, err := admin.EndFlows(cmd.Context(), socket, which)
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d ended\n", n)
				return err
			}
			s, err := admin.Ask(cmd.Context(), socket, admin.Wanted{Flows: true})
			if err != nil {
				return err
			}
			all := len(s.Running)
			running := slices.DeleteFunc(s.Running, func(f stack.FlowStatus) bool {
				at, err := netip.ParseAddrPort(f.Client)
				return err != nil || service != "" && f.Service != service || !any && !which.Takes(at, f.Service)
			})
			if asJSON {
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetIndent("", "  ")
				return enc.Encode(append([]stack.FlowStatus{}, running...))
			}
			if len(running) == 0 {
				_, err := fmt.Fprintln(cmd.OutOrStdout(), wrapped("", noFlows(all, service, args)))
				return err
			}
			return listFlows(cmd.OutOrStdout(), running)
		},
	}
	socketFlag(cmd, &socket)
	cmd.Flags().StringVar(&service, "service", "", "only those of this service (`NAME`)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print them as JSON")
	cmd.Flags().BoolVar(&kill, "kill", false, "end them")
	return cmd
}

// clients reads who is meant; a port of 0 is any.
func clients(text string) (netip.Prefix, uint16, error) {
	if p, err := netip.ParsePrefix(text); err == nil {
		return p, 0, nil
	}
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a, a.BitLen()), 0, nil
	}
	if a, err := netip.ParseAddrPort(text); err == nil && a.Addr().Zone() == "" {
		return netip.PrefixFrom(a.Addr(), a.Addr().BitLen()), a.Port(), nil
	}
	return netip.Prefix{}, 0, fmt.Errorf("%q is no client; write an address, a prefix such as 192.0.2.0/24, or an address with a port", text)
}

// noFlows says what was looked at in vain: all flows of this host, or those of a service
// or a client among them.
func noFlows(all int, service string, client []string) string {
	if all == 0 {
		return "no flow runs on this host"
	}
	what := fmt.Sprintf("of %d running on this host, no flow is", all)
	for _, c := range client {
		what += " from " + c
	}
	if service != "" {
		what += " of service " + service
	}
	return what
}

// age is how long a flow has been there, "-" where that is not known.
func age(seconds float64) string {
	if seconds < 0 {
		return "-"
	}
	return duration(seconds)
}

func listFlows(out io.Writer, running []stack.FlowStatus) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "CLIENT\tSERVICE\tSTATE\tFOR\tUP\tDOWN")
	for _, f := range running {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", f.Client, f.Service, f.State, age(f.Seconds), bytesText(f.BytesUp), bytesText(f.BytesDown))
	}
	return w.Flush()
}
