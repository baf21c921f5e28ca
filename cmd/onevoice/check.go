package main

import (
	"encoding/json"
	"fmt"
	"io"
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
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := config.Load(file)
			if err != nil {
				return err
			}
			if asJSON {
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetIndent("", "  ")
				return enc.Encode(checked(c))
			}
			return printConfig(cmd.OutOrStdout(), c)
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", defaultConfig, "configuration `file`")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print what the file means as JSON")
	return cmd
}

func printConfig(out io.Writer, c *config.Config) error {
	for _, w := range c.Warnings {
		fmt.Fprintf(out, "WARNING  %s\n", w)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "cluster\t%s on %s, %d nodes: %s\n", c.Cluster.Name, c.Cluster.Interface, len(c.Cluster.Peers), join(c.Cluster.Peers))
	for _, v := range c.VIPs {
		fmt.Fprintf(w, "VIP\t%s, %s, MAC %s\n", v.Address, v.MACMode, v.MAC)
	}
	for _, s := range c.Services {
		fmt.Fprintf(w, "service\t%s on %s to %s, affinity %s, source %s\n", s.Name, s.Listen, s.Backend, s.Affinity, s.Source)
	}
	fmt.Fprintf(w, "node\t%s, running flows get %s at a stop\n", c.Node.Name, c.Node.StopTimeout)
	fmt.Fprintf(w, "socket\t%s\n", c.Admin.Socket)
	return w.Flush()
}

// checkedConfig is a configuration as `check --json` prints it.
type checkedConfig struct {
	Cluster  string           `json:"cluster"`
	Node     string           `json:"node"`
	Peers    []string         `json:"peers"`
	VIPs     []checkedVIP     `json:"vips"`
	Services []checkedService `json:"services"`
	Warnings []string         `json:"warnings"`
}

type checkedVIP struct {
	Address string `json:"address"`
	MAC     string `json:"mac"`
	MACMode string `json:"mac_mode"`
}

type checkedService struct {
	Name     string `json:"name"`
	Listen   string `json:"listen"`
	Backend  string `json:"backend"`
	Affinity string `json:"affinity"`
	Source   string `json:"source"`
}

func checked(c *config.Config) checkedConfig {
	out := checkedConfig{Cluster: c.Cluster.Name, Node: c.Node.Name, Warnings: c.Warnings}
	for _, p := range c.Cluster.Peers {
		out.Peers = append(out.Peers, p.String())
	}
	for _, v := range c.VIPs {
		out.VIPs = append(out.VIPs, checkedVIP{v.Address.String(), v.MAC.String(), string(v.MACMode)})
	}
	for _, s := range c.Services {
		out.Services = append(out.Services, checkedService{s.Name, s.Listen.String(), s.Backend.String(), string(s.Affinity), string(s.Source)})
	}
	return out
}
