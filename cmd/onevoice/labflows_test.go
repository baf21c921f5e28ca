package main

import (
	"os/exec"
	"strings"
	"testing"
	"time"
)

// An operator sees a running flow on the node that has it and ends it; the page's
// metrics count it, and the page is where the file says.
func TestFlowsAreSeenAndEnded(t *testing.T) {
	newLab(t, "--nodes=2", "--clients=1", "--addresses=1")
	in := func(node string, args ...string) string {
		t.Helper()
		code, out := runProgram(t, labProgram(t, append([]string{"exec", node, "--"}, args...)...), (*exec.Cmd).Start)
		if code != 0 {
			t.Fatalf("%v on %s: exit %d: %s", args, node, code, out)
		}
		return out
	}
	// It reads until the service or a reset ends it.
	client := labProgram(t, "exec", "ov-client1", "--", "bash", "-c", "exec 3<>/dev/tcp/10.77.0.2/22; cat <&3; echo over")
	ended := make(chan string, 1)
	go func() {
		out, _ := client.CombinedOutput()
		ended <- string(out)
	}()
	holder := ""
	for begun := time.Now(); holder == ""; {
		if time.Since(begun) > patience {
			t.Fatal("no node has the flow")
		}
		for _, node := range []string{"ov-n1", "ov-n2"} {
			if strings.Contains(in(node, "onevoice", "flows", "10.77.0.0/24", "--service", "ssh"), "10.77.0.101:") {
				holder = node
			}
		}
	}
	if got := in(holder, "onevoice", "flows", "10.77.0.102"); got != "of 1 running on this host, no flow is from 10.77.0.102\n" {
		t.Errorf("another client's flows are %q", got)
	}
	web := func(path string) string {
		return in(holder, "bash", "-c", `exec 3<>/dev/tcp/127.0.0.1/7177; printf 'GET `+path+` HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n' >&3; cat <&3`)
	}
	for path, want := range map[string]string{"/metrics": "\nonevoice_flows 1\n", "/": "<title>onevoice</title>", "/v1/status?table=1&flows=1": `"may_change":false`} {
		if got := web(path); !strings.Contains(got, want) {
			t.Errorf("%s has no %q:\n%s", path, want, got)
		} else if strings.Contains(got, "10.77.0.101") {
			t.Errorf("%s names a client", path)
		}
	}
	if got := in(holder, "onevoice", "flows", "10.77.0.101", "--kill"); got != "1 ended\n" {
		t.Errorf("ending it says %q", got)
	}
	select {
	case got := <-ended:
		if !strings.Contains(got, "Connection reset") {
			t.Errorf("the client saw %q", got)
		}
	case <-time.After(patience):
		t.Error("the client has not seen an end")
	}
	if got := in(holder, "onevoice", "flows"); got != "no flow runs on this host\n" {
		t.Errorf("after that it lists %q", got)
	}
}
