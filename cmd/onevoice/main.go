// Command onevoice lets many Linux hosts answer for one address.
package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// Exit codes: 0 done, 1 failed, 2 wrong use.
const (
	exitFailed   = 1
	exitWrongUse = 2
)

// usageError is an error in how the command was called, not in what it did.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

func main() {
	os.Exit(execute(os.Args[1:]))
}

func execute(args []string) int {
	root := newRootCommand()
	root.SetArgs(args)
	err := root.Execute()
	if err == nil {
		return 0
	}
	var code exitCode
	if errors.As(err, &code) {
		return int(code)
	}
	fmt.Fprintln(os.Stderr, "onevoice:", withMend(err))
	if errors.As(err, new(usageError)) {
		return exitWrongUse
	}
	return exitFailed
}

// withMend adds what to do about an error that the system words.
func withMend(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return fmt.Errorf("%w; make room there, and try again", err)
	}
	return err
}

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "onevoice",
		Short:         "Many hosts, one address, one voice",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.AddCommand(
		newRunCommand(),
		newWitnessCommand(),
		newWorkerCommand(),
		newStatusCommand(),
		newExplainCommand(),
		newMigrateCommand(),
		newWatchCommand(),
		newFlowsCommand(),
		newDrainCommand(),
		newUndrainCommand(),
		newWeightCommand(),
		newPinCommand(),
		newMoveCommand(),
		newForgetCommand(),
		newDetachCommand(),
		newTakeoverCommand(),
		newRemapCommand(),
		newReloadCommand(),
		newUpgradeCommand(),
		newBootstrapCommand(),
		newRecoverCommand(),
		newCheckCommand(),
		newDoctorCommand(),
		newKeygenCommand(),
		newSimCommand(),
		newLabCommand(),
		newBenchCommand(),
		newVersionCommand(),
		newManCommand(),
	)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	wrongUse(root)
	return root
}

// wrongUse makes errors in a command's arguments wrong use, for it and for all
// below it.
func wrongUse(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			err := check(cmd, args)
			if err != nil && strings.Contains(err.Error(), "arg(s)") {
				err = fmt.Errorf("write it as `%s %s`", strings.TrimSuffix(cmd.CommandPath(), " "+cmd.Name()), cmd.Use)
			}
			if err != nil {
				return usageError{fmt.Errorf("%w; see `%s --help`", err, cmd.CommandPath())}
			}
			return nil
		}
	}
	for _, c := range cmd.Commands() {
		wrongUse(c)
	}
}
