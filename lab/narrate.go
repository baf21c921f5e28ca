package lab

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// narrator tells what happens, and keeps which claims did not hold.
type narrator struct {
	out    io.Writer
	colour bool
	// live says that out is a terminal, on which a line can be written over.
	live   bool
	doing  bool
	failed []error
}

func newNarrator(out io.Writer, colour bool) *narrator {
	f, ok := out.(*os.File)
	return &narrator{out: out, colour: colour, live: ok && term.IsTerminal(int(f.Fd()))}
}

// title begins a part of the story.
func (n *narrator) title(format string, args ...any) {
	n.line("\n" + n.paint("1", fmt.Sprintf(format, args...)))
}

// say tells something that is no claim.
func (n *narrator) say(format string, args ...any) {
	n.line("  " + fmt.Sprintf(format, args...))
}

// claim tells something that must hold.
func (n *narrator) claim(held bool, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	mark := n.paint("32", "ok")
	if !held {
		mark = n.paint("31", "NO")
		n.failed = append(n.failed, fmt.Errorf("this did not hold: %s", text))
	}
	n.line("  " + mark + "  " + text)
}

// columns is how wide the narration is at most.
const columns = 80

// progress shows on a terminal how far something is, until the next line.
func (n *narrator) progress(format string, args ...any) {
	if !n.live {
		return
	}
	text := fmt.Sprintf(format, args...)
	fmt.Fprintf(n.out, "\r  %-*.*s", columns-3, columns-3, text)
	n.doing = true
}

func (n *narrator) line(text string) {
	if n.doing {
		fmt.Fprintf(n.out, "\r%*s\r", columns-1, "")
		n.doing = false
	}
	fmt.Fprintln(n.out, text)
}

// paint colours text on terminals (ECMA-48 SGR).
func (n *narrator) paint(code, text string) string {
	if !n.colour {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// bar is a share drawn in characters.
func bar(part, whole int) string {
	const width = 32
	full := 0
	if whole > 0 {
		full = (part*width + whole/2) / whole
	}
	return strings.Repeat("#", full) + strings.Repeat(".", width-full)
}

// fail notes what kept the story from going on.
func (n *narrator) fail(err error) { n.failed = append(n.failed, err) }

func (n *narrator) err() error { return errors.Join(n.failed...) }
