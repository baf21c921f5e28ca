package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"onevoice/admin"
)

func newWatchCommand() *cobra.Command {
	var socket string
	interval := time.Second
	cmd := &cobra.Command{
		Use:   "watch",
		Short: "Show the cluster as it changes, until Ctrl-C",
		Long: `Show the cluster as it changes, until Ctrl-C: what is wrong, who is there, who
has which of the 256 buckets, and what passes through this host. Each bucket is
a letter, its owner's, in the owner's colour; a dot is one that nobody has.

Where the output is no terminal, one picture is printed.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if interval < 100*time.Millisecond {
				return usageError{errors.New("--every is too short; write at least 100ms")}
			}
			return watch(cmd.Context(), cmd.OutOrStdout(), socket, interval)
		},
	}
	socketFlag(cmd, &socket)
	cmd.Flags().DurationVar(&interval, "every", interval, "look again after this `time`")
	return cmd
}

// Codes of a terminal (ECMA-48): to the corner, to the end of the line or of the
// screen, a screen apart from the one that people scroll, and the cursor.
const (
	corner, endOfLine, endOfScreen = "\x1b[H", "\x1b[K", "\x1b[J"
	apart, back                    = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
)

// watch draws until the context or a signal ends it.
func watch(ctx context.Context, out io.Writer, socket string, every time.Duration) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	var v view
	first, err := admin.Ask(ctx, socket, admin.Wanted{Table: true})
	if err != nil {
		return err
	}
	v.see(time.Now(), first)
	if !term.IsTerminal(int(os.Stdout.Fd())) {
		_, err := io.WriteString(out, v.draw(columns, false))
		return err
	}
	fmt.Fprint(out, apart)
	defer fmt.Fprint(out, back)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		width, height, err := term.GetSize(int(os.Stdout.Fd()))
		if err != nil {
			width, height = columns, 24
		}
		fmt.Fprint(out, onScreen(v.draw(width, colour()), height))
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		s, err := admin.Ask(ctx, socket, admin.Wanted{Table: true})
		v.trouble = ""
		if err != nil {
			// It may come back; what was seen last stays on the screen.
			v.trouble = err.Error()
			continue
		}
		v.see(time.Now(), s)
	}
}

// onScreen puts lines over those of before, as many as fit.
func onScreen(text string, height int) string {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if len(lines) > height {
		lines = lines[:height]
	}
	return corner + strings.Join(lines, endOfLine+"\r\n") + endOfLine + endOfScreen
}
