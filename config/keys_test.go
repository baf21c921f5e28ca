package config

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

const twoPeers = `peers = ["10.77.0.11", "10.77.0.12"]`
const threePeers = `peers = ["10.77.0.11", "10.77.0.12", "10.77.0.13"]`
const fourPeers = `peers = ["10.77.0.11", "10.77.0.12", "10.77.0.13", "10.77.0.14"]`

// parsed reads the good file with a text of it replaced.
func parsed(t *testing.T, old, new string) *Config {
	t.Helper()
	c, err := Parse("f", []byte(edited(t, good, old, new)), "h")
	if err != nil {
		t.Fatalf("%q: %v", new, err)
	}
	return c
}

func TestClusterKeys(t *testing.T) {
	for _, c := range []struct {
		write string // instead of the three peers
		want  string // peers, controls, port, two_nodes, witness, timing
	}{
		{threePeers, `[10.77.0.11 10.77.0.12 10.77.0.13] [invalid IP invalid IP invalid IP] 7177 "" invalid AddrPort lan`},
		{threePeers + "\ntiming = \"fast\"", `[10.77.0.11 10.77.0.12 10.77.0.13] [invalid IP invalid IP invalid IP] 7177 "" invalid AddrPort fast`},
		{threePeers + "\ntiming = \"calm\"\ncontrol_port = 65535", `[10.77.0.11 10.77.0.12 10.77.0.13] [invalid IP invalid IP invalid IP] 65535 "" invalid AddrPort calm`},
		{`peers = [{ address = "10.77.0.11", control = "192.168.5.11" }, "10.77.0.12", { address = "10.77.0.13" }]`,
			`[10.77.0.11 10.77.0.12 10.77.0.13] [192.168.5.11 invalid IP invalid IP] 7177 "" invalid AddrPort lan`},
		{"[[cluster.peers]]\naddress = \"10.77.0.11\"\ncontrol = \"192.168.5.11\"", `[10.77.0.11] [192.168.5.11] 7177 "" invalid AddrPort lan`},
		{twoPeers + "\ntwo_nodes = \"witness\"\nwitness = \"192.168.5.9\"", `[10.77.0.11 10.77.0.12] [invalid IP invalid IP] 7177 "witness" 192.168.5.9:7177 lan`},
		{twoPeers + "\ntwo_nodes = \"witness\"\nwitness = \"192.168.5.9\"\ncontrol_port = 1", `[10.77.0.11 10.77.0.12] [invalid IP invalid IP] 1 "witness" 192.168.5.9:1 lan`},
		{twoPeers + "\ntwo_nodes = \"witness\"\nwitness = \"192.168.5.9:99\"", `[10.77.0.11 10.77.0.12] [invalid IP invalid IP] 7177 "witness" 192.168.5.9:99 lan`},
		{twoPeers + "\ntwo_nodes = \"preferred\"", `[10.77.0.11 10.77.0.12] [invalid IP invalid IP] 7177 "preferred" invalid AddrPort lan`},
		{fourPeers + "\nwitness = \"192.168.5.9\"", `[10.77.0.11 10.77.0.12 10.77.0.13 10.77.0.14] [invalid IP invalid IP invalid IP invalid IP] 7177 "" 192.168.5.9:7177 lan`},
	} {
		p := parsed(t, threePeers, c.write)
		got := fmt.Sprintf("%v %v %d %q %v %s", p.Cluster.Peers, p.Cluster.Controls, p.Cluster.ControlPort, p.Cluster.TwoNodes, p.Cluster.Witness, p.Cluster.Timing)
		if got != c.want {
			t.Errorf("%s\nmeans %s\nwant  %s", c.write, got, c.want)
		}
		if len(p.Warnings) != 0 {
			t.Errorf("%s: warnings %q", c.write, p.Warnings)
		}
	}
}

func TestNodeKeys(t *testing.T) {
	for _, c := range []struct {
		write string
		want  string // weight, voter, agent, its interval, ping, gateway_check
	}{
		{"", `100 by-rule {Program: Args:[] File:} 5s [] true`},
		{"weight = 1\nvoter = false\ngateway_check = false", `1 false {Program: Args:[] File:} 5s [] false`},
		{"weight = 1000\nvoter = true", `1000 true {Program: Args:[] File:} 5s [] true`},
		{"agent = \"exec:/bin/load  --of cpu\"\nagent_interval = \"200ms\"", `100 by-rule {Program:/bin/load Args:[--of cpu] File:} 200ms [] true`},
		{"agent = \"file:/run/my load\"\nagent_interval = \"1h\"", `100 by-rule {Program: Args:[] File:/run/my load} 1h0m0s [] true`},
		{`ping = ["192.0.2.1", "10.77.0.254"]`, `100 by-rule {Program: Args:[] File:} 5s [192.0.2.1 10.77.0.254] true`},
	} {
		n := parsed(t, "[[vip]]", "[node]\n"+c.write+"\n[[vip]]").Node
		voter := "by-rule"
		if n.Voter != nil {
			voter = fmt.Sprint(*n.Voter)
		}
		if got := fmt.Sprintf("%d %s %+v %v %v %v", n.Weight, voter, n.Agent, n.AgentInterval, n.Ping, n.GatewayCheck); got != c.want {
			t.Errorf("%s\nmeans %s\nwant  %s", c.write, got, c.want)
		}
	}
}

func TestServiceChecks(t *testing.T) {
	byDefault := Check{Kind: CheckTCP, Target: "127.0.0.1:22", Backend: true, Interval: 2 * time.Second, Timeout: time.Second, Rise: 2, Fall: 3, HoldDown: 10 * time.Second}
	with := func(change func(*Check)) Check {
		c := byDefault
		change(&c)
		return c
	}
	for write, want := range map[string]Check{
		"":                       byDefault,
		`check = "ssh-banner"`:   with(func(c *Check) { c.Kind = CheckSSHBanner }),
		`check_interval = "1h"`:  with(func(c *Check) { c.Interval = time.Hour }),
		`check_timeout = "10ms"`: with(func(c *Check) { c.Timeout = 10 * time.Millisecond }),
		`check_timeout = "2s"`:   with(func(c *Check) { c.Timeout = 2 * time.Second }),
		`hold_down = "0s"`:       with(func(c *Check) { c.HoldDown = 0 }),
		`hold_down = "1h"`:       with(func(c *Check) { c.HoldDown = time.Hour }),
		// The default timeout is never longer than the interval.
		`check_interval = "200ms"`:                      with(func(c *Check) { c.Interval, c.Timeout = 200*time.Millisecond, 200*time.Millisecond }),
		"check_rise = 1\ncheck_fall = 100":              with(func(c *Check) { c.Rise, c.Fall = 1, 100 }),
		`check = "http://127.0.0.1:8080/health?full=1"`: with(func(c *Check) { c.Kind, c.Target, c.Backend = CheckHTTP, "http://127.0.0.1:8080/health?full=1", false }),
		`check = "http://store/"`:                       with(func(c *Check) { c.Kind, c.Target, c.Backend = CheckHTTP, "http://store/", false }),
		`check = "exec:/usr/bin/test -e /run/ok"`: with(func(c *Check) {
			c.Kind, c.Target, c.Args, c.Backend = CheckExec, "/usr/bin/test", []string{"-e", "/run/ok"}, false
		}),
	} {
		got := parsed(t, `name = "ssh"`, `name = "ssh"`+"\n"+write).Services[0].Check
		if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
			t.Errorf("%s\nmeans %+v\nwant  %+v", write, got, want)
		}
		// What it says of itself is what the file says.
		if text, ok := strings.CutPrefix(write, `check = "`); ok && got.Text() != strings.TrimSuffix(text, `"`) {
			t.Errorf("%s says of itself %q", write, got.Text())
		}
	}
}

// Each case is lines written instead of the three peers, in [node] or in the
// service; all errors are wanted, and no others, without their line.
func TestImpossibleValues(t *testing.T) {
	const notTold = "is missing, and two nodes alone cannot tell a dead peer from a cut cable; write \"witness\" (safe: any third box decides) or \"preferred\" (safe too, but service stops while the preferred node, the first peer, is away)"
	many := "ping = [" + strings.Repeat(`"192.0.2.1",`, MaxPings+1) + "]"
	long := "exec:/" + strings.Repeat("a", maxCommandBytes)
	for where, cases := range map[string]map[string]string{
		"cluster": {
			threePeers + "\ntiming = \"LAN\"":                                                            `cluster.timing: "LAN" is not a timing; write "fast", "lan" or "calm"`,
			threePeers + "\ntiming = \"\"":                                                               `cluster.timing: "" is not a timing; write "fast", "lan" or "calm"`,
			threePeers + "\ncontrol_port = 0":                                                            `cluster.control_port: 0 is not a number from 1 to 65535; write one like 7177`,
			threePeers + "\ncontrol_port = 65536":                                                        `cluster.control_port: 65536 is not a number from 1 to 65535; write one like 7177`,
			threePeers + "\ncontrol_port = \"1\"":                                                        `cluster.control_port: this is a text; write a whole number`,
			twoPeers:                                                                                     "cluster.two_nodes: " + notTold,
			twoPeers + "\nwitness = \"192.168.5.9\"":                                                     `cluster.two_nodes: is missing, and what two nodes do is never implied; with a witness write two_nodes = "witness"`,
			twoPeers + "\ntwo_nodes = \"witness\"":                                                       `cluster.witness: is missing, and two_nodes = "witness" needs one; write the address of a third box that runs ` + "`onevoice witness`" + `, such as "192.168.5.9"`,
			twoPeers + "\ntwo_nodes = \"preferred\"\nwitness = \"192.168.5.9\"":                          `cluster.witness: is not asked with two_nodes = "preferred"; write two_nodes = "witness", or leave the witness out`,
			threePeers + "\ntwo_nodes = \"preferred\"":                                                   `cluster.two_nodes: is for two peers, and there are 3; leave it out`,
			threePeers + "\nwitness = \"192.168.5.9\"":                                                   `cluster.witness: is for an even number of peers, and there are 3, who decide alone; leave it out`,
			fourPeers + "\nwitness = \"10.77.0.11\"":                                                     `cluster.witness: 10.77.0.11 is in cluster.peers; write the address of a box that is no node`,
			fourPeers + "\nwitness = \"10.77.0.11:99\"":                                                  `cluster.witness: 10.77.0.11 is in cluster.peers; write the address of a box that is no node`,
			fourPeers + "\nwitness = \"\"":                                                               `cluster.witness: "" is not an address; write one like "192.168.5.9" or "192.168.5.9:7177", an address and no name`,
			fourPeers + "\nwitness = \"arbiter\"":                                                        `cluster.witness: "arbiter" is not an address; write one like "192.168.5.9" or "192.168.5.9:7177", an address and no name`,
			fourPeers + "\nwitness = \"192.168.5.9:0\"":                                                  `cluster.witness: "192.168.5.9:0" is not an address; write one like "192.168.5.9" or "192.168.5.9:7177", an address and no name`,
			fourPeers + "\nwitness = \"127.0.0.1\"":                                                      `cluster.witness: 127.0.0.1 is not the IPv4 address of a host; write one like "192.168.5.9"`,
			fourPeers + "\nwitness = \"10.77.0.2\"":                                                      `vip[0].address: 10.77.0.2 is also cluster.witness; write an address that nobody has`,
			`peers = [{ address = "10.77.0.11", control = "10.77.0.2" }]`:                                `vip[0].address: 10.77.0.2 is also a control address in cluster.peers; write an address that no node has`,
			`peers = [{ address = "10.77.0.11", control = "10.77.0.11" }]`:                               `cluster.peers[0].control: 10.77.0.11 is there twice; write the node's own address on the management network, or leave it out`,
			`peers = ["10.77.0.11", "192.168.5.9", { address = "10.77.0.12", control = "192.168.5.9" }]`: `cluster.peers[2].control: 192.168.5.9 is there twice; write the node's own address on the management network, or leave it out`,
			`peers = [{ address = "10.77.0.11", control = "192.168.5.9" }, "192.168.5.9", "10.77.0.12"]`: `cluster.peers[1]: 192.168.5.9 is there twice; write each node once`,
			`peers = [{ address = "unix1" }]`:                                                            `cluster.peers[0].address: "unix1" is not an address; write one like "10.77.0.11"`,
			`peers = [{ control = "192.168.5.9" }]`:                                                      `cluster.peers[0].address: is missing; write one, such as "10.77.0.11"`,
			`peers = [{ address = "10.77.0.11", controll = "192.168.5.9" }]`:                             `cluster.peers[0].controll: there is no such key; did you mean control?`,
			`peers = [{ address = "10.77.0.11", control = "" }]`:                                         `cluster.peers[0].control: "" is not an address; write one like "192.168.5.11"`,
			`peers = [7]`:                         `cluster.peers[0]: this is a whole number; write a text in quotes, or a table { address = "…", control = "…" }`,
			`peers = [{ address = 7 }]`:           `cluster.peers[0].address: this is a whole number; write a text in quotes, "…"`,
			`peers = "10.77.0.11"`:                `cluster.peers: this is a text; write a list of texts, ["…", "…"]`,
			`peers = ["10.77.0.11 192.168.5.11"]`: `cluster.peers[0]: "10.77.0.11 192.168.5.11" is not an address; write one like "10.77.0.11"`,
		},
		"node": {
			"weight = 0":                        `node.weight: 0 is not a number from 1 to 1000; write one like 100`,
			"weight = 1001":                     `node.weight: 1001 is not a number from 1 to 1000; write one like 100`,
			"weight = 50.5":                     `node.weight: this is a number with a fraction; write a whole number`,
			"weight = 4294967397":               `node.weight: 4294967397 is not a number from 1 to 1000; write one like 100`,
			`voter = "no"`:                      `node.voter: this is a text; write true or false`,
			"gateway_check = 1":                 `node.gateway_check: this is a whole number; write true or false`,
			`agent = ""`:                        `node.agent: "" is not an agent; write "exec:/PROGRAM ARGUMENTS" or "file:/PATH", which says a number from 0 to 100`,
			`agent = "/bin/load"`:               `node.agent: "/bin/load" is not an agent; write "exec:/PROGRAM ARGUMENTS" or "file:/PATH", which says a number from 0 to 100`,
			`agent = "file:load"`:               `node.agent: "file:load" is not an agent; write "exec:/PROGRAM ARGUMENTS" or "file:/PATH", which says a number from 0 to 100`,
			`agent = "exec:load"`:               `node.agent: "exec:load" names no program; write "exec:/PROGRAM ARGUMENTS" with the program's whole path`,
			`agent = "exec:/a | b"`:             `node.agent: "exec:/a | b" has signs that only a shell understands, and none reads it; write a script`,
			`agent_interval = "199ms"`:          `node.agent_interval: "199ms" is not a time from "200ms" to "1h"; write one like "5s"`,
			`agent_interval = "61m"`:            `node.agent_interval: "61m" is not a time from "200ms" to "1h"; write one like "5s"`,
			many:                                `node.ping: there are 9; write at most 8 addresses`,
			`ping = ["gateway"]`:                `node.ping[0]: "gateway" is not an address; write one like "192.0.2.1"`,
			`ping = "192.0.2.1"`:                `node.ping: this is a text; write a list of texts, ["…", "…"]`,
			`ping = ["192.0.2.1", "192.0.2.1"]`: `node.ping[1]: 192.0.2.1 is there twice; write each host once`,
			`ping = ["10.77.0.2"]`:              `node.ping[0]: 10.77.0.2 is a VIP, which this cluster answers itself; write a host beyond the uplink`,
			`stop_timeout = "10m1s"`:            `node.stop_timeout: "10m1s" is not a time from "0s" to "10m"; write one like "10s"`,
		},
		"service": {
			`check = "udp"`:             `service[0].check: "udp" is for UDP services; write "tcp"`,
			`idle_timeout = "9s"`:       `service[0].idle_timeout: is for UDP services; leave it out, connections end by themselves`,
			`check = "https://h/"`:      `service[0].check: "https://h/" is not a check; write "tcp", "udp", "ssh-banner", "http://HOST:PORT/PATH" or "exec:/PROGRAM ARGUMENTS"`,
			`check = "http://"`:         `service[0].check: "http://" is no address to ask; write one like "http://127.0.0.1:8080/health", or "http:/health" for the backend itself`,
			`check = "http://h:0/"`:     `service[0].check: "http://h:0/" is no address to ask; write one like "http://127.0.0.1:8080/health", or "http:/health" for the backend itself`,
			`check = "http://h:/"`:      `service[0].check: "http://h:/" is no address to ask; write one like "http://127.0.0.1:8080/health", or "http:/health" for the backend itself`,
			`check = "http://h:65536/"`: `service[0].check: "http://h:65536/" is no address to ask; write one like "http://127.0.0.1:8080/health", or "http:/health" for the backend itself`,
			`check = "http://u:p@h/"`:   `service[0].check: "http://u:p@h/" is no address to ask; write one like "http://127.0.0.1:8080/health", or "http:/health" for the backend itself`,
			`check = "http://h/a b"`:    `service[0].check: "http://h/a b" is no address to ask; write one like "http://127.0.0.1:8080/health", or "http:/health" for the backend itself`,
			`check = "http://h/#x"`:     `service[0].check: "http://h/#x" is no address to ask; write one like "http://127.0.0.1:8080/health", or "http:/health" for the backend itself`,
			`check = "exec:"`:           `service[0].check: "exec:" names no program; write "exec:/PROGRAM ARGUMENTS" with the program's whole path`,
			`check = "exec:/a 'b c'"`:   `service[0].check: "exec:/a 'b c'" has signs that only a shell understands, and none reads it; write a script`,
			`check = "exec:/a\nb"`:      `service[0].check: "exec:/a\nb" names no program; write "exec:/PROGRAM ARGUMENTS" with the program's whole path`,
			`check = "` + long + `"`:    `service[0].check: the command is too long, at most 1024 bytes and 64 arguments can be run; write a script`,
			`check = "exec:/a` + strings.Repeat(" b", maxArguments+1) + `"`: `service[0].check: the command is too long, at most 1024 bytes and 64 arguments can be run; write a script`,
			"check = \"ssh-banner\"\ncheck_interval = \"1999ms\"":           `service[0].check_interval: "1.999s" is too short for ssh-banner, sshd would refuse this host for a while; write at least "2s"`,
			`check_interval = "199ms"`:                                      `service[0].check_interval: "199ms" is not a time from "200ms" to "1h"; write one like "2s"`,
			`check_interval = "-2s"`:                                        `service[0].check_interval: "-2s" is not a time from "200ms" to "1h"; write one like "2s"`,
			`check_interval = 2`:                                            `service[0].check_interval: this is a whole number; write a text in quotes, "…"`,
			`check_timeout = "9ms"`:                                         `service[0].check_timeout: "9ms" is not a time from "10ms" to "1h"; write one like "1s"`,
			`check_timeout = "3s"`:                                          `service[0].check_timeout: "3s" is longer than check_interval, "2s"; write at most that, or a longer interval`,
			"check_interval = \"x\"\ncheck_timeout = \"3s\"":                `service[0].check_interval: "x" is not a time from "200ms" to "1h"; write one like "2s"`,
			"check_rise = 0":                                                `service[0].check_rise: 0 is not a number from 1 to 100; write one like 2`,
			"check_fall = 101":                                              `service[0].check_fall: 101 is not a number from 1 to 100; write one like 3`,
			`hold_down = "61m"`:                                             `service[0].hold_down: "61m" is not a time from "0s" to "1h"; write one like "10s"`,
			`hold_down = ""`:                                                `service[0].hold_down: "" is not a time from "0s" to "1h"; write one like "10s"`,
		},
	} {
		for write, want := range cases {
			var text string
			switch where {
			case "cluster":
				text = edited(t, good, threePeers, write)
			case "node":
				text = edited(t, good, "[[vip]]", "[node]\n"+write+"\n[[vip]]")
			case "service":
				text = good + write + "\n"
			}
			_, err := Parse("cluster.toml", []byte(text), "h")
			if err == nil {
				t.Errorf("no error for %s", write)
				continue
			}
			checkLines(t, text, err)
			if _, got, _ := strings.Cut(strings.TrimPrefix(err.Error(), "cluster.toml:"), ": "); got != want {
				t.Errorf("%s\nsays %s\nwant %s", write, got, want)
			}
		}
	}
}

// Most arguments, most pinged hosts and the longest command are taken.
func TestBoundsOfChecksAreReached(t *testing.T) {
	args := strings.Repeat(" b", maxArguments)
	if c := parsed(t, `name = "ssh"`, `name = "ssh"`+"\ncheck = \"exec:/a"+args+"\"").Services[0].Check; len(c.Args) != maxArguments {
		t.Errorf("%d arguments", len(c.Args))
	}
	program := "/" + strings.Repeat("a", maxCommandBytes-1)
	if c := parsed(t, `name = "ssh"`, `name = "ssh"`+"\ncheck = \"exec:"+program+"\"").Services[0].Check; c.Target != program {
		t.Errorf("the program is %q", c.Target)
	}
	url := "http://h/" + strings.Repeat("a", maxCommandBytes-len("http://h/"))
	if c := parsed(t, `name = "ssh"`, `name = "ssh"`+"\ncheck = \""+url+"\"").Services[0].Check; c.Target != url {
		t.Errorf("the URL is %q", c.Target)
	}
	var hosts []string
	for i := range MaxPings {
		hosts = append(hosts, fmt.Sprintf("\"192.0.2.%d\"", i+1))
	}
	if n := parsed(t, "[[vip]]", "[node]\nping = ["+strings.Join(hosts, ",")+"]\n[[vip]]").Node; len(n.Ping) != MaxPings {
		t.Errorf("%d hosts", len(n.Ping))
	}
}

// Each case is lines of a service, with its backend, and what they come to.
func TestBackends(t *testing.T) {
	for write, want := range map[string]string{
		`backend = "127.0.0.1:22"`:   `127.0.0.1:22 transparent tcp 127.0.0.1:22 true`,
		`backend = "192.168.5.9:22"`: `192.168.5.9:22 transparent tcp 192.168.5.9:22 true`,
		"backend = \"127.0.0.1:80\"\nsource = \"proxy-v1\"\ncheck = \"http:/health?a=b\"":           `127.0.0.1:80 proxy-v1 http http://127.0.0.1:80/health?a=b true`,
		"backend = \"127.0.0.1:80\"\nsource = \"proxy-v2\"\ncheck = \"http://127.0.0.1/health\"":    `127.0.0.1:80 proxy-v2 http http://127.0.0.1/health true`,
		"backend = \"127.0.0.1:80\"\nsource = \"plain\"\ncheck = \"http://127.0.0.1:81/\"":          `127.0.0.1:80 plain http http://127.0.0.1:81/ false`,
		"backend = \"unix:/run/app.sock\"\nsource = \"proxy-v2\"":                                   `unix:/run/app.sock proxy-v2 tcp unix:/run/app.sock true`,
		"backend = \"unix:/run/app.sock\"\nsource = \"plain\"\ncheck = \"http:/health\"":            `unix:/run/app.sock plain http http://localhost/health true`,
		"backend = \"unix:/run/app.sock\"\nsource = \"plain\"\ncheck = \"http://localhost/health\"": `unix:/run/app.sock plain http http://localhost/health false`,
	} {
		s := parsed(t, `backend = "127.0.0.1:22"`, write).Services[0]
		if got := fmt.Sprint(s.BackendText(), " ", s.Source, " ", s.Check.Kind, " ", s.Check.Target, " ", s.Check.Backend); got != want {
			t.Errorf("%s\nmeans %s\nwant  %s", write, got, want)
		}
	}
	for write, want := range map[string]string{
		`unix:/run/app.sock`:                `service[0].backend: a unix socket sees no client's address, which source = "transparent" means; write source = "proxy-v2" or "proxy-v1", if the service reads that, or "plain"`,
		`unix:app.sock`:                     `service[0].backend: "unix:app.sock" is no unix socket; write unix: and an absolute path of at most 107 bytes, such as "unix:/run/app.sock"`,
		`unix:/` + strings.Repeat("a", 107): `service[0].backend: ` + shown("unix:/"+strings.Repeat("a", 107)) + ` is no unix socket; write unix: and an absolute path of at most 107 bytes, such as "unix:/run/app.sock"`,
	} {
		_, err := Parse("f", []byte(strings.Replace(good, "127.0.0.1:22", write, 1)), "h")
		if err == nil || !strings.HasSuffix(err.Error(), ": "+want) {
			t.Errorf("%s says %v\nwant %s", write, err, want)
		}
	}
}
