package lab

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// BystanderCommand is the hidden command that runs Bystand.
const BystanderCommand = "bystander"

// bystanderApart is a bystander in a process of its own. One in a process that is
// busy waits for the others' locks, as its collector's, and so would excuse what
// the machine is not to blame for.
type bystanderApart struct {
	raised bool
	cmd    *exec.Cmd
	out    *os.File
	// seen is there after close.
	seen bystander
}

// Bystand is a bystander that writes the stalls which it sees, each on a line:
// when it began in nanoseconds since the epoch, and how long it was in
// nanoseconds. It runs until it is killed.
func Bystand(out io.Writer, raised bool) error {
	runtime.LockOSThread()
	if raised {
		raisePriority()
	}
	for last := time.Now(); ; {
		now := nap()
		if s, ok := stallBetween(last, now); ok {
			if _, err := fmt.Fprintln(out, s.At.UnixNano(), int64(s.For)); err != nil {
				return err
			}
			// Writing took its time.
			now = time.Now()
		}
		last = now
	}
}

func (b *bystanderApart) start() (err error) {
	if b.out, err = os.CreateTemp(RunDir, "stalls"); err != nil {
		return err
	}
	b.cmd = exec.Command(program, "lab", BystanderCommand, fmt.Sprintf("--raised=%t", b.raised))
	b.cmd.Stdout, b.cmd.Stderr = b.out, os.Stderr
	return b.cmd.Start()
}

// close ends it and takes in what it has seen.
func (b *bystanderApart) close() error {
	if b.cmd == nil || b.cmd.Process == nil {
		return nil
	}
	_ = b.cmd.Process.Kill()
	// It was killed, which is what Wait will say.
	_ = b.cmd.Wait()
	text, err := os.ReadFile(b.out.Name())
	b.out.Close()
	if err != nil {
		return err
	}
	return b.seen.read(string(text))
}

// read takes in what Bystand has written; a line that was cut short is left out.
func (b *bystander) read(text string) error {
	for line := range strings.Lines(text) {
		if !strings.HasSuffix(line, "\n") {
			return nil
		}
		var at, late int64
		if _, err := fmt.Sscan(line, &at, &late); err != nil {
			return fmt.Errorf("a bystander has written %q: %w", line, err)
		}
		b.woke(time.Unix(0, at), time.Unix(0, at).Add(bystanderEvery+time.Duration(late)))
	}
	return nil
}
