package health

import (
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A program that is run for a check has no more than the usual priority, however
// high that of the thread is that starts it.
func TestProgramsHaveTheUsualPriority(t *testing.T) {
	done := make(chan error)
	go func() {
		defer close(done)
		runtime.LockOSThread() // the thread is thrown away
		if err := unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), -20); err != nil {
			done <- err
			return
		}
		cmd, g := exec.Command("sleep", "60"), &group{}
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if err := g.start(cmd); err != nil {
			t.Error(err)
			return
		}
		// The kernel's answer is 20 less the nice value (getpriority(2)).
		if n, err := unix.Getpriority(unix.PRIO_PROCESS, g.pid); n != 20 || err != nil {
			t.Errorf("nice %d, %v", 20-n, err)
		}
		if err := g.kill(); err != nil {
			t.Error(err)
		}
		g.waitEnd()
		_ = cmd.Wait() // it was killed
	}()
	if <-done != nil {
		t.Skip("needs CAP_SYS_NICE")
	}
}
