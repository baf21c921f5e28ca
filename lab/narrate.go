package lab

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// narrator tells what happens, and keeps which claims did not hold.
type narrator struct {
	out    io.Writer
	colour bool
	failed []error
}

// title begins a part of the story.
func (n *narrator) title(format string, args ...any) {
	fmt.Fprintf(n.out, "\n%s\n", n.paint("1", fmt.Sprintf(format, args...)))
}

// say tells something that is no claim.
func (n *narrator) say(format string, args ...any) {
	fmt.Fprintf(n.out, "  "+format+"\n", args...)
}

// claim tells something that must hold.
func (n *narrator) claim(held bool, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	mark := n.paint("32", "ok")
	if !held {
		mark = n.paint("31", "NO")
		n.failed = append(n.failed, fmt.Errorf("this did not hold: %s", text))
	}
	fmt.Fprintf(n.out, "  %s  %s\n", mark, text)
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
