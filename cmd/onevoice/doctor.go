package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"onevoice/admin"
	"onevoice/config"
	"onevoice/doctor"
)

func newDoctorCommand() *cobra.Command {
	var file, socket string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Say what on this host or LAN will bite",
		Long: `Say what on this host or LAN will bite, and what to do about it.

Looks at the configuration file, at this host, and at what the daemon here has
seen of the LAN. It exits 1 when something is found that harms, and else 0.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			found := doctor.Examine(hostFacts(cmd, file, socket))
			if err := printFindings(cmd.OutOrStdout(), found, asJSON); err != nil {
				return err
			}
			if doctor.Harms(found) {
				return exitCode(exitFailed)
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", configFromEnvironment(), "configuration `file`")
	cmd.Flags().StringVar(&socket, "socket", "", "ask the daemon at this `path`, not at the file's")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the findings as JSON")
	return cmd
}

func printFindings(out io.Writer, found []doctor.Finding, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		return enc.Encode(found)
	}
	if len(found) == 0 {
		_, err := fmt.Fprintln(out, "Nothing was found.")
		return err
	}
	for _, f := range found {
		head := "may harm  "
		if f.Harms {
			head = "HARMS     "
		}
		fmt.Fprintln(out, wrapped(head, f.Text))
		fmt.Fprintln(out, wrapped("   mend:  ", f.Mend))
		if _, err := fmt.Fprintf(out, "          (%s)\n", f.Code); err != nil {
			return err
		}
	}
	return nil
}

// hostFacts gathers what can be known here.
func hostFacts(cmd *cobra.Command, file, socket string) *doctor.Facts {
	c, err := config.Load(file)
	if err != nil {
		return &doctor.Facts{File: err.Error()}
	}
	f := fileFacts(c)
	addHost(f)
	addGateways(f, c)
	s, err := admin.Ask(cmd.Context(), cmp.Or(socket, c.Admin.Socket), admin.Wanted{})
	if err != nil {
		f.NotRunning = err.Error()
		return f
	}
	addStatus(f, s)
	return f
}
