package main

import (
	"strings"
	"time"

	"github.com/spf13/cobra"

	"onevoice/lab"
)

// newLabEachCommand is stop or start.
func newLabEachCommand(verb, short string) *cobra.Command {
	return &cobra.Command{
		Use:   verb + " NAME",
		Short: short,
		Long:  short + ". NAME is n1 or ov-n1, and so on,\nor all.",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if verb == "stop" {
				defer tellWaiting(cmd.ErrOrStderr())()
			}
			_, err := lab.Call(lab.Request{Verb: verb, Host: args[0]})
			return err
		},
	}
}

func newLabKillCommand() *cobra.Command {
	req := lab.Request{Verb: "kill"}
	cmd := &cobra.Command{
		Use:   "kill NAME",
		Short: "End a node's daemon at once, as a crash would",
		Long: `End a node's daemon at once, as a crash would: control process and workers.
NAME is n1 or ov-n1, and so on, or all.`,
		Args: cobra.ExactArgs(1),
		RunE: call(&req),
	}
	cmd.Flags().BoolVar(&req.Control, "control", false, "the control process alone; its workers live on")
	return cmd
}

// call asks the lab, with the first argument, if there is one, as the host.
func call(req *lab.Request) func(*cobra.Command, []string) error {
	return func(_ *cobra.Command, args []string) error {
		if len(args) > 0 {
			req.Host = args[0]
		}
		_, err := lab.Call(*req)
		return err
	}
}

func newLabDeafenCommand() *cobra.Command {
	return newLabFaultCommand("deafen NAME", "Let a node hear nothing", `Let a node hear nothing: no frame reaches it. What it sends goes out.`)
}

func newLabMuteCommand() *cobra.Command {
	return newLabFaultCommand("mute NAME", "Let a node's frames go nowhere", `Let a node's frames go nowhere. It still hears the others.`)
}

func newLabSplitCommand() *cobra.Command {
	cmd := newLabFaultCommand("split SIDE/SIDE", "Part the LAN", `Part the LAN: no frame passes from one side to another. Hosts that are named on
no side hear and reach all; "clients" are all of them.`)
	cmd.Example = `  onevoice lab split n1,n2/n3,n4 --for 2s
  onevoice lab split n1,n2,clients/n3,n4`
	return cmd
}

// newLabFaultCommand is a fault of cables, which lasts for a time or until heal.
func newLabFaultCommand(use, short, long string) *cobra.Command {
	verb, _, _ := strings.Cut(use, " ")
	req := lab.Request{Verb: verb}
	cmd := &cobra.Command{
		Use: use, Short: short,
		Long: long + "\nIt lasts until \"onevoice lab heal\", or for the time given; then the command\nwaits for its end.",
		Args: cobra.ExactArgs(1),
		RunE: call(&req),
	}
	cmd.Flags().DurationVar(&req.For, "for", 0, "how long")
	return cmd
}

func newLabStallCommand() *cobra.Command {
	req := lab.Request{Verb: "stall"}
	cmd := &cobra.Command{
		Use:   "stall NAME --for TIME",
		Short: "Stop a node's processes for a while",
		Long: `Stop all of a node's processes in the middle of what they do (SIGSTOP), and let
them go on after the time given. The command waits for that.`,
		Args: cobra.ExactArgs(1),
		RunE: call(&req),
	}
	cmd.Flags().DurationVar(&req.For, "for", time.Second, "how long")
	return cmd
}

func newLabHealCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "heal",
		Short: "Make all cables good again, and wake who was stalled",
		Args:  cobra.NoArgs,
		RunE:  call(&lab.Request{Verb: "heal"}),
	}
}
