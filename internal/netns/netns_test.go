package netns

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"strings"
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
	// No thread of ours has stayed there.
	tasks, _ := os.ReadDir("/proc/self/task")
	for _, task := range tasks {
		if link, err := os.Readlink("/proc/self/task/" + task.Name() + "/ns/net"); err == nil && link != before {
			// A thread that is just ending may still be listed.
			if state, _ := os.ReadFile("/proc/self/task/" + task.Name() + "/stat"); len(state) > 0 && !strings.Contains(string(state), ") X") {
				t.Logf("thread %s is in %s", task.Name(), link)
			}
		}
	}
	wanted := errors.New("passed on")
	if err := ns.Do(func() error { return wanted }); err != wanted {
		t.Errorf("Do returned %v", err)
	}
}
