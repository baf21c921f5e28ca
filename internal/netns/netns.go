// Package netns makes throw-away network namespaces and runs code and programs
// in them. A namespace lives as long as something is open in it: no name is
// left behind.
package netns

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"

	"golang.org/x/sys/unix"
)

// NS is an open network namespace.
type NS struct{ file *os.File }

// current is the namespace of the thread that opens it.
const current = "/proc/thread-self/ns/net"

// New makes an empty namespace. Needs CAP_SYS_ADMIN.
func New() (*NS, error) {
	var ns *NS
	err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return os.NewSyscallError("unshare CLONE_NEWNET", err)
		}
		f, err := os.Open(current)
		ns = &NS{f}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("netns: %w", err)
	}
	return ns, nil
}

// onThread runs fn on a thread of its own. The goroutine ends without giving
// the thread back, so the runtime throws the thread away and no other goroutine
// is ever run in the wrong namespace. When fn ends its goroutine, as t.Fatal
// does, the caller's ends as well.
func onThread(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		defer close(done)
		runtime.LockOSThread()
		done <- fn()
	}()
	err, returned := <-done
	if !returned {
		runtime.Goexit()
	}
	return err
}

// Do runs fn on a thread inside the namespace. Sockets that fn opens stay in
// the namespace; goroutines that it starts do not.
func (ns *NS) Do(fn func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(ns.file.Fd()), unix.CLONE_NEWNET); err != nil {
			return os.NewSyscallError("setns", err)
		}
		return fn()
	})
}

// Start starts a program inside the namespace. Its parent thread ends at once,
// so a Pdeathsig would kill it.
func (ns *NS) Start(cmd *exec.Cmd) error { return ns.Do(cmd.Start) }

// FD is the namespace's descriptor, valid until Close.
func (ns *NS) FD() int { return int(ns.file.Fd()) }

// Close lets go of the namespace. It ends once the programs in it have ended.
func (ns *NS) Close() error { return ns.file.Close() }
