package ingress

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/dchest/siphash"
)

var (
	own    = net.HardwareAddr{2, 0, 0, 0, 0, 0x11}
	client = net.HardwareAddr{2, 0, 0, 0, 1, 1}
	group  = net.HardwareAddr{1, 0, 0x5e, 0x4d, 0, 2}
	group6 = net.HardwareAddr{0x33, 0x33, 0, 0, 0, 2}
	vip    = netip.MustParseAddr("10.77.0.2")
	vip6   = netip.MustParseAddr("2001:db8::2")
)

// every is a service of each kind: those of IPv4 have ports from 22 on, those of
// IPv6 too.
func every() Config {
	c := Config{Own: own, Groups: []net.HardwareAddr{group, group6}, Addresses: []netip.Addr{vip, vip6}, Except: 7176}
	for _, a := range c.Addresses {
		for i, h := range []Hashed{{}, {Network: true}, {SourcePort: true}, {SourcePort: true, DestPort: true}} {
			c.Services = append(c.Services, Service{Listen: netip.AddrPortFrom(a, 22+uint16(i)), Hashed: h})
		}
	}
	// UDP on the ports of TCP, in another order.
	for _, a := range c.Addresses {
		for i, h := range []Hashed{{SourcePort: true}, {}} {
			c.Services = append(c.Services, Service{Listen: netip.AddrPortFrom(a, 22+uint16(i)), UDP: true, Hashed: h})
		}
	}
	return c
}

// datagram is a frame with a UDP datagram to the cluster.
func datagram(src, dst netip.AddrPort, data int) []byte {
	b := segment(src, dst, 0, max(data-12, 0))
	ip, at := b[ethernetBytes:], ipv4Bytes
	if src.Addr().Is4() {
		ip[9] = protoUDP
		seal(ip)
	} else {
		ip[6], at = protoUDP, ipv6Bytes
	}
	binary.BigEndian.PutUint16(ip[at+4:], uint16(udpBytes+max(data, 12)))
	return b
}

func root(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to load programs (CAP_BPF, CAP_NET_ADMIN)")
	}
}

func loaded(t testing.TB, c Config) *Filter {
	t.Helper()
	root(t)
	f, err := Load(c)
	if err != nil {
		var v *ebpf.VerifierError
		if errors.As(err, &v) {
			t.Fatalf("%+v", v)
		}
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func passes(t testing.TB, f *Filter, frame []byte) bool {
	t.Helper()
	pass, err := f.Passes(frame)
	if err != nil {
		t.Fatalf("%x: %v", frame, err)
	}
	return pass
}

func ethernet(to net.HardwareAddr, kind uint16, payload []byte) []byte {
	b := append(append([]byte{}, to...), client...)
	return append(binary.BigEndian.AppendUint16(b, kind), payload...)
}

// segment is a frame with a TCP segment to the cluster.
func segment(src netip.AddrPort, dst netip.AddrPort, flags byte, data int) []byte {
	tcp := make([]byte, tcpBytes+data)
	binary.BigEndian.PutUint16(tcp, src.Port())
	binary.BigEndian.PutUint16(tcp[2:], dst.Port())
	tcp[12], tcp[13] = 0x50, flags
	if !src.Addr().Is4() {
		ip := make([]byte, ipv6Bytes)
		ip[0], ip[6], ip[7] = 0x60, protoTCP, 64
		binary.BigEndian.PutUint16(ip[4:], uint16(len(tcp)))
		copy(ip[8:], src.Addr().AsSlice())
		copy(ip[24:], dst.Addr().AsSlice())
		return ethernet(group6, typeIPv6, append(ip, tcp...))
	}
	ip := make([]byte, ipv4Bytes)
	ip[0], ip[8], ip[9] = 0x45, 64, protoTCP
	binary.BigEndian.PutUint16(ip[2:], uint16(ipv4Bytes+len(tcp)))
	copy(ip[12:], src.Addr().AsSlice())
	copy(ip[16:], dst.Addr().AsSlice())
	return ethernet(group, typeIPv4, append(seal(ip), tcp...))
}

// seal makes an IPv4 header's checksum right.
func seal(ip []byte) []byte {
	ip[10], ip[11] = 0, 0
	sum := uint32(0)
	for i := 0; i < ipv4Bytes; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(ip[10:], ^uint16(sum))
	return ip
}

const (
	fin = 1 << iota
	syn
	rst
	psh
	ack
)

// bucketOf says by the words of the paper and of package hashing which bucket it is.
func bucketOf(key [16]byte, h Hashed, src, dst netip.AddrPort) byte {
	m := src.Addr().AsSlice()
	if h.Network && len(m) == 4 {
		m[3] = 0
	} else if h.Network {
		m = m[:8]
	}
	if h.SourcePort {
		m = binary.BigEndian.AppendUint16(m, src.Port())
	}
	if h.DestPort {
		m = binary.BigEndian.AppendUint16(m, dst.Port())
	}
	return byte(siphash.Hash(binary.LittleEndian.Uint64(key[:]), binary.LittleEndian.Uint64(key[8:]), m))
}

func bit(b byte) (out [4]uint64) {
	out[b/64] = 1 << (b % 64)
	return out
}

func not(bits [4]uint64) [4]uint64 {
	for i := range bits {
		bits[i] = ^bits[i]
	}
	return bits
}

func randomClient(r *rand.Rand, like netip.Addr) netip.AddrPort {
	b := like.AsSlice()
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	// One that can be a client's.
	b[0] = 64 + byte(r.Uint32N(16))
	a, _ := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(a, uint16(1+r.Uint32N(65535)))
}

// Each kind of hash finds exactly the bucket, in both families, under any key: the
// frame passes with this bit alone, and is dropped for the lack of it alone.
func TestBuckets(t *testing.T) {
	c := every()
	f := loaded(t, c)
	r := rand.New(rand.NewPCG(1, 2))
	var none [4]uint64
	rounds := 2000
	if testing.Short() {
		rounds = 200
	}
	for i := range rounds {
		k := i % len(c.Services)
		s := c.Services[k]
		var key [16]byte
		for j := range key {
			key[j] = byte(r.Uint32())
		}
		f.SetKey(k, key)
		src := randomClient(r, s.Listen.Addr())
		b, frame := bucketOf(key, s.Hashed, src, s.Listen), segment(src, s.Listen, ack, i%7)
		if s.UDP {
			frame = datagram(src, s.Listen, 12+i%7)
		}
		for _, p := range []struct {
			bits [4]uint64
			want bool
		}{{bit(b), true}, {not(bit(b)), false}, {none, false}, {not(none), true}} {
			f.Pass(k, &p.bits)
			if got := passes(t, f, frame); got != p.want {
				t.Fatalf("service %d %+v, client %v, key %x, bits %x: passes %v", k, s.Hashed, src, key, p.bits, got)
			}
		}
		// The state of others does not count.
		f.Pass(k, &none)
		if s.UDP {
			continue
		}
		held := Flow{k, src, s.Listen.Port()}
		if !f.Hold(held) || !passes(t, f, frame) {
			t.Fatalf("service %d: the held flow of %v does not pass", k, src)
		}
		for at := range 16 {
			near := slices.Clone(src.Addr().AsSlice())
			if at >= len(near) {
				break
			}
			near[at] ^= 1 << (i % 6)
			a, _ := netip.AddrFromSlice(near)
			if to := segment(netip.AddrPortFrom(a, src.Port()), s.Listen, ack, 0); passes(t, f, to) {
				t.Fatalf("service %d: %v passes beside the held %v", k, a, src)
			}
		}
		if passes(t, f, segment(netip.AddrPortFrom(src.Addr(), src.Port()^1), s.Listen, ack, 0)) {
			t.Fatalf("service %d: another port of %v passes", k, src)
		}
		f.Release(held)
		f.Release(held)
		if passes(t, f, frame) {
			t.Fatalf("service %d: the flow of %v passes after its release", k, src)
		}
	}
}

func edit(frame []byte, at int, to byte) []byte {
	out := slices.Clone(frame)
	out[at] = to
	if at >= ethernetBytes && at < ethernetBytes+ipv4Bytes && out[12] == 8 && at != ethernetBytes+11 {
		seal(out[ethernetBytes:])
	}
	return out
}

// What passes when nothing has to: all that is no whole segment of a service, as
// long as link's filter lets it in.
// The MACs at which neighbours are asked.
var (
	solicited6 = []byte{0x33, 0x33, 0xff, vip6.AsSlice()[13], vip6.AsSlice()[14], vip6.AsSlice()[15]}
	allNodes6  = []byte{0x33, 0x33, 0, 0, 0, 1}
)

// segment6 is a frame for the IPv6 VIP with that next header, and a port where UDP has it.
func segment6(next byte, port uint16) []byte {
	b := segment(netip.MustParseAddrPort("[2001:db8:1::7]:40000"), netip.AddrPortFrom(vip6, port), 0, 4)
	b[ethernetBytes+6] = next
	return b
}

func TestWhatPasses(t *testing.T) {
	f := loaded(t, every())
	var none [4]uint64
	for k := range every().Services {
		f.Pass(k, &none)
	}
	src, src6 := netip.MustParseAddrPort("198.51.100.7:40000"), netip.MustParseAddrPort("[2001:db8:1::7]:40000")
	ssh, ssh6 := netip.AddrPortFrom(vip, 22), netip.AddrPortFrom(vip6, 22)
	seg, seg6 := segment(src, ssh, syn, 0), segment(src6, ssh6, syn, 0)
	const ip, tcp, tcpSix = ethernetBytes, ethernetBytes + ipv4Bytes, ethernetBytes + ipv6Bytes
	udp := func(port uint16) []byte {
		b := edit(seg, ip+9, protoUDP)
		binary.BigEndian.PutUint16(b[tcp+2:], port)
		return b
	}
	options := func(b []byte) []byte {
		out := slices.Insert(slices.Clone(b), tcp, 1, 1, 1, 1)
		out[ip], out[ip+3] = 0x46, out[ip+3]+4
		return out
	}
	for name, c := range map[string]struct {
		frame []byte
		want  bool
	}{
		"SYN":                         {seg, false},
		"ACK":                         {segment(src, ssh, ack, 0), false},
		"data":                        {segment(src, ssh, ack|psh, 1000), false},
		"RST":                         {segment(src, ssh, rst, 0), false},
		"FIN":                         {segment(src, ssh, fin|ack, 0), false},
		"SYN, padded":                 {append(slices.Clone(seg), 0, 0, 0, 0, 0, 0), false},
		"SYN to our own MAC":          {slices.Concat(own, seg[6:]), false},
		"a port without a service":    {segment(src, netip.AddrPortFrom(vip, 80), syn, 0), true},
		"IP options":                  {options(seg), true},
		"first fragment":              {edit(seg, ip+6, 0x20), true},
		"later fragment":              {edit(seg, ip+7, 3), true},
		"do not fragment":             {edit(seg, ip+6, 0x40), false},
		"UDP":                         {udp(53), true},
		"a datagram":                  {datagram(src, ssh, 20), false},
		"a datagram, padded":          {append(datagram(src, ssh, 12), 0, 0, 0), false},
		"a datagram, no service":      {datagram(src, netip.AddrPortFrom(vip, 24), 20), true},
		"a datagram, with IP options": {options(datagram(src, ssh, 20)), true},
		"a datagram, first fragment":  {edit(datagram(src, ssh, 20), ip+6, 0x20), true},
		"a datagram, later fragment":  {edit(datagram(src, ssh, 20), ip+7, 3), true},
		"a datagram that lacks bytes": {datagram(src, ssh, 100)[:tcp+80], true},
		"a UDP length of 7":           {edit(datagram(src, ssh, 20), tcp+5, 7), true},
		"a UDP length that overruns":  {edit(datagram(src, ssh, 20), tcp+5, 29), true},
		"a UDP length that is short":  {edit(datagram(src, ssh, 20), tcp+5, 27), false},
		"a datagram from a group":     {edit(datagram(src, ssh, 20), ip+12, 224), true},
		"UDP, a wrong IP checksum":    {edit(datagram(src, ssh, 20), ip+11, 0), true},
		"IPv6 datagram":               {datagram(src6, ssh6, 20), false},
		"IPv6 datagram, no service":   {datagram(src6, netip.AddrPortFrom(vip6, 24), 20), true},
		"IPv6 datagram, bad length":   {edit(datagram(src6, ssh6, 20), tcpSix+5, 29), true},
		"UDP for another socket":      {udp(7176), false},
		"the same, a first fragment":  {edit(udp(7176), ip+6, 0x20), false},
		"the same, a later fragment":  {edit(udp(7176), ip+7, 2), true},
		"the same, with IP options":   {options(udp(7176)), false},
		"UDP cut before its port":     {udp(53)[:tcp+3], false},
		"ICMP":                        {edit(seg, ip+9, 1), true},
		"IP alone":                    {seg[:tcp], true},
		"half a TCP header":           {seg[:tcp+10], true},
		"one byte less than a header": {seg[:tcp+19], true},
		"bytes announced that lack":   {edit(seg, ip+3, 41), true},
		"data that lacks its last":    {segment(src, ssh, ack, 100)[:tcp+20+99], true},
		"too few announced":           {edit(seg, ip+3, 39), true},
		"a length of 0":               {edit(seg, ip+3, 0), true},
		"IP version 5":                {edit(seg, ip, 0x55), true},
		"an IP header of 16 bytes":    {edit(seg, ip, 0x44), true},
		"a wrong IP checksum":         {edit(seg, ip+11, seg[ip+11]^1), true},
		"a TCP header of 16 bytes":    {edit(seg, tcp+12, 0x40), true},
		"a TCP header that overruns":  {edit(seg, tcp+12, 0x60), true},
		"TCP options":                 {edit(segment(src, ssh, syn, 12), tcp+12, 0x80), false},
		"no flags":                    {edit(seg, tcp+13, 0), true},
		"SYN with FIN":                {edit(seg, tcp+13, syn|fin), true},
		"SYN with RST":                {edit(seg, tcp+13, syn|rst|ack), true},
		"FIN alone":                   {edit(seg, tcp+13, fin), true},
		"from port 0":                 {segment(netip.AddrPortFrom(src.Addr(), 0), ssh, syn, 0), true},
		"from this network":           {edit(seg, ip+12, 0), true},
		"from loopback":               {edit(seg, ip+12, 127), true},
		"from a group":                {edit(seg, ip+12, 224), true},
		"from 223/8":                  {edit(seg, ip+12, 223), false},
		"from the VIP":                {segment(netip.AddrPortFrom(vip, 40000), ssh, syn, 0), true},
		"from our own MAC":            {slices.Concat(group, own, seg[12:]), true},
		"from a group MAC":            {edit(seg, 6, 3), true},
		"to another MAC":              {slices.Concat(client, seg[6:]), false},
		"to another MAC, UDP":         {slices.Concat(client, udp(53)[6:]), false},
		"by broadcast":                {slices.Concat([]byte{255, 255, 255, 255, 255, 255}, udp(53)[6:]), false},
		"to another address":          {segment(src, netip.MustParseAddrPort("10.77.0.11:22"), syn, 0), false},
		"a VLAN tag in the data":      {ethernet(group, 0x8100, append([]byte{0, 7, 8, 0}, seg[14:]...)), false},
		"ARP by broadcast":            {ethernet([]byte{255, 255, 255, 255, 255, 255}, typeARP, make([]byte, 28)), true},
		"ARP to the group":            {ethernet(group, typeARP, make([]byte, 28)), true},
		"ARP to us, short":            {ethernet(own, typeARP, make([]byte, 1)), true},
		"ARP to another":              {ethernet(client, typeARP, make([]byte, 28)), false},
		"IPv6 SYN":                    {seg6, false},
		"IPv6 data":                   {segment(src6, ssh6, ack, 99), false},
		"IPv6, no service":            {segment(src6, netip.AddrPortFrom(vip6, 80), syn, 0), true},
		"IPv6 UDP":                    {edit(seg6, ip+6, protoUDP), true},
		"IPv6 fragment":               {edit(seg6, ip+6, 44), true},
		"IPv6, half a TCP header":     {seg6[:tcpSix+10], true},
		"IPv6, no TCP header":         {seg6[:tcpSix], true},
		"IPv6, bytes lack":            {edit(seg6, ip+5, 21), true},
		"IPv6, too few announced":     {edit(seg6, ip+5, 19), true},
		"IPv6 of version 4":           {edit(seg6, ip, 0x40), true},
		"IPv6, SYN with FIN":          {edit(seg6, tcpSix+13, syn|fin), true},
		"IPv6 that stands for IPv4":   {segment(netip.AddrPortFrom(netip.AddrFrom16(src.Addr().As16()), 40000), ssh6, syn, 0), true},
		"IPv6 heartbeat":              {segment6(protoUDP, 7176), false},
		"IPv6 UDP, another port":      {segment6(protoUDP, 7175), true},
		"ICMPv6 for the VIP":          {segment6(protoICMPv6, 0), true},
		"ICMPv6 for this host":        {edit(slices.Concat(own, segment6(protoICMPv6, 0)[6:]), ip+39, 0x11), true},
		"a solicitation":              {slices.Concat(solicited6, segment6(protoICMPv6, 0)[6:]), true},
		"MLD to all nodes":            {slices.Concat(allNodes6, segment6(nextHopByHop, 0)[6:]), true},
		"TCP to all nodes":            {slices.Concat(allNodes6, seg6[6:]), false},
		"another's solicitation":      {slices.Concat([]byte{0x33, 0x33, 0xff, 0, 0, 9}, segment6(protoICMPv6, 0)[6:]), false},
		"IPv6 to another address":     {segment(src6, netip.MustParseAddrPort("[2001:db8::3]:22"), syn, 0), false},
	} {
		before := f.Stats().Foreign
		if got := passes(t, f, c.frame); got != c.want {
			t.Errorf("%s: passes %v, want %v", name, got, c.want)
		}
		if dropped := f.Stats().Foreign - before; c.want && dropped != 0 {
			t.Errorf("%s: passes and is counted as dropped", name)
		}
	}
	before := f.Stats().Foreign
	passes(t, f, seg)
	passes(t, f, seg6)
	passes(t, f, slices.Concat(client, seg[6:]))
	if got := f.Stats().Foreign - before; got != 2 {
		t.Errorf("%d frames count as another node's, want 2", got)
	}
}

// Without a VIP of IPv6 no frame of it passes, as without the filter.
func TestIPv6WithoutVIP(t *testing.T) {
	c := every()
	c.Addresses, c.Services = c.Addresses[:1], c.Services[:4]
	f := loaded(t, c)
	if passes(t, f, segment(netip.MustParseAddrPort("[2001:db8:1::7]:40000"), netip.AddrPortFrom(vip6, 22), syn, 0)) {
		t.Error("an IPv6 frame passes")
	}
	if f.Hold(Flow{0, netip.MustParseAddrPort("[2001:db8:1::7]:40000"), 22}) {
		t.Error("an IPv6 flow is held in no map")
	}
}

// With VIPs of IPv6 alone no frame of IPv4 passes.
func TestIPv6Alone(t *testing.T) {
	c := every()
	c.Addresses = c.Addresses[1:]
	c.Services = slices.DeleteFunc(c.Services, func(s Service) bool { return s.Listen.Addr() != vip6 })
	f := loaded(t, c)
	if err := f.loadHost(&f.config); err != nil {
		t.Fatal(err)
	}
	var none [4]uint64
	f.Pass(0, &none)
	src, to := netip.MustParseAddrPort("[2001:db8:1::7]:40000"), netip.AddrPortFrom(vip6, 22)
	if passes(t, f, segment(src, to, syn, 0)) {
		t.Error("a foreign SYN passes")
	}
	f.Hold(Flow{0, src, 22})
	if !passes(t, f, segment(src, to, ack, 0)) || passes(t, f, segment(netip.MustParseAddrPort("198.51.100.7:40000"), netip.AddrPortFrom(vip, 22), syn, 0)) {
		t.Error("a held flow is dropped, or IPv4 passes")
	}
}

// The most addresses and services load, and each finds its own; more are refused.
func TestMost(t *testing.T) {
	c := Config{Own: own}
	for i := range MaxAddresses / 2 {
		c.Groups = append(c.Groups, net.HardwareAddr{1, 0, 0x5e, byte(200 + i), 200, byte(i)})
		c.Addresses = append(c.Addresses, netip.AddrFrom4([4]byte{200, 0, byte(i), 200}))
	}
	for i := range MaxServices {
		listen := netip.AddrPortFrom(c.Addresses[i%len(c.Addresses)], uint16(40000+i))
		c.Services = append(c.Services, Service{Listen: listen, Hashed: []Hashed{{}, {Network: true}, {SourcePort: true}}[i%3]})
	}
	f := loaded(t, c)
	src := netip.MustParseAddrPort("198.51.100.7:40000")
	var none, all [4]uint64
	all = not(none)
	for k, s := range c.Services {
		frame := segment(src, s.Listen, syn, 0)
		copy(frame, c.Groups[k%len(c.Groups)])
		f.Pass(k, &none)
		if passes(t, f, frame) {
			t.Errorf("service %d: a foreign SYN passes", k)
		}
		f.Pass(k, &all)
		if !passes(t, f, frame) {
			t.Errorf("service %d: an own SYN is dropped", k)
		}
	}
	for name, bad := range map[string]func(*Config){
		"services":    func(c *Config) { c.Services = append(c.Services, c.Services[0]) },
		"addresses":   func(c *Config) { c.Addresses = append(c.Addresses, vip) },
		"no address":  func(c *Config) { c.Addresses = nil },
		"a zone":      func(c *Config) { c.Addresses[0] = netip.MustParseAddr("fe80::1%eth0") },
		"mapped":      func(c *Config) { c.Addresses[0] = netip.MustParseAddr("::ffff:10.0.0.1") },
		"no own MAC":  func(c *Config) { c.Own = nil },
		"a short MAC": func(c *Config) { c.Groups[0] = c.Groups[0][:5] },
	} {
		broken := c
		broken.Addresses, broken.Groups = slices.Clone(c.Addresses), slices.Clone(c.Groups)
		bad(&broken)
		if f, err := Load(broken); err == nil {
			f.Close()
			t.Errorf("%s: taken", name)
		}
	}
}

// A range of ports is one service: all of its ports, none beside them, and each with
// held flows of its own.
func TestRangeOfPorts(t *testing.T) {
	for _, a := range []netip.Addr{vip, vip6} {
		// Services of one family alone load, beside the other's address and without.
		c := every()
		c.Services = []Service{{Listen: netip.AddrPortFrom(a, 8000), LastPort: 8255}}
		loaded(t, c)
		c.Addresses = []netip.Addr{a}
		f := loaded(t, c)
		var none [4]uint64
		f.Pass(0, &none)
		src := netip.MustParseAddrPort("198.51.100.7:40000")
		if a.Is6() {
			src = netip.MustParseAddrPort("[2001:db8:1::7]:40000")
		}
		check := func(what string, want map[uint16]bool) {
			t.Helper()
			for port, want := range want {
				if got := passes(t, f, segment(src, netip.AddrPortFrom(a, port), ack, 0)); got != want {
					t.Errorf("%s: to port %d passes: %v", what, port, got)
				}
			}
		}
		check("nothing is held", map[uint16]bool{7999: true, 8000: false, 8001: false, 8128: false, 8255: false, 8256: true, 0x401f: true})
		f.Hold(Flow{0, src, 8001})
		f.Hold(Flow{0, src, 8002})
		check("two are held", map[uint16]bool{8000: false, 8001: true, 8002: true, 8003: false})
		f.Release(Flow{0, src, 8001})
		check("one is left", map[uint16]bool{8001: false, 8002: true})
	}
}

func BenchmarkSocketFilter(b *testing.B) {
	c := every()
	f := loaded(b, c)
	src, src6 := netip.MustParseAddrPort("198.51.100.7:40000"), netip.MustParseAddrPort("[2001:db8:1::7]:40000")
	var none [4]uint64
	for k, s := range c.Services {
		from := src
		if !s.Listen.Addr().Is4() {
			from = src6
		}
		frame := segment(from, s.Listen, ack, 0)
		for _, what := range []string{"own", "foreign", "held"} {
			b.Run(fmt.Sprintf("%v/%+v/%s", s.Listen.Addr(), s.Hashed, what), func(b *testing.B) {
				bits := none
				if what == "own" {
					bits = not(none)
				}
				f.Pass(k, &bits)
				if what == "held" {
					f.Hold(Flow{k, from, s.Listen.Port()})
					defer f.Release(Flow{k, from, s.Listen.Port()})
				}
				benchmark(b, f.socket, frame)
			})
		}
	}
	b.Run("another MAC", func(b *testing.B) {
		benchmark(b, f.socket, slices.Concat(client, segment(src, c.Services[0].Listen, ack, 0)[6:]))
	})
}

func BenchmarkHost(b *testing.B) {
	f := loaded(b, every())
	if err := f.loadHost(&f.config); err != nil {
		b.Fatal(err)
	}
	frame := segment(netip.MustParseAddrPort("198.51.100.7:40000"), netip.AddrPortFrom(vip, 22), ack, 0)
	b.Run("for a VIP", func(b *testing.B) { benchmark(b, f.host, frame) })
	b.Run("another MAC", func(b *testing.B) { benchmark(b, f.host, slices.Concat(client, frame[6:])) })
}

func benchmark(b *testing.B, p *ebpf.Program, frame []byte) {
	_, each, err := p.Benchmark(frame, 1_000_000, b.ResetTimer)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(each.Nanoseconds()), "ns/frame")
}

func BenchmarkHold(b *testing.B) {
	f := loaded(b, every())
	flow := Flow{0, netip.MustParseAddrPort("198.51.100.7:40000"), 22}
	for b.Loop() {
		f.Hold(flow)
		f.Release(flow)
	}
}

func BenchmarkPass(b *testing.B) {
	f := loaded(b, every())
	var bits [4]uint64
	for b.Loop() {
		f.Pass(0, &bits)
	}
}
