package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"onevoice/internal/netns"
)

// background runs a program in a namespace until the test ends.
func background(t *testing.T, ns *netns.NS, cmd *exec.Cmd) {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := ns.Start(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_, _ = cmd.Process.Wait()
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("%s said:\n%s", cmd.Path, text)
		}
	})
}

// output runs a program in a namespace to its end.
func output(t *testing.T, ns *netns.NS, command ...string) (string, error) {
	t.Helper()
	cmd := exec.Command(command[0], command[1:]...)
	out, err := os.CreateTemp(t.TempDir(), "out")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if err := ns.Start(cmd); err != nil {
		t.Fatal(err)
	}
	overdue := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer overdue.Stop()
	err = cmd.Wait()
	text, _ := os.ReadFile(out.Name())
	return string(text), err
}

// untilListening waits until somebody takes connections.
func untilListening(t *testing.T, ns *netns.NS, network, at string) {
	t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for begun := time.Now(); ; <-ticker.C {
		err := ns.Do(func() error {
			c, err := net.DialTimeout(network, at, patience)
			if err == nil {
				c.Close()
			}
			return err
		})
		if err == nil {
			return
		}
		if time.Since(begun) > patience {
			t.Fatalf("nobody listens on %s: %v", at, err)
		}
	}
}

// nginx serves in a namespace: each place that it listens on says which client it
// sees there.
func nginx(t *testing.T, ns *netns.NS, says map[string]string) {
	t.Helper()
	dir := t.TempDir()
	var servers strings.Builder
	for listen, variable := range says {
		fmt.Fprintf(&servers, "server { listen %s; location / { return 200 \"%s\\n\"; } }\n", listen, variable)
	}
	file := filepath.Join(dir, "nginx.conf")
	text := fmt.Sprintf("daemon off; master_process off; pid %s/pid; error_log stderr;\nevents {}\nhttp { access_log off; %s\n}\n", dir, servers.String())
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	background(t, ns, exec.Command("nginx", "-e", "stderr", "-p", dir, "-c", file))
	for listen := range says {
		network, at := "tcp", strings.Fields(listen)[0]
		if socket, ok := strings.CutPrefix(at, "unix:"); ok {
			network, at = "unix", socket
		}
		untilListening(t, ns, network, at)
	}
}

// A backend is told its client's address in each way that the file knows, wherever
// it is: nginx says whom it sees, and curl asks through the VIP.
func TestBackendsAreToldTheirClient(t *testing.T) {
	needTools(t, "curl", "nginx")
	p := newPair(t)
	socket := filepath.Join(t.TempDir(), "app.sock")
	const byHeader, bySocket = "$proxy_protocol_addr to $proxy_protocol_server_addr:$proxy_protocol_server_port", "$remote_addr"
	nginx(t, p.NS, map[string]string{
		"127.0.0.1:8001 proxy_protocol":      byHeader,
		"127.0.0.1:8002 proxy_protocol":      byHeader,
		"unix:" + socket + " proxy_protocol": byHeader,
		"10.77.0.11:8004":                    bySocket,
		"127.0.0.1:8005":                     bySocket,
	})
	err := p.client.Do(func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.LinkSetUp(lo)
	})
	if err != nil {
		t.Fatal(err)
	}
	nginx(t, p.client, map[string]string{"10.77.0.101:8006 proxy_protocol": byHeader, "10.77.0.101:8007": bySocket})
	services := []struct{ backend, source, want string }{
		{"127.0.0.1:8001", "proxy-v1", "10.77.0.101 to 10.77.0.2:81"},
		{"127.0.0.1:8002", "proxy-v2", "10.77.0.101 to 10.77.0.2:82"},
		{"unix:" + socket, "proxy-v2", "10.77.0.101 to 10.77.0.2:83"},
		{"10.77.0.11:8004", "transparent", "10.77.0.101"},
		{"127.0.0.1:8005", "plain", "127.0.0.1"},
		{"10.77.0.101:8006", "proxy-v1", "10.77.0.101 to 10.77.0.2:86"},
		{"10.77.0.101:8007", "plain", "10.77.0.11"},
	}
	var more strings.Builder
	for i, s := range services {
		fmt.Fprintf(&more, "[[service]]\nname = \"web%d\"\nlisten = \"%s:%d\"\nbackend = %q\nsource = %q\ncheck = \"http:/\"\n", i+1, testVIP, 81+i, s.backend, s.source)
	}
	p.configure(more.String())
	before := p.settings()
	run := p.start()
	run.until("answering: this node holds a lease")
	for i, s := range services {
		url := fmt.Sprintf("http://%s:%d/", testVIP, 81+i)
		for range 2 {
			if got, err := output(t, p.client, "curl", "-sS", url); got != s.want+"\n" || err != nil {
				t.Errorf("%s by %s says %q, %v; want %q", s.backend, s.source, got, err, s.want)
			}
		}
		// This host's own way to the VIP tells its address.
		own := strings.Replace(s.want, "10.77.0.101", "10.77.0.11", 1)
		if got, err := output(t, p.NS, "curl", "-sS", url); got != own+"\n" || err != nil {
			t.Errorf("%s by %s says %q to this host itself, %v; want %q", s.backend, s.source, got, err, own)
		}
	}
	// The checks begin as clients do, or nginx would refuse them.
	for _, s := range p.status().Services {
		if !s.Up {
			t.Errorf("service %s is down: %s", s.Name, s.Reason)
		}
	}
	run.end(syscall.SIGTERM)
	run.untilAllEnd()
	if after := p.settings(); after != before {
		t.Errorf("%d rules and routes, before %d", after, before)
	}
}
