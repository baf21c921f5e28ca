package control

import (
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// apart runs fn on a thread that is thrown away, with a nice value of its own.
// It skips where there is no right to one.
func apart(t *testing.T, nice int, fn func()) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), nice)
		if err == nil {
			fn()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Skip("needs CAP_SYS_NICE")
	}
}

// A program that is started raised is so, whoever starts it, and the thread that
// started it is as before.
func TestStartRaised(t *testing.T) {
	for _, before := range []int{0, priority} {
		apart(t, before, func() {
			cmd := exec.Command("nice")
			var out strings.Builder
			cmd.Stdout = &out
			if err := startRaised(cmd); err != nil {
				t.Error(err)
				return
			}
			after, err := niceOf(unix.Gettid())
			if err != nil || after != before {
				t.Errorf("the thread has %d after it and %d before, %v", after, before, err)
			}
			if err := cmd.Wait(); err != nil || strings.TrimSpace(out.String()) != strconv.Itoa(workerPriority) {
				t.Errorf("%v, nice %s", err, out.String())
			}
		})
	}
}

// asRaised makes this program, run again, the one that TestRaiseProcess looks at.
const asRaised = "ONEVOICE_TEST_RAISED"

// All threads are raised, also those that came before and those that come after.
func TestRaiseProcess(t *testing.T) {
	if os.Getenv(asRaised) != "" {
		RaiseProcess()
		// A thread more.
		apart(t, priority, func() {})
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil || len(tasks) < 2 {
			t.Fatal(tasks, err)
		}
		for _, task := range tasks {
			tid, _ := strconv.Atoi(task.Name())
			if n, err := niceOf(tid); err == nil && n != priority {
				t.Errorf("thread %d has nice %d", tid, n)
			}
		}
		return
	}
	apart(t, priority, func() {})
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestRaiseProcess$")
	cmd.Env = append(os.Environ(), asRaised+"=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
