package health

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// pipeGrace is how long a program's output may stay open after its end: what
// has left its process group may hold it for ever.
const pipeGrace = 100 * time.Millisecond

// run runs a program to its end and returns the beginning of its output, at
// most maxAgentBytes. The program is in a process group of its own, which is
// killed with all in it at the context's end and when the program itself has
// ended. It has nothing of our environment and no input. A status other than 0
// is an error that quotes what the program said.
func run(ctx context.Context, path string, args []string) (string, error) {
	out := &head{left: maxAgentBytes}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C"}
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = pipeGrace
	g := &group{}
	cmd.Cancel = g.kill
	if err := g.start(cmd); err != nil {
		return "", err
	}
	g.waitEnd()
	err := cmd.Wait()
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil // the program itself ended well
	}
	said := out.String()
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if err != nil && strings.TrimSpace(said) != "" {
		return "", fmt.Errorf("%w: %s", err, oneLine(said))
	}
	return said, err
}

// group is a program's process group. It may be killed only as long as its
// leader is not reaped, for the number is then free for others.
type group struct {
	mu  sync.Mutex
	pid int // 0: not started, or about to be reaped
}

func (g *group) start(cmd *exec.Cmd) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := cmd.Start(); err != nil {
		return err
	}
	g.pid = cmd.Process.Pid
	// It began with the priority of ours, which is for leases and not for checks.
	_ = unix.Setpriority(unix.PRIO_PGRP, g.pid, 0)
	return nil
}

// kill kills all that is in the group.
func (g *group) kill() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.pid == 0 {
		return os.ErrProcessDone
	}
	return unix.Kill(-g.pid, unix.SIGKILL)
}

// waitEnd returns when the leader has ended and is not yet reaped, with what it
// left behind in its group killed.
func (g *group) waitEnd() {
	for {
		err := unix.Waitid(unix.P_PID, g.pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			break
		}
	}
	g.kill()
	g.mu.Lock()
	g.pid = 0
	g.mu.Unlock()
}

// head keeps the beginning of what is written to it and takes the rest in
// silence, so that a program that says much is not held up.
type head struct {
	text strings.Builder
	left int
}

func (h *head) Write(p []byte) (int, error) {
	n := min(len(p), h.left)
	h.text.Write(p[:n])
	h.left -= n
	return len(p), nil
}

func (h *head) String() string { return h.text.String() }

// readHead reads the beginning of a file that an agent writes. It never blocks,
// so a FIFO or a device is an error.
func readHead(path string) (string, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return "", errors.Join(err, fmt.Errorf("%s is not a regular file", path))
	}
	text, err := io.ReadAll(io.LimitReader(f, maxAgentBytes))
	return string(text), err
}
