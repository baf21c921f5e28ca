package config

import (
	"net/netip"
	"strings"
	"testing"
)

// VIPs of both families stand in one file, each with services of its own.
func TestBothFamilies(t *testing.T) {
	text := strings.Replace(good, "[[service]]", "[[vip]]\naddress = \"2001:db8::2/64\"\n[[service]]", 1) +
		"[[service]]\nname = \"ssh6\"\nlisten = \"[2001:db8::2]:22\"\nbackend = \"[::1]:22\"\naffinity = \"source-net\"\n" +
		"[[service]]\nname = \"web6\"\nlisten = \"[2001:db8::2]:80\"\nbackend = \"127.0.0.1:80\"\nsource = \"plain\"\n"
	c, err := Parse("cluster.toml", []byte(text), "unix1")
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Warnings) != 0 {
		t.Errorf("warnings %q", c.Warnings)
	}
	if v := c.VIPs[1]; v.Address != netip.MustParsePrefix("2001:db8::2/64") || v.MAC.String() != "33:33:80:00:00:02" {
		t.Errorf("the VIP is %+v", v)
	}
	if s := c.Services[1]; s.Listen != netip.MustParseAddrPort("[2001:db8::2]:22") || s.Backend != netip.MustParseAddrPort("[::1]:22") {
		t.Errorf("the service is %+v", s)
	}
}

// Each address that cannot be a VIP, a service or a backend over IPv6 is told with
// what to write.
func TestFaultsOfIPv6(t *testing.T) {
	for name, c := range map[string]struct{ vip, listen, backend, want string }{
		"link-local":          {"fe80::2/64", "[fe80::2]:22", "[::1]:22", `vip[0].address: fe80::2 is not the address of a host that others can reach; write one like "10.77.0.2/24" or "2001:db8::2/64"`},
		"loopback":            {"::1/128", "[::1]:22", "[::1]:22", "vip[0].address: ::1 is not the address of a host"},
		"a group":             {"ff02::2/64", "[ff02::2]:22", "[::1]:22", "vip[0].address: ff02::2 is not the address of a host"},
		"mapped":              {"::ffff:10.77.0.2/120", "10.77.0.2:22", "[::1]:22", "vip[0].address: ::ffff:10.77.0.2 is not the address of a host"},
		"subnet-router":       {"2001:db8::/64", "[2001:db8::]:22", "[::1]:22", "vip[0].address: 2001:db8:: is every router's of the network"},
		"alone":               {"2001:db8::2/128", "[2001:db8::2]:22", "[::1]:22", `vip[0].address: /128 is no LAN's length; write that of the clients' network, /16 to /126, such as "2001:db8::2/64"`},
		"too wide":            {"2001:db8::2/8", "[2001:db8::2]:22", "[::1]:22", "vip[0].address: /8 is no LAN's length"},
		"no brackets":         {"2001:db8::2/64", "2001:db8::2:22", "[::1]:22", `service[0].listen: "2001:db8::2:22" is not an address with a port; write a VIP and port, such as "10.77.0.2:22" or "[2001:db8::2]:22"`},
		"another address":     {"2001:db8::2/64", "[2001:db8::3]:22", "[::1]:22", "service[0].listen: 2001:db8::3 is not a VIP of this file"},
		"another family":      {"2001:db8::2/64", "[2001:db8::2]:22", "127.0.0.1:22", `service[0].backend: 127.0.0.1 is of another family than 2001:db8::2, and with source = "transparent" the service sees the client's own address; write "[::1]:22", or source = "plain"`},
		"the other way":       {"10.77.0.2/24", "10.77.0.2:22", "[::1]:22", `service[0].backend: ::1 is of another family than 10.77.0.2, and with source = "transparent" the service sees the client's own address; write "127.0.0.1:22"`},
		"not on loopback":     {"2001:db8::2/64", "[2001:db8::2]:22", "[2001:db8::11]:22", `service[0].backend: 2001:db8::11 is not on loopback, which with source = "transparent" IPv6 has to be; write "[::1]:22"`},
		"a link-local target": {"2001:db8::2/64", "[2001:db8::2]:22", "[fe80::1]:22", "service[0].backend: fe80::1 is not an address to connect to"},
	} {
		text := strings.NewReplacer("10.77.0.2/24", c.vip, "10.77.0.2:22", c.listen, "127.0.0.1:22", c.backend).Replace(good)
		if _, err := Parse("cluster.toml", []byte(text), "unix1"); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v\nwant %s", name, err, c.want)
		}
	}
}
