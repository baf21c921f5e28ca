package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

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
seen of the LAN; and has the daemon ask the other nodes what theirs is like, and
to send frames to the shared MACs, of which it counts what arrives. What harms
comes first, then what may, then what could not be looked at: without a daemon,
or without the right to. docs/doctor.md has all that is looked at.

It exits 1 when something is found that harms, and else 0.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			facts := hostFacts(cmd, file, socket)
			found := doctor.Examine(facts)
			if err := tellFindings(cmd.OutOrStdout(), facts, found, asJSON); err != nil {
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

func tellFindings(out io.Writer, f *doctor.Facts, found []doctor.Finding, asJSON bool) error {
	if !asJSON {
		return printReport(out, f, found, colour())
	}
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	return enc.Encode(found)
}

// colours of the findings' heads.
const (
	red, yellow, plain = "\x1b[31m", "\x1b[33m", "\x1b[0m"
)

// printReport prints the findings, worst first, and what is fine.
func printReport(out io.Writer, f *doctor.Facts, found []doctor.Finding, painted bool) error {
	for _, x := range found {
		head, paint := "may harm  ", yellow
		switch {
		case x.Harms:
			head, paint = "HARMS     ", red
		case x.Unseen:
			head, paint = "not seen  ", ""
		}
		text := wrapped(head, x.Text)
		if painted && paint != "" {
			text = paint + head + plain + strings.TrimPrefix(text, head)
		}
		fmt.Fprintln(out, text)
		fmt.Fprintln(out, wrapped("   mend:  ", x.Mend))
		fmt.Fprintf(out, "          (%s)\n", x.Code)
	}
	if len(found) == 0 {
		fmt.Fprintln(out, "Nothing was found.")
	}
	fine, unmade := doctor.Fine(f, found)
	if len(fine) > 0 {
		fmt.Fprintln(out, wrapped("fine      ", strings.Join(fine, ", ")))
	}
	if len(unmade) > 0 {
		fmt.Fprintln(out, wrapped("not made  ", strings.Join(unmade, ", ")))
	}
	_, err := fmt.Fprintf(out, "%d of %d examinations found nothing.\n", len(fine), len(doctor.Examinations()))
	return err
}

// hostFacts gathers what can be known here.
func hostFacts(cmd *cobra.Command, file, socket string) *doctor.Facts {
	c, err := config.Load(file)
	if errors.Is(err, os.ErrPermission) {
		return &doctor.Facts{File: err.Error(), Forbidden: []string{file}}
	}
	if err != nil {
		return &doctor.Facts{File: err.Error()}
	}
	f := fileFacts(c)
	addHost(f, c)
	addGateways(f, c)
	socket = cmp.Or(socket, c.Admin.Socket)
	s, err := admin.Ask(cmd.Context(), socket, admin.Wanted{})
	if err != nil {
		f.NotRunning = err.Error()
		if errors.Is(unix.Access(socket, unix.R_OK|unix.W_OK), os.ErrPermission) {
			f.Forbidden = append(f.Forbidden, "what the daemon knows ("+socket+")")
		}
		return f
	}
	addStatus(f, s)
	for i := range f.Workers {
		f.Workers[i].Files = openFilesOf(s.Workers[i].Process.PID)
	}
	for _, w := range s.Warnings {
		if !slices.Contains(s.Found, w) {
			f.Told = append(f.Told, w)
		}
	}
	// A daemon of an older version does not ask the others.
	if x, err := admin.Examine(cmd.Context(), socket); err == nil {
		f.Asked = true
		addExamined(f, &x)
	}
	return f
}
