package responder

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
)

// The little LAN of the tests.
var (
	ownMAC     = MAC{0x02, 0, 0, 0, 0, 0x0b}
	peerMAC    = MAC{0x02, 0, 0, 0, 0, 0x0c}
	clientMAC  = MAC{0x02, 0, 0, 0, 0, 0x65}
	gatewayMAC = MAC{0x02, 0, 0, 0, 0, 0x01}
	clusterMAC = MAC{0x01, 0x00, 0x5e, 0x4d, 0x00, 0x02}
	// The second VIP is one of unicast mode (NLB's form).
	unicastMAC = MAC{0x02, 0xbf, 10, 77, 0, 3}

	ownAddr     = addr("10.77.0.11")
	clientAddr  = addr("10.77.0.101")
	gatewayAddr = addr("10.77.0.1")
	vipAddr     = addr("10.77.0.2")
	vip2Addr    = addr("10.77.0.3")
	farAddr     = addr("192.0.2.7")
	lan         = netip.MustParsePrefix("10.77.0.0/24")
)

func vips() []VIP {
	return []VIP{{Addr: vipAddr, MAC: clusterMAC}, {Addr: vip2Addr, MAC: unicastMAC}}
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// unhex reads hexadecimal with spaces and line ends in it.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// slowSum is RFC 1071 as it stands in the RFC: word by word. It is the tests'
// own, so that an error in Sum cannot vouch for itself.
func slowSum(parts ...[]byte) uint16 {
	var all []byte
	for _, p := range parts {
		all = append(all, p...)
	}
	if len(all)%2 == 1 {
		all = append(all, 0)
	}
	var sum uint32
	for i := 0; i < len(all); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(all[i:]))
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

func TestMAC(t *testing.T) {
	for _, tc := range []struct {
		mac         MAC
		text        string
		group, zero bool
	}{
		{MAC{}, "00:00:00:00:00:00", false, true},
		{Broadcast(), "ff:ff:ff:ff:ff:ff", true, false},
		{clusterMAC, "01:00:5e:4d:00:02", true, false},
		{unicastMAC, "02:bf:0a:4d:00:03", false, false},
	} {
		if got := tc.mac.String(); got != tc.text {
			t.Errorf("String() = %q, want %q", got, tc.text)
		}
		if tc.mac.IsGroup() != tc.group || tc.mac.IsZero() != tc.zero {
			t.Errorf("%v: group %v, zero %v", tc.mac, tc.mac.IsGroup(), tc.mac.IsZero())
		}
	}
}

func TestNewRefusesAddressesThatWouldLie(t *testing.T) {
	for _, tc := range []struct {
		name string
		own  MAC
		addr netip.Addr
		vips []VIP
		want string
	}{
		{"group MAC", clusterMAC, ownAddr, vips(), "unicast MAC"},
		{"zero MAC", MAC{}, ownAddr, vips(), "unicast MAC"},
		{"own MAC is a cluster MAC", unicastMAC, ownAddr, vips(), "give the interface its own MAC"},
		{"own address is a VIP", ownMAC, vipAddr, vips(), "take it off the interface"},
		{"no own address", ownMAC, netip.Addr{}, vips(), "not an IPv4 address"},
		{"IPv6", ownMAC, addr("2001:db8::1"), vips(), "not an IPv4 address"},
		{"multicast VIP", ownMAC, ownAddr, []VIP{{addr("224.0.0.1"), clusterMAC}}, "not an address"},
		{"VIP without MAC", ownMAC, ownAddr, []VIP{{vipAddr, MAC{}}}, "cannot be one"},
		{"VIP by broadcast", ownMAC, ownAddr, []VIP{{vipAddr, Broadcast()}}, "cannot be one"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := NewARP(tc.own, tc.addr, tc.vips)
			_, err2 := NewNeighbours(tc.own, tc.addr, lan, gatewayAddr, tc.vips, 8)
			for _, err := range []error{err, err2} {
				if err == nil || !strings.Contains(err.Error(), tc.want) {
					t.Errorf("error %v, want one with %q", err, tc.want)
				}
			}
		})
	}
}

func TestOutcomeNames(t *testing.T) {
	seen := map[string]bool{"unknown": true}
	check := func(name string) {
		if seen[name] || name != strings.ToLower(name) || strings.ContainsAny(name, " _") {
			t.Errorf("outcome name %q is taken, missing or not in kebab-case", name)
		}
		seen[name] = true
	}
	for o := range ARPOutcomeCount {
		check(o.String())
	}
	clear(seen)
	seen["unknown"] = true
	for o := range OutcomeCount {
		check(o.String())
	}
	if ARPOutcomeCount.String() != "unknown" || OutcomeCount.String() != "unknown" {
		t.Error("an outcome beyond the last has a name")
	}
}
