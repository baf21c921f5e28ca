package config

import (
	"fmt"
	"strings"
	"testing"
)

func TestAccessAndLimits(t *testing.T) {
	for write, want := range map[string]string{
		"": `{[] []  } drop {0 0s 0 0 0 0  []}`,
		"allow = [\"10.0.0.0/8\", \"2001:db8::1\"]\ndeny = [\"10.1.2.3\"]\ndeny_action = \"reset\"":                                `{[10.0.0.0/8 2001:db8::1/128] [10.1.2.3/32]  } reset {0 0s 0 0 0 0  []}`,
		"allow_file = \"/l/allow\"\ndeny_file = \"/l/deny\"":                                                                       `{[] [] /l/allow /l/deny} drop {0 0s 0 0 0 0  []}`,
		`limit = { new = 2, per = "7s" }`:                                                                                          `{[] []  } drop {2 7s 0 0 32 64 reject []}`,
		`limit = { flows = 3, flows_per_node = 4, ipv4_prefix = 24, ipv6_prefix = 128, action = "drop", exempt = ["10.0.0.0/8"] }`: `{[] []  } drop {0 0s 3 4 24 128 drop [10.0.0.0/8]}`,
	} {
		s := parsed(t, `name = "ssh"`, `name = "ssh"`+"\n"+write).Services[0]
		if got := fmt.Sprint(s.Access, " ", s.DenyAction, " ", s.Limit); got != want {
			t.Errorf("%s\nmeans %s\nwant  %s", write, got, want)
		}
	}
	c := parsed(t, "[[vip]]", "[access]\nallow = [\"0.0.0.0/0\"]\ndeny = [\"192.0.2.0/24\"]\nallow_file = \"/l/allow\"\ndeny_file = \"/l/deny\"\n[[vip]]")
	if got := fmt.Sprint(c.Access); got != "{[0.0.0.0/0] [192.0.2.0/24] /l/allow /l/deny}" {
		t.Errorf("of all services: %s", got)
	}
}

func TestFaultsOfAccessAndLimits(t *testing.T) {
	many := strings.TrimSuffix(strings.Repeat("\"10.0.0.1\", ", MaxPrefixes+1), ", ")
	for write, want := range map[string]string{
		`allow = ["10.1.2.3/8"]`:                                `service[0].allow[0]: 10.1.2.3/8 is an address in a network; write the network, "10.0.0.0/8", or the address alone`,
		`allow = ["everybody"]`:                                 `service[0].allow[0]: "everybody" is not a prefix; write one like "198.51.100.0/24" or "2001:db8::/32"`,
		`allow = ["::ffff:10.0.0.1"]`:                           `service[0].allow[0]: "::ffff:10.0.0.1" is not a prefix; write one like "198.51.100.0/24" or "2001:db8::/32"`,
		`deny = ["10.0.0.1", "10.0.0.1/32"]`:                    `service[0].deny[1]: 10.0.0.1/32 is there twice; write each once`,
		"allow = [\"10.0.0.0/8\"]\ndeny = [\"10.0.0.0/8\"]":     `service[0].deny[0]: 10.0.0.0/8 is in allow, too; write it in one of them`,
		"deny = [" + many + "]":                                 `service[0].deny: there are 1025; write at most 1024 prefixes`,
		`deny_file = "ssh.deny"`:                                `service[0].deny_file: "ssh.deny" is no absolute path; write one like "/etc/onevoice/lists/ssh.deny"`,
		`allow_file = ""`:                                       `service[0].allow_file: "" is no absolute path; write one like "/etc/onevoice/lists/ssh.deny"`,
		"allow_file = \"/a\"\ndeny_file = \"/a\"":               `service[0].deny_file: /a is allow_file, too; write a file of its own`,
		`deny_action = "tarpit"`:                                `service[0].deny_action: "tarpit" is not an action; write "reject" (an ICMP error), "reset" or "drop"`,
		`limit = "2/7s"`:                                        `service[0].limit: this is a text; write a table [limit]`,
		`limit = {}`:                                            `service[0].limit: it limits nothing; write new and per, flows, or flows_per_node`,
		`limit = { new = 2 }`:                                   `service[0].limit: new and per belong together: so many new connections within so long a time; write both, such as new = 2, per = "7s"`,
		`limit = { per = "7s", flows = 2 }`:                     `service[0].limit: new and per belong together: so many new connections within so long a time; write both, such as new = 2, per = "7s"`,
		`limit = { new = 256, per = "7s" }`:                     `service[0].limit.new: 256 is not a number from 1 to 255; write one like 2`,
		`limit = { new = 2, per = "7" }`:                        `service[0].limit.per: "7" is not a time from "100ms" to "1h"; write one like "100ms"`,
		`limit = { flows = 0 }`:                                 `service[0].limit.flows: 0 is not a number from 1 to 262144; write one like 2`,
		`limit = { flows = 2, ipv4_prefix = 33 }`:               `service[0].limit.ipv4_prefix: 33 is not a number from 8 to 32; write one like 32`,
		`limit = { flows = 2, action = "block" }`:               `service[0].limit.action: "block" is not an action; write "reject" (an ICMP error), "reset" or "drop"`,
		`limit = { flows = 2, hitcount = 3 }`:                   `service[0].limit.hitcount: there is no such key; known are new, per, flows, flows_per_node, ipv4_prefix, ipv6_prefix, action, exempt`,
		`limit = { new = 2, per = "7s", exempt = ["10.1/16"] }`: `service[0].limit.exempt[0]: "10.1/16" is not a prefix; write one like "198.51.100.0/24" or "2001:db8::/32"`,
	} {
		_, err := Parse("f", []byte(good+write+"\n"), "h")
		if err == nil || !strings.HasSuffix(err.Error(), ": "+want) {
			t.Errorf("%s\nsays %v\nwant %s", write, err, want)
		}
	}
}

// A datagram has neither a connection that is open nor a reset.
func TestLimitsOfUDP(t *testing.T) {
	udp := strings.Replace(good, `"10.77.0.2:22"`, `"udp://10.77.0.2:22"`, 1)
	for write, want := range map[string]string{
		`limit = { new = 2, per = "7s" }`:                   "",
		`limit = { flows = 2 }`:                             `service[0].limit: flows and flows_per_node are for connections; write new and per alone, the flows of UDP are bounded for each client as it is`,
		`limit = { new = 2, per = "7s", action = "reset" }`: `service[0].limit.action: nothing resets a datagram; write "reject" or "drop"`,
		`deny_action = "reset"`:                             `service[0].deny_action: nothing resets a datagram; write "reject" or "drop"`,
	} {
		_, err := Parse("f", []byte(udp+write+"\n"), "h")
		if want == "" && err != nil || want != "" && (err == nil || !strings.HasSuffix(err.Error(), ": "+want)) {
			t.Errorf("%s\nsays %v\nwant %s", write, err, want)
		}
	}
}

// A limit that a source can have on each node apart is told, with what to write.
func TestLimitsThatSpread(t *testing.T) {
	for write, want := range map[string]string{
		`affinity = "source-ip"`:                                          ``,
		"affinity = \"source-net\"":                                       ``,
		"affinity = \"source-net\"\nlimit.ipv4_prefix = 24":               ``,
		"affinity = \"source-ip-port\"":                                   `affinity source-ip-port spreads a source over them, and one gets up to 3 times as much; write affinity = "source-ip"`,
		"affinity = \"source-ip-port-dest-port\"\nlimit.ipv4_prefix = 28": `affinity source-ip-port-dest-port spreads a source over them, and one gets up to 3 times as much; write affinity = "source-net"`,
		"affinity = \"source-ip\"\nlimit.ipv4_prefix = 16":                `affinity source-ip spreads a source over them, and one gets up to 3 times as much; write affinity = "source-net" and in the limit ipv4_prefix = 24`,
	} {
		c, err := Parse("f", []byte(good+write+"\nlimit.new = 2\nlimit.per = \"7s\"\n"), "h")
		if err != nil {
			t.Fatal(err)
		}
		got := strings.Join(c.Warnings, "\n")
		if want == "" && got != "" || want != "" && got != "service ssh: its limit counts on each node apart, for "+want {
			t.Errorf("%s\nwarns %s\nwant  %s", write, got, want)
		}
	}
	if c := parsed(t, `name = "ssh"`, "name = \"ssh\"\naffinity = \"source-ip-port\"\nlimit.flows_per_node = 2"); len(c.Warnings) != 0 {
		t.Errorf("what counts on each node anyway warns %v", c.Warnings)
	}
}
