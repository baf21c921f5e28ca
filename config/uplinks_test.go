package config

import (
	"fmt"
	"strings"
	"testing"
)

// A file with VIPs on two interfaces, in turns.
const twoInterfaces = `
[[vip]]
address = "10.88.0.2/24"
interface = "eth1"
[[vip]]
address = "10.77.0.3/24"
[[vip]]
address = "10.88.0.3/24"
interface = "eth1"
mac = "01:00:5e:58:00:02"
[[service]]
name = "b"
listen = "10.88.0.3:22"
backend = "127.0.0.1:23"
`

func TestUplinks(t *testing.T) {
	c, err := Parse("f", []byte(good+twoInterfaces), "h")
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(c.Uplinks()); got != "[eth0 eth1]" {
		t.Errorf("uplinks %s", got)
	}
	var paths []string
	for _, v := range c.PathVIPs() {
		paths = append(paths, v.Address.Addr().String()+" by "+c.Path(&v))
	}
	if got, want := strings.Join(paths, ", "), "10.77.0.2 by 01:00:5e:4d:00:02, 10.88.0.2 by eth1 01:00:5e:58:00:02, 10.77.0.3 by 01:00:5e:4d:00:03"; got != want {
		t.Errorf("paths %s\nwant  %s", got, want)
	}
	for name, want := range map[Uplink]string{{Interface: "eth0"}: "10.77.0.2/24 10.77.0.3/24 [ssh]", {Interface: "eth1"}: "10.88.0.2/24 10.88.0.3/24 [b]"} {
		part := c.On(name)
		var names []string
		for i := range part.Services {
			names = append(names, part.Services[i].Name)
		}
		if got := fmt.Sprint(part.VIPs[0].Address, " ", part.VIPs[1].Address, " ", names); got != want || part.Cluster.Interface != name.Interface || len(part.VIPs) != 2 {
			t.Errorf("on %s: %s, want %s", name, got, want)
		}
		if got := part.Path(&part.VIPs[0]); got != part.VIPs[0].MAC.String() {
			t.Errorf("on %s alone the path is %q", name, got)
		}
	}
	if len(c.VIPs) != 4 || len(c.Services) != 2 || c.Cluster.Interface != "eth0" {
		t.Error("the whole has become less")
	}
	tagged := strings.Replace(twoInterfaces, "interface = \"eth1\"", "vlan = 4094", 1)
	if c, err = Parse("f", []byte(good+tagged), "h"); err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(c.Uplinks(), " ", c.Path(&c.VIPs[1])), "[eth0 eth0 VLAN 4094 eth1] eth0 VLAN 4094 01:00:5e:58:00:02"; got != want {
		t.Errorf("with a VLAN %s, want %s", got, want)
	}
	for bad, want := range map[string]string{
		"vlan = 0":    "vip[1].vlan: 0 is not a number from 1 to 4094; write one like 10",
		"vlan = 4095": "vip[1].vlan: 4095 is not a number from 1 to 4094; write one like 10",
	} {
		if _, err := Parse("f", []byte(good+strings.Replace(tagged, "vlan = 4094", bad, 1)), "h"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s says %v\nwant %s", bad, err, want)
		}
	}
	_, err = Parse("f", []byte(good+strings.Replace(twoInterfaces, `"eth1"`, `"eth 1"`, 1)), "h")
	if want := `vip[1].interface: "eth 1" is no name of an interface; write one like "eth1", or leave it out for cluster.interface`; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("says %v\nwant %s", err, want)
	}
}
