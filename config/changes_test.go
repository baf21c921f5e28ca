package config

import (
	"strings"
	"testing"
)

// What cannot be changed while sessions go on is refused with what to do.
func TestContinues(t *testing.T) {
	const vip, second = "address = \"10.77.0.2/24\"\n", "[[vip]]\naddress = \"10.77.0.3/24\"\n"
	alone := func(c *Config) { c.Cluster.Peers = c.Cluster.Peers[:1] }
	for _, c := range []struct {
		name, old, new, says string
		both                 func(*Config)
	}{
		{"nothing", "name", "name", "", nil},
		{"another backend", `backend = "127.0.0.1:22"`, `backend = "127.0.0.1:2222"`, "", nil},
		{"a VIP more", vip, vip + second, "", nil},
		{"another mac_mode", vip, vip + "mac_mode = \"unicast\"\n", `mac_mode of VIP 10.77.0.2 is "unicast" and was "multicast", so that nodes with the one and with the other do not hear each other; write it on all nodes`, nil},
		{"another mac", vip, vip + "mac = \"01:00:5e:7f:00:07\"\n", `the MAC of VIP 10.77.0.2 is 01:00:5e:7f:00:07 and was 01:00:5e:4d:00:02`, nil},
		{"another interface", `interface = "eth0"`, `interface = "eth1"`, `VIP 10.77.0.2 is on eth1 and was on eth0`, nil},
		{"a VLAN", vip, vip + "vlan = 7\n", `VIP 10.77.0.2 is on eth0 VLAN 7 and was on eth0`, nil},
		{"another port", `name = "campus-ssh"`, "name = \"campus-ssh\"\ncontrol_port = 7", `cluster.control_port is 7 and was 7177, where the other nodes are heard; write it on all nodes`, nil},
		{"another port, alone", `name = "campus-ssh"`, "name = \"campus-ssh\"\ncontrol_port = 7", "", alone},
		{"another state", "[[service]]", "[node]\nstate_dir = \"/other\"\n[[service]]", `node.state_dir is "/other" and was "/var/lib/onevoice"`, nil},
		{"another socket", "[[service]]", "[admin]\nsocket = \"/other\"\n[[service]]", `admin.socket is "/other" and was "/run/onevoice/onevoice.sock"`, nil},
		{"another cluster", `name = "campus-ssh"`, `name = "other"`, `cluster.name is "other"`, nil},
		{"another first VIP", vip, "address = \"10.77.0.1/24\"\n" + second + "[[vip]]\n" + vip, `VIP 10.77.0.2 has to be the first of an interface`, nil},
	} {
		before, after := parsed(t, "name", "name"), parsed(t, c.old, c.new)
		if c.both != nil {
			c.both(before)
			c.both(after)
		}
		err := after.Continues(before)
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.says)
		}
	}
	// Each is still the first on its interface.
	elsewhere := "[[vip]]\naddress = \"10.78.0.3/24\"\ninterface = \"eth1\"\n"
	before, after := parsed(t, vip, vip+elsewhere), parsed(t, "[[vip]]\n"+vip, elsewhere+"[[vip]]\n"+vip)
	if err := after.Continues(before); err == nil || !strings.Contains(err.Error(), "VIP 10.77.0.2 has to be the first in the file") {
		t.Errorf("VIPs of two interfaces in another order: %v", err)
	}
}
