package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

var updatePages = flag.Bool("update", false, "rewrite docs/commands.md")

// commandsPage is docs/commands.md: every command's help.
func commandsPage(t *testing.T) string {
	t.Helper()
	t.Setenv("ONEVOICE_SOCKET", "")
	t.Setenv("ONEVOICE_CONFIG", "")
	var b strings.Builder
	b.WriteString("# Commands\n\n" + `What ` + "`onevoice COMMAND --help`" + ` says, made from the program (` + "`make docs`" + `); packages
have the same as manual pages, ` + "`man onevoice-drain`" + `. Exit codes: 0 done, 1 failed, 2
wrong use. Where a command asks the daemon, it asks the one on this host; the
environment's ` + "`ONEVOICE_SOCKET`" + ` names another socket, and ` + "`NO_COLOR`" + ` keeps colours away.
`)
	var look func(cmd *cobra.Command)
	look = func(cmd *cobra.Command) {
		if cmd.Hidden || cmd.Name() == "help" {
			return
		}
		// Cobra adds these when the program runs.
		cmd.InitDefaultHelpFlag()
		text := cmd.Long
		if text == "" {
			text = cmd.Short + "."
		}
		if cmd.HasParent() {
			fmt.Fprintf(&b, "\n## %s\n\n", cmd.CommandPath())
			if cmd.Parent().Name() == "completion" || cmd.Name() == "completion" {
				text = cmd.Short + "." // what more there is to say is the shell's
			}
			fmt.Fprintf(&b, "```text\n%s\n\n%s```\n", strings.TrimSpace(text), cmd.UsageString())
		}
		for _, c := range cmd.Commands() {
			look(c)
		}
	}
	root := newRootCommand()
	root.InitDefaultCompletionCmd()
	look(root)
	return b.String()
}

// TestHelpIsOnItsPage: docs/commands.md has every command and flag.
func TestHelpIsOnItsPage(t *testing.T) {
	const path = "../../docs/commands.md"
	page := commandsPage(t)
	if *updatePages {
		if err := os.WriteFile(path, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if old, _ := os.ReadFile(path); string(old) != page {
		t.Error("docs/commands.md is not what the commands' help says; `make docs` writes it anew")
	}
}
