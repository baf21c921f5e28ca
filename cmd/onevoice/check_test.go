package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const checkedFile = `[cluster]
name = "x"
interface = "eth0"
key_file = "/etc/onevoice/cluster.key"
peers = [{ address = "10.77.0.11", control = "192.168.5.11" }, "10.77.0.12"]
two_nodes = "witness"
witness = "192.168.5.9:99"
timing = "calm"
[node]
name = "unix1"
weight = 50
voter = false
agent = "exec:/bin/load --of cpu"
agent_interval = "1m"
ping = ["192.0.2.1", "192.0.2.2"]
gateway_check = false
[[vip]]
address = "10.77.0.2/24"
[[service]]
name = "ssh"
listen = "10.77.0.2:22"
backend = "127.0.0.1:22"
check = "ssh-banner"
check_interval = "3s"
`

// `onevoice check` shows every setting, to people and to programs.
func TestCheckShowsTheSettings(t *testing.T) {
	file := filepath.Join(t.TempDir(), "onevoice.toml")
	if err := os.WriteFile(file, []byte(checkedFile), 0o644); err != nil {
		t.Fatal(err)
	}
	code, out := runProgram(t, program(t, "check", "--config", file), (*exec.Cmd).Start)
	want := `cluster    x on eth0, 2 nodes: 10.77.0.11, 10.77.0.12
agreement  timing calm, UDP port 7177, 10.77.0.11 also at 192.168.5.11, witness
           192.168.5.9:99
VIP        10.77.0.2/24 on eth0, multicast, MAC 01:00:5e:4d:00:02
service    ssh on 10.77.0.2:22 to 127.0.0.1:22, affinity source-ip, source
           transparent
           check ssh-banner every 3s, failed after 1s; up after 2 good answers,
           down after 3 bad ones, for 10s at least
node       unix1, weight 50, does not vote, state in /var/lib/onevoice, running
           flows get 10s at a stop
           of its weight counts what exec:/bin/load --of cpu says, every 1m0s
           of its weight counts how well 192.0.2.1, 192.0.2.2 answer pings
           serves without a gateway too
socket     /run/onevoice/onevoice.sock
`
	if code != 0 || out != want {
		t.Errorf("exit %d:\n%s\nwant\n%s", code, out, want)
	}

	code, out = runProgram(t, program(t, "check", "--json", "--config", file), (*exec.Cmd).Start)
	var got checkedConfig
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != 0 {
		t.Fatalf("exit %d, %v:\n%s", code, err, out)
	}
	if got.Witness != "192.168.5.9:99" || got.TwoNodes != "witness" || got.Timing != "calm" || got.ControlPort != 7177 ||
		len(got.Peers) != 2 || got.Peers[0] != (checkedPeer{"10.77.0.11", "192.168.5.11"}) || got.Peers[1] != (checkedPeer{Address: "10.77.0.12"}) {
		t.Errorf("cluster %+v", got)
	}
	if n := got.Node; n.Weight != 50 || n.Voter == nil || *n.Voter || n.Agent != "exec:/bin/load --of cpu" || n.AgentInterval != "1m0s" || strings.Join(n.Ping, " ") != "192.0.2.1 192.0.2.2" || n.GatewayCheck {
		t.Errorf("node %+v", n)
	}
	if s := got.Services[0]; s.Check != "ssh-banner" || s.Interval != "3s" || s.Timeout != "1s" || s.Rise != 2 || s.Fall != 3 || s.HoldDown != "10s" {
		t.Errorf("service %+v", s)
	}
	if got.Warnings == nil {
		t.Error("warnings are null, and no list")
	}
}
