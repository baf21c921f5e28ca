package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"onevoice/config"
)

func newCheckCommand() *cobra.Command {
	var file string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check a configuration file and say what it means",
		Long: `Check a configuration file and say what it means. The environment's
ONEVOICE_CONFIG names the file for this and all other commands that read it.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := config.Load(file)
			if err != nil {
				return err
			}
			files, err := checkFiles(c)
			if err != nil {
				return err
			}
			if asJSON {
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetIndent("", "  ")
				return enc.Encode(checked(c, files))
			}
			return printConfig(cmd.OutOrStdout(), c, files)
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", configFromEnvironment(), "configuration `file`")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print what the file means as JSON")
	return cmd
}

func printConfig(out io.Writer, c *config.Config, files []checkedList) error {
	for _, w := range c.Warnings {
		fmt.Fprintln(out, wrapped("WARNING  ", w))
	}
	var rows strings.Builder
	w := tabwriter.NewWriter(&rows, 0, 0, 2, ' ', 0)
	cl := &c.Cluster
	fmt.Fprintf(w, "cluster\t%s on %s, %d nodes: %s\n", cl.Name, cl.Interface, len(cl.Peers), join(cl.Peers))
	fmt.Fprintf(w, "agreement\t%s\n", agreement(cl))
	for _, v := range c.VIPs {
		fmt.Fprintf(w, "VIP\t%s on %s, %s, MAC %s\n", v.Address, v.Uplink, v.MACMode, v.MAC)
	}
	for _, s := range c.Services {
		fmt.Fprintf(w, "service\t%s on %s to %s, affinity %s, source %s\n", s.Name, s.ListenText(), s.BackendText(), s.Affinity, s.Source)
		if text := hashText(&s); text != "" {
			fmt.Fprintf(w, "\t%s\n", text)
		}
		printAccess(w, &s)
		k := &s.Check
		fmt.Fprintf(w, "\tcheck %s every %s, failed after %s; up after %d good answers, down after %d bad ones, for %s at least\n", k.Text(), k.Interval, k.Timeout, k.Rise, k.Fall, k.HoldDown)
	}
	for _, f := range files {
		fmt.Fprintf(w, "list\t%s, %d prefixes\n", f.File, f.Prefixes)
	}
	printNode(w, &c.Node)
	fmt.Fprintf(w, "socket\t%s\n", c.Admin.Socket)
	if err := w.Flush(); err != nil {
		return err
	}
	for row := range strings.Lines(rows.String()) {
		fmt.Fprintln(out, wrapped(row[:checkHead], row[checkHead:]))
	}
	return nil
}

// checkHead is how wide the first column is, by its longest word.
const checkHead = len("agreement  ")

// agreement says by which votes, ways and times the nodes agree.
func agreement(c *config.Cluster) string {
	text := fmt.Sprintf("timing %s, UDP port %d", c.Timing, c.ControlPort)
	for i, a := range c.Controls {
		if a.IsValid() {
			text += fmt.Sprintf(", %s also at %s", c.Peers[i], a)
		}
	}
	switch {
	case c.TwoNodes == config.TwoNodesPreferred:
		text += fmt.Sprintf(", no service while %s is away", c.Peers[0])
	case c.Witness.IsValid():
		text += fmt.Sprintf(", witness %s", c.Witness)
	}
	return text
}

func printNode(w io.Writer, n *config.Node) {
	fmt.Fprintf(w, "node\t%s, weight %d, %s, state in %s, running flows get %s at a stop\n", n.Name, n.Weight, vote(n.Voter), n.StateDir, n.StopTimeout)
	if a := agentText(&n.Agent); a != "" {
		fmt.Fprintf(w, "\tof its weight counts what %s says, every %s\n", a, n.AgentInterval)
	}
	if len(n.Ping) > 0 {
		fmt.Fprintf(w, "\tof its weight counts how well %s answer pings\n", join(n.Ping))
	}
	if !n.GatewayCheck {
		fmt.Fprint(w, "\tserves without a gateway too\n")
	}
	if n.MemoryMiB > 0 {
		fmt.Fprintf(w, "\tits connections may take %d MiB\n", n.MemoryMiB)
	}
}

func vote(voter *bool) string {
	switch {
	case voter == nil:
		return "votes by its place among the peers"
	case *voter:
		return "votes"
	default:
		return "does not vote"
	}
}

// agentText is an agent as the file writes it.
func agentText(a *config.Agent) string {
	switch {
	case a.Program != "":
		return strings.Join(append([]string{"exec:" + a.Program}, a.Args...), " ")
	case a.File != "":
		return "file:" + a.File
	default:
		return ""
	}
}
