package control

import (
	"os"
	"os/exec"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// Nice values, see setpriority(2). Without the right to them, which is
// CAP_SYS_NICE, threads run as all others do.
const (
	// priority is that of all threads of a process with a Loop, see RaiseProcess.
	priority = -20
	// workerPriority is that of workers. A node whose worker has not ended a turn
	// for the lease's time stops claiming its buckets, so a worker must not wait
	// for what it serves: the programs of this host. It stays behind the loop.
	workerPriority = -10
)

// raisePasses bounds how often RaiseProcess looks for threads that have come from one
// that had not been raised yet.
const raisePasses = 10

// UseOneProcessor keeps the process's goroutines on one processor at a time. A loop with
// little to do would else wake a second thread whenever it wakes itself, which looks for
// work, finds none and sleeps again: more than half of what an idle node took. What
// computes for long is put off every 10 ms for the loop (forcePreemptNS of
// runtime/proc.go).
func UseOneProcessor() { runtime.GOMAXPROCS(1) }

// RaiseProcess gives all threads of this process the priority of a Loop's; later
// ones have that of the thread that makes them. The loop's own alone would not do:
// it waits for the others where the runtime makes it, as when the collector stops
// them all, and they for a processor.
func RaiseProcess() {
	for range raisePasses {
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil || !raiseThreads(tasks) {
			return
		}
	}
}

// raiseThreads reports whether there may be more to raise.
func raiseThreads(tasks []os.DirEntry) (more bool) {
	for _, t := range tasks {
		tid, err := strconv.Atoi(t.Name())
		if err != nil {
			continue
		}
		if n, err := niceOf(tid); err == nil && n > priority && unix.Setpriority(unix.PRIO_PROCESS, tid, priority) == nil {
			more = true
		}
	}
	return more
}

// startRaised starts a program with the priority of a worker. It has that of the
// thread that starts it, with all its threads, from the beginning.
func startRaised(cmd *exec.Cmd) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	tid := unix.Gettid()
	before, err := niceOf(tid)
	if err == nil && unix.Setpriority(unix.PRIO_PROCESS, tid, workerPriority) == nil {
		defer func() { _ = unix.Setpriority(unix.PRIO_PROCESS, tid, before) }()
	}
	return cmd.Start()
}

// niceOf is a thread's nice value. The kernel's answer is 20 less that, so that
// none is negative (getpriority(2)).
func niceOf(tid int) (int, error) {
	const least = 20
	n, err := unix.Getpriority(unix.PRIO_PROCESS, tid)
	return least - n, err
}
