package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A node's daemon is a control process and its workers. All of them are in the
// node's network namespace, run our program as `run` or `worker`, and are found
// by that: a worker whose control process is gone has another parent.

// Processes are those of the node's daemon.
func (d *Daemon) Processes() ([]int, error) {
	if ours, err := ownProc(); err != nil || !ours {
		return d.group(), err
	}
	var pids []int
	err := d.Host.Do(func() error {
		// Of this thread, so of the node.
		here, err := os.Readlink("/proc/thread-self/ns/net")
		if err != nil {
			return err
		}
		all, err := os.ReadDir("/proc")
		if err != nil {
			return err
		}
		for _, e := range all {
			if pid, err := strconv.Atoi(e.Name()); err == nil && runsDaemon(e.Name(), here) {
				pids = append(pids, pid)
			}
		}
		return nil
	})
	return pids, err
}

// runsDaemon looks at a process, which may end meanwhile.
func runsDaemon(pid, ns string) bool {
	dir := filepath.Join("/proc", pid)
	if at, err := os.Readlink(filepath.Join(dir, "ns/net")); err != nil || at != ns {
		return false
	}
	ours, err := os.Readlink("/proc/self/exe")
	if exe, err2 := os.Readlink(filepath.Join(dir, "exe")); err != nil || err2 != nil || exe != ours {
		return false
	}
	line, err := os.ReadFile(filepath.Join(dir, "cmdline"))
	words := strings.Split(string(line), "\x00")
	return err == nil && len(words) > 1 && slices.Contains([]string{"run", "worker"}, words[1])
}

// ownProc reports whether /proc numbers processes as we do: where a new one is
// forbidden, it is that of outside.
func ownProc() (bool, error) {
	self, err := os.Readlink("/proc/self")
	return err == nil && self == strconv.Itoa(os.Getpid()), err
}

// group is the control process's group, as a negative number, for kill(2).
func (d *Daemon) group() []int {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cmd == nil || d.cmd.Process == nil {
		return nil
	}
	return []int{-d.cmd.Process.Pid}
}

// signalAll sends a signal to all processes of the daemon. That one of them has
// ended meanwhile is no error.
func (d *Daemon) signalAll(s syscall.Signal) error {
	pids, err := d.Processes()
	if err != nil {
		return err
	}
	var errs []error
	for _, pid := range pids {
		if err := unix.Kill(pid, s); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, os.NewSyscallError("kill", err))
		}
	}
	return errors.Join(errs...)
}

// Kill ends all processes of the daemon at once, as a crash of the host would,
// and waits until they have ended.
func (d *Daemon) Kill() error {
	pids, err := d.Processes()
	if err != nil {
		return err
	}
	if !d.Status().Running && !slices.ContainsFunc(pids, func(pid int) bool { return pid > 0 }) {
		return fmt.Errorf("the daemon of %s is not running", d.Host.Name)
	}
	if err := d.signalAll(unix.SIGKILL); err != nil {
		return err
	}
	d.mu.Lock()
	done := d.done
	d.mu.Unlock()
	<-done
	return d.untilGone()
}

// KillControl ends the control process alone; its workers live on.
func (d *Daemon) KillControl() error { return d.Signal(unix.SIGKILL) }

// goneTimeout bounds how long the kernel may take to end killed processes.
const goneTimeout = time.Minute

// untilGone waits until no process of the daemon is left: its sockets are open
// as long as one is.
func (d *Daemon) untilGone() error {
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for began := time.Now(); ; <-ticker.C {
		pids, err := d.Processes()
		if err != nil {
			return err
		}
		living := slices.ContainsFunc(pids, func(pid int) bool { return unix.Kill(pid, 0) == nil })
		if !living {
			return nil
		}
		if time.Since(began) > goneTimeout {
			return fmt.Errorf("processes %v of %s were killed and are there after %v", pids, d.Host.Name, goneTimeout)
		}
	}
}

// Stall stops all processes of the daemon in the middle of what they do, and
// Resume lets them go on.
func (d *Daemon) Stall() error {
	if !d.Status().Running {
		return fmt.Errorf("the daemon of %s is not running", d.Host.Name)
	}
	return d.signalAll(unix.SIGSTOP)
}

// Resume undoes Stall.
func (d *Daemon) Resume() error { return d.signalAll(unix.SIGCONT) }
