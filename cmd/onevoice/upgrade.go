package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"onevoice/admin"
	"onevoice/control"
)

func newUpgradeCommand() *cobra.Command {
	return newChangeCommand(admin.DoUpgrade, &cobra.Command{
		Use:   "upgrade",
		Short: "Go on with the program that is on disk now, and lose no session",
		Long: fmt.Sprintf(`Go on with the program that is on disk now, at the path of the running one,
and lose no session.

Install the new program first. The running daemon starts it beside itself; the
new one reads the file, opens what serves the clients, and then takes over what
this node has promised. New connections are its own, and wait for a fraction of
a second. The old workers take nothing new and serve their flows to the end; at
most %d on an interface may be left, and status tells of them.

If the new program does not start, cannot read the file, or does not serve
within %v, the old one goes on, and this command says why.`, control.MaxRetired, holdWithin),
	})
}

func newReloadCommand() *cobra.Command {
	return newChangeCommand(admin.DoReload, &cobra.Command{
		Use:   "reload",
		Short: "Go on with the file as it is now, and lose no session",
		Long: `Go on with the configuration file as it is now, and lose no session. SIGHUP does
the same.

A file with a fault, or with a change that needs a stop, changes nothing, and
this command says what is wrong with it. Otherwise it lists what has changed,
key by key. The program takes over from itself, as it does in an upgrade: what
is new is served by the new file, and running flows go on under the old one.

Give all nodes the same file and reload one after the other. A service whose
definition differs is answered by no node that has not been reloaded.`,
	})
}

// newChangeCommand completes a command that asks the daemon for a change.
func newChangeCommand(do string, cmd *cobra.Command) *cobra.Command {
	var socket string
	var asJSON bool
	cmd.Args = cobra.NoArgs
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx, out := cmd.Context(), cmd.OutOrStdout()
		s, err := admin.BeginChange(ctx, socket, admin.Change{Do: do})
		if err == nil {
			s, err = waitChanged(ctx, socket, s)
		}
		if err != nil {
			return err
		}
		if asJSON {
			enc := json.NewEncoder(out)
			enc.SetIndent("", "  ")
			err = enc.Encode(s)
		} else if s.State == admin.ChangeDone {
			err = printChange(ctx, out, socket, &s)
		}
		if err == nil && s.State == admin.ChangeFailed {
			err = fmt.Errorf("nothing was changed: %s", s.Error)
		}
		return err
	}
	socketFlag(cmd, &socket)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the outcome as JSON")
	return cmd
}

// Times of who waits for a change.
const (
	changeLook = 100 * time.Millisecond
	// changeWithin is more than a change can take: preparing, passing, and coming back.
	changeWithin = prepareWithin + 6*holdWithin
)

// waitChanged waits for the end of a change. Between two processes nobody answers for
// a moment.
func waitChanged(ctx context.Context, socket string, s admin.ChangeStatus) (admin.ChangeStatus, error) {
	id, end := s.ID, time.Now().Add(changeWithin)
	var err error
	for s.State == admin.ChangeRunning || s.ID != id {
		if time.Now().After(end) {
			return s, errors.Join(errors.New("nobody has told of the end of the change; see `onevoice status` and the log"), err)
		}
		select {
		case <-ctx.Done():
			return s, ctx.Err()
		case <-time.After(changeLook):
		}
		var now admin.ChangeStatus
		if now, err = admin.LastChange(ctx, socket); err == nil {
			if s = now; s.ID != id && s.ID != 0 {
				return s, errors.New("another change has begun since; see the log")
			}
		}
	}
	return s, nil
}

// printChange tells people of a change that is done.
func printChange(ctx context.Context, out io.Writer, socket string, s *admin.ChangeStatus) error {
	if s.Do == admin.DoReload && len(s.Changes) == 0 {
		_, err := fmt.Fprintln(out, "nothing has changed in the file; nothing was done")
		return err
	}
	what := fmt.Sprintf("upgraded from %s to %s", s.From, s.To)
	if s.Do == admin.DoReload {
		what = "reloaded"
	}
	fmt.Fprintln(out, wrapped("", fmt.Sprintf("%s in %.1f s; nothing new was accepted for %.0f ms, and running flows go on", what, s.Seconds, 1000*s.Unserved)))
	for _, c := range s.Changes {
		fmt.Fprintf(out, "  %v\n", c)
	}
	now, err := admin.Ask(ctx, socket, admin.Wanted{})
	if err != nil {
		return err
	}
	for _, line := range oldWorkers(now.Workers) {
		fmt.Fprintln(out, line)
	}
	return nil
}

// oldWorkers tells of the workers that serve what they have, by version.
func oldWorkers(workers []control.WorkerStatus) (out []string) {
	var versions []string
	count, flows := map[string]int{}, map[string]int{}
	for i := range workers {
		w := &workers[i]
		if !w.Retired {
			continue
		}
		if count[w.Version] == 0 {
			versions = append(versions, w.Version)
		}
		count[w.Version]++
		flows[w.Version] += w.Flows.Running
	}
	for _, v := range versions {
		worker := "1 old worker serves"
		if count[v] > 1 {
			worker = fmt.Sprintf("%d old workers serve", count[v])
		}
		flow := "1 flow to its end"
		switch flows[v] {
		case 0:
			flow = "no flow any more and will end"
		case 1:
		default:
			flow = fmt.Sprintf("%d flows to their end", flows[v])
		}
		out = append(out, fmt.Sprintf("%s %s, of version %s", worker, flow, v))
	}
	return out
}
