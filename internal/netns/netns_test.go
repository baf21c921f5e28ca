package netns

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
)

func TestNamespaceIsItsOwn(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root for a network namespace (CAP_SYS_ADMIN)")
	}
	before, err := os.Readlink(current)
	if err != nil {
		t.Fatal(err)
	}
	ns, err := New()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	err = ns.Do(func() error {
		all, err := net.Interfaces()
		if len(all) != 1 || all[0].Name != "lo" {
			t.Errorf("interfaces %v", all)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	cmd := exec.Command("readlink", "/proc/self/ns/net")
	cmd.Stdout = &out
	if err := ns.Start(cmd); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if strings.TrimSpace(out.String()) == before {
		t.Error("the program ran in our own namespace")
	}
	wanted := errors.New("passed on")
	if err := ns.Do(func() error { return wanted }); err != wanted {
		t.Errorf("Do returned %v", err)
	}
}

// No goroutine ever runs in a namespace that another one was in, whatever
// became of the function there.
func TestNoThreadStays(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root for a network namespace (CAP_SYS_ADMIN)")
	}
	before, err := os.Readlink(current)
	if err != nil {
		t.Fatal(err)
	}
	ns, err := New()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	const calls = 64
	var inside, outside sync.WaitGroup
	for i := range calls {
		inside.Go(func() {
			_ = ns.Do(func() error {
				if i%2 == 0 {
					runtime.Goexit()
				}
				return nil
			})
			if i%2 == 0 {
				t.Error("the caller of a function that ended its goroutine went on")
			}
		})
	}
	inside.Wait()
	gate := make(chan struct{})
	var looked sync.WaitGroup
	looked.Add(calls)
	for range calls {
		outside.Go(func() {
			// Each needs a thread of its own while the others wait.
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			if now, err := os.Readlink(current); err != nil || now != before {
				t.Errorf("a thread is in %s, not in %s: %v", now, before, err)
			}
			looked.Done()
			<-gate
		})
	}
	looked.Wait()
	close(gate)
	outside.Wait()
}
