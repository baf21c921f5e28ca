package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"onevoice/admin"
	"onevoice/admission"
	"onevoice/stack"
)

const defaultSocket = "/run/onevoice/onevoice.sock"

func newStatusCommand() *cobra.Command {
	var socket string
	var asJSON, flows, collect bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show how the cluster is, as the daemon on this host sees it",
		Long: `Show how the cluster is, as the daemon on this host sees it: first what is wrong
and what to do, worst first. The environment's ONEVOICE_SOCKET names the
daemon's socket for this and all other commands that ask it.

HEARD is when a node was last heard on the shared MAC. EPOCH counts its starts
and returns. BUCKETS is its share of the first service. FLOWS are those that it
serves, as each node tells every 10 s. DRAINS is in how many buckets it may hold
flows that it does not own any more. HEARS, below, is what each node says that
it hears of the others.

A node that is serving, coming or draining holds a lease: it may answer. It is
coming while it takes its share bit by bit, drained when it has nothing left,
OUT when the others have its buckets, and DEAD when they reset its flows.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := admin.Ask(cmd.Context(), socket, admin.Wanted{Table: asJSON, Flows: flows || asJSON, Collect: collect})
			if err != nil {
				return err
			}
			if asJSON {
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetIndent("", "  ")
				return enc.Encode(s)
			}
			return printStatus(cmd.OutOrStdout(), s)
		},
	}
	cmd.Flags().StringVar(&socket, "socket", socketFromEnvironment(), "ask at this `path`")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print all as JSON, with table and running flows")
	cmd.Flags().BoolVar(&flows, "flows", false, "list the running flows as well")
	cmd.Flags().BoolVar(&collect, "gc", false, "collect garbage first and report what is left")
	return cmd
}

// socketFromEnvironment is the socket that commands ask by default.
func socketFromEnvironment() string {
	return cmp.Or(os.Getenv("ONEVOICE_SOCKET"), defaultSocket)
}

// columns is how wide a status is at most, where names and addresses are not long.
const columns = 80

func printStatus(out io.Writer, s *admin.Status) error {
	for _, w := range s.Warnings {
		fmt.Fprintln(out, wrapped("WARNING  ", w))
	}
	for _, n := range s.News {
		fmt.Fprintln(out, wrapped("NEWS     ", n))
	}
	if len(s.Warnings)+len(s.News) > 0 {
		fmt.Fprintln(out)
	}
	fmt.Fprintf(out, "%s of cluster %s, %s, up %s, onevoice %s\n\n", s.Node, s.Cluster, leaseText(s), duration(s.Uptime), s.Version)
	if err := printCluster(out, s); err != nil {
		return err
	}
	if witnessing(s) {
		printRights(out, s)
		return nil
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SERVICE\tLISTEN\tBACKEND\tSTATE\tBUCKETS\tFLOWS")
	for _, v := range s.Services {
		state := "up"
		if !v.Up {
			state = "DOWN"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%d\n", v.Name, v.Listen, v.Backend, state, v.Buckets, v.Flows)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if err := printTurnedAway(out, s); err != nil {
		return err
	}
	fmt.Fprintf(w, "\nFLOWS\trunning %d of %d\taccepted %d\tfinished %d\tbroken %d\trefused %d\n",
		s.Flows.Running, s.Flows.Limit, s.Flows.Accepted, s.Flows.Finished, s.Flows.Broken, s.Flows.Refused)
	fmt.Fprintf(w, "BYTES\tup %s\tdown %s\n", bytesText(s.Flows.BytesUp), bytesText(s.Flows.BytesDown))
	for i := range s.Workers {
		if m := s.Workers[i].Memory; m == stack.Tight.String() || m == stack.Full.String() {
			fmt.Fprintf(w, "MEMORY\t%s on %s: see [node] memory_mib\n", m, s.Workers[i].Uplink)
		}
	}
	if d := &s.Datagrams; d.Limit > 0 {
		fmt.Fprintf(w, "UDP\tflows %d of %d\tdatagrams up %d\tdown %d\tunreachable %d\tlost %d\n",
			d.Flows, d.Limit, d.DatagramsUp, d.DatagramsDown, d.Unreachable, d.LostUp+d.LostDown+d.NoSocket)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	printPrefixFiles(out, s)
	printFilter(out, s)
	printRights(out, s)
	if err := printDirect(out, s); err != nil {
		return err
	}
	if err := printVerdicts(out, "VERDICTS ON FRAMES", s.Verdicts); err != nil {
		return err
	}
	return printFlows(out, s)
}

// printTurnedAway tells of what services have not admitted.
func printTurnedAway(out io.Writer, s *admin.Status) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	head := "\nTURNED AWAY\tDENIED\tOVER RATE\tSOURCE FULL\tNODE FULL\n"
	for _, v := range s.Services {
		if c := v.TurnedAway; c != nil && *c != (admission.Counts{}) {
			fmt.Fprintf(w, "%s%s\t%d\t%d\t%d\t%d\n", head, v.Name, c.Denied, c.OverRate, c.SourceFull, c.NodeFull)
			head = ""
		}
	}
	return w.Flush()
}

// wrapped breaks a sentence at spaces; what follows the first line stands under
// it.
func wrapped(head, text string) string {
	var b strings.Builder
	b.WriteString(head)
	at := len(head)
	for i, word := range strings.Fields(text) {
		switch n := utf8.RuneCountInString(word); {
		case i == 0:
			at += n
		case at+1+n > columns:
			b.WriteString("\n" + strings.Repeat(" ", len(head)))
			at = len(head) + n
		default:
			b.WriteByte(' ')
			at += 1 + n
		}
		b.WriteString(word)
	}
	return b.String()
}

// witnessing: it is a witness that tells.
func witnessing(s *admin.Status) bool {
	return slices.ContainsFunc(s.Nodes, func(n admin.NodeStatus) bool { return n.Self && n.Witness })
}

// leaseText says what the one who tells may do.
func leaseText(s *admin.Status) string {
	switch {
	case witnessing(s):
		return "a witness"
	case s.Leased:
		return "holds a lease"
	}
	return "holds NO lease"
}

// printCluster shows the VIPs and the nodes. Buckets are those of the first
// service: a VIP's own tell only who answers for its address.
func printCluster(out io.Writer, s *admin.Status) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	if len(s.VIPs) > 0 {
		fmt.Fprintln(w, "VIP\tCLUSTER MAC\tMODE")
		for _, v := range s.VIPs {
			fmt.Fprintf(w, "%s\t%s\t%s\n", v.Address, v.MAC, v.MACMode)
		}
		fmt.Fprintln(w)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if err := printNodes(out, s); err != nil {
		return err
	}
	for _, f := range s.Foreign {
		fmt.Fprintln(out, wrapped("OTHERS   ", foreignText(&f)))
	}
	if len(s.Foreign) > 0 {
		fmt.Fprintln(out)
	}
	return nil
}

// foreignText says what another system's node answers for.
func foreignText(f *admin.ForeignStatus) string {
	var of []string
	for _, service := range sortedNames(f.Numbers) {
		numbers := fmt.Sprint(f.Numbers[service])
		of = append(of, fmt.Sprintf("%s of %s", strings.Trim(numbers, "[]"), service))
	}
	return fmt.Sprintf("%s, another system's node, answers for number %s", f.Name, strings.Join(of, ", "))
}

// printFilter says where other nodes' frames are dropped, by the workers in use, and
// how many the kernel has dropped for all workers.
func printFilter(out io.Writer, s *admin.Status) {
	if s.Active() == nil {
		return
	}
	said := map[string]bool{}
	for i := range s.Workers {
		if text := s.Workers[i].Filter.String(); !s.Workers[i].Retired && !said[text] {
			said[text] = true
			fmt.Fprintln(out, "\n"+wrapped("FILTER   ", text))
		}
	}
	if s.Filtered != (admin.Filtered{}) {
		fmt.Fprintln(out, wrapped("         ", fmt.Sprintf("dropped by the socket filter, for other nodes: %d; by TCX, for this host's own stack: %d",
			s.Filtered.Foreign, s.Filtered.ForHost)))
	}
	if s.Filtered.AnsweredSYNs > 0 {
		fmt.Fprintln(out, wrapped("         ", fmt.Sprintf("answered by TCX with SYN cookies, in floods: %d", s.Filtered.AnsweredSYNs)))
	}
	if s.Device.KernelDropped+s.Device.Truncated > 0 {
		fmt.Fprintln(out, wrapped("QUEUE    ", fmt.Sprintf("%d frames came faster than they were taken, and were dropped; %d were too long",
			s.Device.KernelDropped, s.Device.Truncated)))
	}
}

// printVerdicts shows the verdicts that were given at all, most frequent first,
// in two columns.
func printVerdicts(out io.Writer, head string, counts map[string]uint64) error {
	var names []string
	for name, n := range counts {
		if n > 0 {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), strings.Compare(a, b))
	})
	fmt.Fprintln(out, "\n"+head)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for i := 0; i < len(names); i += 2 {
		fmt.Fprintf(w, "%s\t%d", names[i], counts[names[i]])
		if i+1 < len(names) {
			fmt.Fprintf(w, "\t  %s\t%d", names[i+1], counts[names[i+1]])
		}
		fmt.Fprintln(w)
	}
	if len(names) == 0 {
		fmt.Fprintln(w, "none yet")
	}
	return w.Flush()
}

func printFlows(out io.Writer, s *admin.Status) error {
	if len(s.Running) == 0 {
		return nil
	}
	fmt.Fprintln(out)
	return listFlows(out, s.Running)
}

func duration(seconds float64) string {
	return time.Duration(seconds * float64(time.Second)).Truncate(time.Second).String()
}

// bytesText is a number of bytes for people.
func bytesText(n uint64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	v, units := float64(n)/unit, "KMGTP"
	for v >= unit && len(units) > 1 {
		v /= unit
		units = units[1:]
	}
	return fmt.Sprintf("%.1f %ciB", v, units[0])
}
