package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"onevoice/lab"
)

// server is a program that runs on a host until it is ended.
type server struct {
	name string
	cmd  *exec.Cmd
	log  string
}

// endTimeout bounds how long a server may take to end.
const endTimeout = 5 * time.Second

// startServer starts a program on a host. What it says goes to a log.
func startServer(h *lab.Host, name string, argv ...string) (*server, error) {
	s := &server{name: name, log: filepath.Join(runDir(), name+".log")}
	log, err := os.Create(s.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	s.cmd = exec.Command(argv[0], argv[1:]...)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	// Ctrl-C on the terminal is for us, who end the servers in their order.
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := h.Start(s.cmd); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return s, nil
}

// ended is the end of its log when it has ended by itself, else nil.
func (s *server) ended() error {
	var info unix.Siginfo
	err := unix.Waitid(unix.P_PID, s.cmd.Process.Pid, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	if err == nil && info.Signo == 0 {
		return nil
	}
	text, _ := os.ReadFile(s.log)
	return fmt.Errorf("%s has ended: %s", s.name, lastLines(string(text)))
}

// processes are it and all that it started: its process group.
func (s *server) processes() (pids []int, err error) {
	all, err := filepath.Glob("/proc/[0-9]*")
	for _, dir := range all {
		pid, _ := strconv.Atoi(filepath.Base(dir))
		// It may end while it is looked at.
		if group, err := unix.Getpgid(pid); err == nil && group == s.cmd.Process.Pid {
			pids = append(pids, pid)
		}
	}
	return pids, err
}

// end ends it and all that it started.
func (s *server) end() error {
	if s == nil {
		return nil
	}
	_ = unix.Kill(-s.cmd.Process.Pid, unix.SIGTERM)
	late := time.AfterFunc(endTimeout, func() { _ = unix.Kill(-s.cmd.Process.Pid, unix.SIGKILL) })
	// It was told to end, which is what Wait will say.
	_ = s.cmd.Wait()
	if !late.Stop() {
		return fmt.Errorf("%s had not ended within %v and was killed", s.name, endTimeout)
	}
	return nil
}

// output runs a program on a host to its end. It is killed when ctx ends or
// after the time given.
func output(ctx context.Context, h *lab.Host, limit time.Duration, argv ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var out, said strings.Builder
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = &out, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := h.Start(cmd); err != nil {
		return "", fmt.Errorf("start %s: %w", argv[0], err)
	}
	stop := context.AfterFunc(ctx, func() { _ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL) })
	err := cmd.Wait()
	stop()
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return "", fmt.Errorf("%s had not ended after %v and was killed", argv[0], limit)
	}
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if err != nil {
		return out.String(), fmt.Errorf("%s: %w: %s", argv[0], err, lastLines(said.String()))
	}
	return out.String(), nil
}

// lastLines are the end of what a program said, on one line.
func lastLines(text string) string {
	const most = 3
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-most):], "; ")
}

// wantedFiles is how many open files a program of a run may need: a proxy has
// two for each of 10,000 connections.
const wantedFiles = 131_072

// allowFiles raises the limit of open files, which our programs inherit, as far
// as we may. A program that lacks some says so itself.
func allowFiles() {
	limit := unix.Rlimit{Cur: wantedFiles, Max: wantedFiles}
	if unix.Setrlimit(unix.RLIMIT_NOFILE, &limit) == nil {
		return
	}
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) == nil {
		limit.Cur = limit.Max
		_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
	}
}
