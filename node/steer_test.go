package node

import (
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"onevoice/hashing"
	"onevoice/internal/boottime"
	"onevoice/link/ingress"
	"onevoice/responder"
)

var steeredFrames = flag.Int("steered-frames", 15_000, "how many frames the programs of the direct path and the rule both judge")

// The services of the tests: of each family and affinity one of TCP from port 22 on, the
// last one with half-open connections; then one of UDP, and one where nothing listens.
const (
	halfOpenPort = 25
	datagramPort = 26
	silentPort   = 27
)

// listKey is the key of drainers' lists in the tests of the programs.
var listKey = hashing.Key{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}

var vipAddr6 = netip.MustParseAddr("2001:db8:77::2")

// socketOf is a connection that the kernel has, as the server has it.
type socketOf struct {
	flow           hashing.Flow
	state          KernelSocket
	rcvNxt, sndNxt uint32
}

// steered is the programs of the direct path beside real sockets, in a namespace of its
// own, and what the rule is asked about the same frames.
type steered struct {
	t      testing.TB
	n      *Node
	direct *ingress.Direct
	asked  *ingress.Asked
	random *rand.Rand
	rows   []ingress.DirectRow
	leased bool
	// begins are those of the paths' leases: some are new, as some of the rows' buckets are;
	// asked are the numbers of the last SYNs that came under these rows, by flow.
	begins [2]time.Duration
	asks   map[hashing.Flow]uint32
	// listed are flows that drainers are said to hold; inMap are those of them that were
	// told to the programs.
	listed  []hashing.Flow
	inMap   map[hashing.Flow]bool
	sockets []socketOf
	byFlow  map[hashing.Flow]*socketOf
	// first are the packets whose first fragment has passed, and when; last is the
	// latest of them.
	first       map[string]remembered
	last, last6 []byte
	// firsts counts them.
	firsts int
	// unsure: whether the programs remember it is a matter of a moment.
	unsure bool
}

// newSteered runs the rest of the test on a thread in a network namespace of its own.
// The thread is never given back to the runtime.
func newSteered(t testing.TB, seed uint64) *steered {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to load programs (CAP_BPF, CAP_NET_ADMIN)")
	}
	runtime.LockOSThread()
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, local := range []string{"10.0.0.0/8", "2001:db8::/32"} {
		_, dst, err := net.ParseCIDR(local)
		if err == nil {
			err = netlink.RouteAdd(&netlink.Route{LinkIndex: 1, Dst: dst, Type: unix.RTN_LOCAL, Table: unix.RT_TABLE_LOCAL, Scope: unix.RT_SCOPE_HOST})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	x := &steered{t: t, random: rand.New(rand.NewPCG(seed, 0)), byFlow: map[hashing.Flow]*socketOf{}, inMap: map[hashing.Flow]bool{}, first: map[string]remembered{}}
	x.load()
	for _, a := range []netip.Addr{vipAddr, vipAddr6} {
		x.connect(a)
	}
	for i := range x.sockets {
		x.byFlow[x.sockets[i].flow] = &x.sockets[i]
	}
	for range 64 {
		vip := []netip.Addr{vipAddr, vipAddr6}[x.random.IntN(2)]
		x.listed = append(x.listed, hashing.Flow{Src: x.address(vip), SrcPort: uint16(x.random.UintN(1 << 16)), Dst: vip, DstPort: 22 + uint16(x.random.UintN(8)), Proto: TCP})
	}
	return x
}

func (x *steered) load() {
	x.t.Helper()
	var services []Service
	var paths []int
	for _, a := range []netip.Addr{vipAddr, vipAddr6} {
		for k := range uint16(4) {
			services = append(services, Service{Proto: TCP, Listen: netip.AddrPortFrom(a, 22+k), Affinity: hashing.Affinity(k)})
		}
		services = append(services,
			Service{Proto: UDP, Listen: netip.AddrPortFrom(a, datagramPort), Affinity: hashing.SourceIPPort},
			Service{Proto: TCP, Listen: netip.AddrPortFrom(a, silentPort), LastPort: silentPort + 1})
	}
	services[0].Pins = []Pin{{netip.MustParsePrefix("10.64.0.0/10"), 3}}
	for range services {
		paths = append(paths, len(paths)%2)
	}
	var err error
	x.n, err = New(Config{
		Own: ownMAC, Address: ownAddr, MTU: 1500, Services: services, Hasher: hashing.NewHasher(key), ListKey: listKey, Flows: &modelFlows{},
		Datagrams: &modelDatagrams{flows: map[hashing.Flow]int{}},
		VIPs:      []VIP{{VIP: responder.VIP{Addr: vipAddr, MAC: clusterMAC}, LAN: lan}, {VIP: responder.VIP{Addr: vipAddr6, MAC: responder.MAC{0x33, 0x33, 0, 0, 0, 2}}}},
	})
	if err != nil {
		x.t.Fatal(err)
	}
	x.direct, err = ingress.LoadDirect(ingress.DirectConfig{Paths: paths, ListKey: listKey, Config: ingress.Config{
		Own: ownMAC[:], Groups: []net.HardwareAddr{clusterMAC[:], {0x33, 0x33, 0, 0, 0, 2}}, Addresses: []netip.Addr{vipAddr, vipAddr6}, Services: FilteredServices(services),
	}})
	if errors.Is(err, ingress.ErrUnsupported) {
		x.t.Skip(err)
	}
	if err == nil {
		x.t.Cleanup(func() { x.direct.Close() })
		x.asked, err = x.direct.Ask()
	}
	if err != nil {
		if v := (*ebpf.VerifierError)(nil); errors.As(err, &v) {
			x.t.Fatalf("%+v", v)
		}
		x.t.Fatal(err)
	}
	x.t.Cleanup(func() { x.asked.Close() })
}

// connect makes connections to the services of a VIP: open ones, half-open ones and some
// in TIME-WAIT.
func (x *steered) connect(vip netip.Addr) {
	x.t.Helper()
	for port := uint16(22); port <= halfOpenPort; port++ {
		listen := net.ListenConfig{Control: anyAddress}
		if port == halfOpenPort {
			// Half-open until data has come (tcp(7)).
			listen.Control = func(_, _ string, c syscall.RawConn) error {
				return errors.Join(anyAddress("", "", c), onFD(c, func(fd int) error {
					return unix.SetsockoptInt(fd, unix.SOL_TCP, unix.TCP_DEFER_ACCEPT, 1000)
				}))
			}
		}
		l, err := listen.Listen(x.t.Context(), "tcp", netip.AddrPortFrom(vip, port).String())
		if err != nil {
			x.t.Fatal(err)
		}
		x.t.Cleanup(func() { l.Close() })
		for k := range 5 {
			x.one(l.(*net.TCPListener), netip.AddrPortFrom(vip, port), k >= 3)
		}
	}
}

// anyAddress lets a socket have an address that no interface has.
func anyAddress(_, _ string, c syscall.RawConn) error {
	return onFD(c, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_FREEBIND, 1) })
}

func onFD(c syscall.RawConn, do func(fd int) error) error {
	var inner error
	err := c.Control(func(fd uintptr) { inner = do(int(fd)) })
	return errors.Join(err, inner)
}

// one is one connection, over if it is to end in TIME-WAIT.
func (x *steered) one(l *net.TCPListener, vip netip.AddrPort, over bool) {
	x.t.Helper()
	client := netip.AddrPortFrom(x.address(vip.Addr()), 1024+uint16(x.random.UintN(60000)))
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(client), Timeout: 10 * time.Second, Control: anyAddress}
	c, err := d.Dial("tcp", vip.String())
	if err != nil {
		x.t.Fatal(err)
	}
	x.t.Cleanup(func() { c.Close() })
	s := socketOf{flow: hashing.Flow{Src: client.Addr(), SrcPort: client.Port(), Dst: vip.Addr(), DstPort: vip.Port(), Proto: TCP}, state: HalfOpenSocket}
	if vip.Port() != halfOpenPort {
		server, err := l.AcceptTCP()
		if err != nil {
			x.t.Fatal(err)
		}
		x.t.Cleanup(func() { server.Close() })
		s.state = OpenSocket
		if s.rcvNxt, s.sndNxt, err = sequences(server); err != nil {
			x.t.Fatal(err)
		}
		if over {
			s.state = TimeWaitSocket
			if err := errors.Join(server.Close(), c.Close()); err != nil {
				x.t.Fatal(err)
			}
		}
	}
	x.sockets = append(x.sockets, s)
}

// sequences are what a connection expects next and sends next (TCP_REPAIR of tcp(7)).
func sequences(c *net.TCPConn) (rcvNxt, sndNxt uint32, err error) {
	const receiveQueue, sendQueue, offWithoutProbe = 1, 2, -1
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, 0, err
	}
	err = onFD(raw, func(fd int) error {
		if err := unix.SetsockoptInt(fd, unix.SOL_TCP, unix.TCP_REPAIR, 1); err != nil {
			return err
		}
		for queue, to := range map[int]*uint32{receiveQueue: &rcvNxt, sendQueue: &sndNxt} {
			if err := unix.SetsockoptInt(fd, unix.SOL_TCP, unix.TCP_REPAIR_QUEUE, queue); err != nil {
				return err
			}
			v, err := unix.GetsockoptInt(fd, unix.SOL_TCP, unix.TCP_QUEUE_SEQ)
			if err != nil {
				return err
			}
			*to = uint32(v)
		}
		return unix.SetsockoptInt(fd, unix.SOL_TCP, unix.TCP_REPAIR, offWithoutProbe)
	})
	return rcvNxt, sndNxt, err
}

// address is some client's, of a VIP's family.
func (x *steered) address(like netip.Addr) netip.Addr {
	b := like.AsSlice()
	for i := len(b) - 3; i < len(b); i++ {
		b[i] = byte(x.random.Uint32())
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// some puts other rows in force, under a lease or under none.
func (x *steered) some() {
	x.t.Helper()
	x.rows = make([]ingress.DirectRow, len(x.n.services))
	share := func() (b [4]uint64) {
		for i := range b {
			b[i] = x.random.Uint64()
		}
		return b
	}
	for i := range x.rows {
		x.rows[i] = ingress.DirectRow{Key: x.n.mappings[i].hasher.Key(), Owned: share(), Settled: share(), Lingering: share(), Listed: share()}
		for b := range x.rows[i].Since {
			x.rows[i].Since[b] = x.begin()
		}
	}
	x.list()
	x.asks = map[hashing.Flow]uint32{}
	x.leased = x.random.IntN(4) > 0
	for path := range 2 {
		end := time.Duration(0)
		if x.leased {
			end = Forever
		}
		x.begins[path] = x.begin()
		x.direct.SetLease(path, x.begins[path], end)
	}
	if err := errors.Join(x.direct.Publish(x.rows), x.direct.Settle()); err != nil {
		x.t.Fatal(err)
	}
}

// begin is when a right began: long ago, or just now.
func (x *steered) begin() time.Duration {
	x.t.Helper()
	now := boottime.Now()
	const longAgo = 4 * time.Minute
	if now > longAgo && x.random.IntN(2) == 0 {
		return now - longAgo
	}
	return now
}

// list has other flows of drainers in the programs' map.
func (x *steered) list() {
	x.t.Helper()
	var in, out []uint64
	for i := range x.listed {
		f := &x.listed[i]
		switch hash := x.n.FlowHash(f); {
		case x.random.IntN(2) == 0:
			in = append(in, hash)
			x.inMap[*f] = true
		default:
			out = append(out, hash)
			delete(x.inMap, *f)
		}
	}
	if err := errors.Join(x.direct.List(in), x.direct.Unlist(out)); err != nil {
		x.t.Fatal(err)
	}
}

// bucket is what a flow's bucket is to the node.
func (x *steered) bucket(f *hashing.Flow) (b BucketState, ok bool) {
	service, ok := x.n.byListen.find(x.n.vip(f.Dst), f.Proto, f.DstPort)
	if !ok {
		return b, false
	}
	r, bucket := &x.rows[service], x.n.bucketOf(service, f)
	has := func(b [4]uint64) bool { return (*Bitmap)(&b).Has(bucket) }
	b.Owned, b.Settled = has(r.Owned) && x.leased, has(r.Settled) && x.leased
	b.Lingering = has(r.Owned) || has(r.Lingering)
	b.Excluded = has(r.Listed) && !x.inMap[*f]
	b.Asked = boottime.Now()-max(r.Since[bucket], x.begins[service%2]) > 3*time.Minute
	return b, true
}

// socket is what the kernel has for a segment.
func (x *steered) socket(f *hashing.Flow, tcp []byte) KernelSocket {
	s := x.byFlow[*f]
	switch {
	case s == nil && f.DstPort <= halfOpenPort:
		return ListeningSocket
	case s == nil:
		return NoSocket
	case s.state == OpenSocket && distant(s, tcp):
		return DistantSocket
	}
	return s.state
}

func distant(s *socketOf, tcp []byte) bool {
	const window = 1 << 25
	far := func(v uint32) bool { return int64(int32(v)) < -window || int64(int32(v)) > window }
	return far(binary.BigEndian.Uint32(tcp[4:])-s.rcvNxt) || tcp[13]&flagACK != 0 && far(s.sndNxt-binary.BigEndian.Uint32(tcp[8:]))
}

// expect is the ruling on a frame that comes in, read off the frame byte by byte.
func (x *steered) expect(b []byte) ingress.Ruling {
	switch {
	case len(b) < 34:
		return ingress.Elsewhere
	case b[12] == 0x08 && b[13] == 0x00:
		return x.expect4(b)
	case b[12] == 0x86 && b[13] == 0xdd && len(b) >= 54:
		return x.expect6(b)
	}
	return ingress.Elsewhere
}

func isOurs(m []byte) bool {
	return string(m) == string(ownMAC[:]) || string(m) == string(clusterMAC[:]) || string(m) == "\x33\x33\x00\x00\x00\x02"
}

func (x *steered) expect4(b []byte) ingress.Ruling {
	p := b[14:]
	if string(p[16:20]) != string(vipAddr.AsSlice()) {
		return ingress.Elsewhere
	}
	header := int(p[0]&15) * 4
	switch {
	case !isOurs(b[:6]):
		return ingress.NotForKernel
	case b[6]&1 != 0, isOurs(b[6:12]), p[0]>>4 != 4, header < 20, p[12] == 0, p[12] == 127, p[12] >= 224, string(p[12:16]) == string(p[16:20]):
		return ingress.Malformed
	}
	key := string(p[12:20]) + string(p[4:6]) + string(p[9:10])
	part := binary.BigEndian.Uint16(p[6:])
	if part&0x1fff != 0 {
		return x.expectFragment(key)
	}
	var rest []byte
	if len(p) > header {
		rest = p[header:]
	}
	f := hashing.Flow{Src: netip.AddrFrom4([4]byte(p[12:16])), Dst: vipAddr, Proto: p[9]}
	r := x.expectTransport(&f, p[8], rest, 1)
	if part&0x2000 != 0 && r.Passes() && r != ingress.Elsewhere {
		x.first[key], x.last = x.now(), b
	}
	return r
}

// remembered is when a first fragment passed, and which of all it was.
type remembered struct {
	at    time.Time
	order int
}

// surelyKept is after how many more the programs may have forgotten one: their maps hold
// 8,192 of each family, and the kernel chooses only roughly the oldest to make room.
const surelyKept = 1024

func (x *steered) now() remembered {
	x.firsts++
	return remembered{time.Now(), x.firsts}
}

// expectFragment is the ruling on a fragment that is not the first of its packet.
func (x *steered) expectFragment(key string) ingress.Ruling {
	// The programs remember a first fragment for 30 seconds, by a clock of their own.
	then, passed := x.first[key]
	age := time.Since(then.at)
	x.unsure = passed && (age > 20*time.Second && age < 60*time.Second || x.firsts-then.order > surelyKept)
	if passed && age < 30*time.Second {
		return ingress.PassFragment
	}
	return ingress.LostFragment
}

func (x *steered) expect6(b []byte) ingress.Ruling {
	p := b[14:]
	if string(p[24:40]) != string(vipAddr6.AsSlice()) {
		return ingress.Elsewhere
	}
	src := netip.AddrFrom16([16]byte(p[8:24]))
	switch {
	case !isOurs(b[:6]):
		return ingress.NotForKernel
	case b[6]&1 != 0, isOurs(b[6:12]), p[0]>>4 != 6, src.IsMulticast(), src.Is4In6():
		return ingress.Malformed
	}
	f := hashing.Flow{Src: src, Dst: vipAddr6, Proto: p[6]}
	rest, first := p[40:], ""
	for n, fragment := 0, false; ; n++ {
		switch {
		case f.Proto == 43:
			return ingress.Malformed
		case f.Proto == 44 && fragment:
			return ingress.LostFragment
		case f.Proto == 44 && len(rest) < 8:
			return ingress.Malformed
		case f.Proto == 44:
			key, part := string(p[8:40])+string(rest[4:8]), binary.BigEndian.Uint16(rest[2:])
			if part>>3 != 0 {
				return x.expectFragment(key)
			}
			if part&1 != 0 {
				first = key
			}
			f.Proto, rest, n, fragment = rest[0], rest[8:], -1, true
			continue
		case f.Proto != 0 && f.Proto != 60:
			r := x.expectTransport(&f, p[7], rest, 58)
			if first != "" && r.Passes() && r != ingress.Elsewhere {
				x.first[first], x.last6 = x.now(), b
			}
			return r
		case n == 4 || len(rest) < 2:
			return ingress.Malformed
		}
		f.Proto = rest[0]
		rest = rest[min(int(rest[1])*8+8, len(rest)):]
	}
}

// expectTransport is the same from the transport's header on.
func (x *steered) expectTransport(f *hashing.Flow, ttl uint8, rest []byte, icmp uint8) ingress.Ruling {
	switch f.Proto {
	case TCP:
		if len(rest) < 20 || rest[12]>>4 < 5 || rest[0] == 0 && rest[1] == 0 {
			return ingress.Malformed
		}
		f.SrcPort, f.DstPort = binary.BigEndian.Uint16(rest), binary.BigEndian.Uint16(rest[2:])
		b, ok := x.bucket(f)
		r := SteerIn(rest[13], x.socket(f, rest), b)
		if ok && r == ingress.PassSYN {
			x.asks[*f] = binary.BigEndian.Uint32(rest[4:])
		}
		if !ok && r != ingress.Malformed {
			return ingress.NotForKernel
		}
		return r
	case UDP:
		switch {
		case ttl == 1:
			return ingress.Elsewhere
		case len(rest) < 8 || rest[4] == 0 && rest[5] < 8:
			return ingress.Malformed
		}
		f.SrcPort, f.DstPort = binary.BigEndian.Uint16(rest), binary.BigEndian.Uint16(rest[2:])
		if b, ok := x.bucket(f); ok {
			return SteerDatagram(b)
		}
		return ingress.NotForKernel
	case icmp:
		return x.expectError(f, rest, icmp)
	}
	return ingress.NotForKernel
}

func (x *steered) expectError(f *hashing.Flow, rest []byte, icmp uint8) ingress.Ruling {
	header, from, to, protocol := 20, 12, 16, 9
	if icmp == 58 {
		header, from, to, protocol = 40, 8, 24, 6
	}
	if len(rest) < 8+header || icmp == 1 && rest[0] != 3 && rest[0] != 11 && rest[0] != 12 || icmp == 58 && (rest[0] == 0 || rest[0] > 4) {
		return ingress.NotForKernel
	}
	quoted := rest[8:]
	client, _ := netip.AddrFromSlice(quoted[to : to+to-from])
	if string(quoted[from:to]) != string(f.Dst.AsSlice()) {
		return ingress.UnknownQuoted
	}
	if icmp == 1 {
		if header = int(quoted[0]&15) * 4; header < 20 {
			return ingress.Malformed
		}
	}
	if len(quoted) < header+4 {
		return ingress.UnknownQuoted
	}
	ports := quoted[header:]
	about := hashing.Flow{Src: client, SrcPort: binary.BigEndian.Uint16(ports[2:]), Dst: f.Dst, DstPort: binary.BigEndian.Uint16(ports), Proto: TCP}
	if p := quoted[protocol]; p == UDP || p == TCP && x.byFlow[about] != nil {
		return ingress.PassError
	}
	return ingress.UnknownQuoted
}

// frame is a random frame, mostly a segment of a service.
func (x *steered) frame() []byte {
	r := x.random
	vip := []netip.Addr{vipAddr, vipAddr6}[r.IntN(2)]
	f := hashing.Flow{Src: x.address(vip), SrcPort: uint16(r.UintN(1 << 16)), Dst: vip, DstPort: 22 + uint16(r.UintN(8)), Proto: TCP}
	var s *socketOf
	switch r.IntN(4) {
	case 0, 1:
		s = &x.sockets[r.IntN(len(x.sockets))]
		f = s.flow
	case 2:
		f = x.listed[r.IntN(len(x.listed))]
	}
	flags := []uint8{flagSYN, flagACK, flagACK | flagPSH, flagACK | flagFIN, flagRST, flagSYN | flagACK, flagRST | flagACK, uint8(r.UintN(256))}[r.IntN(8)]
	t := make([]byte, 20+r.IntN(30))
	binary.BigEndian.PutUint16(t, f.SrcPort)
	binary.BigEndian.PutUint16(t[2:], f.DstPort)
	binary.BigEndian.PutUint32(t[4:], r.Uint32())
	binary.BigEndian.PutUint32(t[8:], r.Uint32())
	t[12], t[13] = 0x50, flags
	if s != nil && r.IntN(3) > 0 {
		binary.BigEndian.PutUint32(t[4:], s.rcvNxt+uint32(r.IntN(9)-4)<<23)
		binary.BigEndian.PutUint32(t[8:], s.sndNxt-uint32(r.IntN(9)-2)<<23)
	}
	kind := uint8(TCP)
	switch r.IntN(12) {
	case 0:
		kind = UDP
		binary.BigEndian.PutUint16(t[4:], uint16(len(t)))
		binary.BigEndian.PutUint16(t[2:], datagramPort+uint16(r.UintN(2)))
	case 1:
		return x.mangled(x.errorAbout(&f))
	case 2:
		kind = uint8(r.UintN(70))
	}
	return x.mangled(x.packet(f.Src, f.Dst, kind, t))
}

// errorAbout is an ICMP error that quotes what a VIP has sent to a client.
func (x *steered) errorAbout(f *hashing.Flow) []byte {
	ports := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, f.DstPort), f.SrcPort)
	proto := []uint8{TCP, TCP, TCP, UDP, 1}[x.random.IntN(5)]
	quoted := x.packet(f.Dst, f.Src, proto, append(ports, 0, 0, 0, 0))[14:]
	icmp, kind := uint8(1), []byte{3, 11, 12, 8, 5}[x.random.IntN(5)]
	if f.Dst.Is6() {
		icmp, kind = 58, []byte{1, 2, 3, 4, 128, 135}[x.random.IntN(6)]
	}
	return x.packet(x.address(f.Dst), f.Dst, icmp, append([]byte{kind, 4, 0, 0, 0, 0, 5, 0}, quoted...))
}

// packet is a frame to the cluster, at times a fragment, or with options or extension
// headers.
func (x *steered) packet(src, dst netip.Addr, proto uint8, rest []byte) []byte {
	r := x.random
	if dst.Is6() || src.Is6() {
		for range r.IntN(2) * r.IntN(7) {
			rest = append(make([]byte, 8*(1+r.IntN(2))), rest...)
			rest[0], rest[1] = proto, byte(min(len(rest)/8, 1)*0)
			proto = []uint8{0, 60, 60, 43}[r.IntN(4)]
		}
		if r.IntN(4) == 0 {
			// A fragment's header, before all others or behind one.
			rest = append([]byte{proto, 0, 0, []byte{0, 1, 1, 8}[r.IntN(4)], 0, 0, byte(r.UintN(256)), byte(r.UintN(256))}, rest...)
			if proto = 44; r.IntN(2) == 0 {
				rest, proto = append([]byte{proto, 0, 0, 0, 0, 0, 0, 0}, rest...), 60
			}
		}
		p := append([]byte{0x60, 0, 0, 0, byte(len(rest) >> 8), byte(len(rest)), proto, 64}, src.AsSlice()...)
		p = append(append(p, dst.AsSlice()...), rest...)
		if r.IntN(16) == 0 && x.last6 != nil {
			p = append([]byte{}, x.last6[14:]...)
			if at := map[byte]int{44: 40, 60: 48}[p[6]]; at > 0 && len(p) >= at+8 {
				p[at+3] |= 8
				p[at+7] ^= byte(r.IntN(2))
			}
		}
		return append([]byte{0x33, 0x33, 0, 0, 0, 2, 2, 0, 0, 0, 1, 1, 0x86, 0xdd}, p...)
	}
	p := ip(src, proto, rest)
	copy(p[16:], dst.AsSlice())
	if r.IntN(8) == 0 {
		options := make([]byte, 4*r.IntN(10))
		p = append(append(append([]byte{}, p[:20]...), options...), p[20:]...)
		p[0] = 0x45 + byte(len(options)/4)
	}
	if r.IntN(6) == 0 {
		binary.BigEndian.PutUint16(p[4:], uint16(r.UintN(1<<16)))
		binary.BigEndian.PutUint16(p[6:], []uint16{0x2000, 0x2003, 0x0003, 0x4000}[r.IntN(4)])
	}
	if r.IntN(16) == 0 && x.last != nil {
		// A later fragment of a packet whose first one has passed, or was said to.
		p = append([]byte{}, x.last[14:]...)
		binary.BigEndian.PutUint16(p[6:], 0x0004)
		p[4] ^= byte(r.IntN(2))
	}
	return frame(etherTypeIPv4, p).Data
}

func (x *steered) mangled(b []byte) []byte {
	r := x.random
	if r.IntN(3) == 0 {
		for range 1 + r.IntN(3) {
			at := r.IntN(min(len(b), 80))
			if r.IntN(2) == 0 {
				b[at] ^= 1 << r.IntN(8)
			} else {
				b[at] = byte(r.Uint32())
			}
		}
	}
	// The kernel tries no frame that is shorter than the header which its type announces.
	if r.IntN(20) == 0 {
		b = b[:min(len(b), 54+r.IntN(40))]
	}
	if v6 := b[12] == 0x86 && b[13] == 0xdd; v6 && len(b) < 54 {
		b = append(b, make([]byte, 54-len(b))...)
	}
	return b
}

// expectOut is the ruling on a frame that leaves and that no connection sends.
func (x *steered) expectOut(b []byte) ingress.Ruling {
	f := hashing.Flow{Proto: TCP}
	var t []byte
	switch {
	case len(b) < 34:
		return ingress.Elsewhere
	case string(b[6:12]) == string(clusterMAC[:]), string(b[6:12]) == "\x33\x33\x00\x00\x00\x02":
		return ingress.KeptSource
	case b[12] == 0x08 && b[13] == 0x06 && len(b) >= 42 && string(b[28:32]) == string(vipAddr.AsSlice()):
		if string(b[22:28]) == string(clusterMAC[:]) {
			return ingress.Elsewhere
		}
		return ingress.KeptAddress
	case b[12] == 0x08 && b[13] == 0x00 && b[23] == TCP && (b[20]&0x1f|b[21]) == 0 && string(b[26:30]) == string(vipAddr.AsSlice()):
		f.Dst, f.Src = vipAddr, netip.AddrFrom4([4]byte(b[30:34]))
		t = b[min(14+int(b[14]&15)*4, len(b)):]
	case b[12] == 0x86 && b[13] == 0xdd && len(b) >= 54 && b[20] == TCP && string(b[22:38]) == string(vipAddr6.AsSlice()):
		f.Dst, f.Src = vipAddr6, netip.AddrFrom16([16]byte(b[38:54]))
		t = b[54:]
	}
	if len(t) < 20 {
		return ingress.Elsewhere
	}
	f.DstPort, f.SrcPort = binary.BigEndian.Uint16(t), binary.BigEndian.Uint16(t[2:])
	bucket, ok := x.bucket(&f)
	if !ok {
		return ingress.Elsewhere
	}
	syn, asked := x.asks[f]
	bucket.Asked = bucket.Asked || asked && binary.BigEndian.Uint32(t[8:]) == syn+1
	return SteerOut(t[13], binary.BigEndian.Uint32(t[4:]), false, false, bucket)
}

// outgoing is a random frame of a VIP's.
func (x *steered) outgoing() []byte {
	r := x.random
	vip := []netip.Addr{vipAddr, vipAddr6}[r.IntN(2)]
	f := hashing.Flow{Src: x.address(vip), SrcPort: uint16(r.UintN(1 << 16)), Dst: vip, DstPort: 22 + uint16(r.UintN(8))}
	if r.IntN(3) == 0 {
		f = x.listed[r.IntN(len(x.listed))]
	}
	t := make([]byte, 20+r.IntN(8))
	binary.BigEndian.PutUint16(t, f.DstPort)
	binary.BigEndian.PutUint16(t[2:], f.SrcPort)
	binary.BigEndian.PutUint32(t[4:], r.Uint32()*r.Uint32N(2))
	if syn, ok := x.asks[hashing.Flow{Src: f.Src, SrcPort: f.SrcPort, Dst: f.Dst, DstPort: f.DstPort, Proto: TCP}]; ok && r.IntN(2) == 0 {
		binary.BigEndian.PutUint32(t[8:], syn+1)
	}
	t[12], t[13] = 0x50, []uint8{flagSYN | flagACK, flagRST, flagRST | flagACK, flagACK, uint8(r.UintN(256))}[r.IntN(5)]
	b := x.packet(f.Dst, f.Src, TCP, t)
	copy(b, clientMAC[:])
	copy(b[6:], ownMAC[:])
	if r.IntN(20) == 0 {
		copy(b[6:], clusterMAC[:])
	}
	if r.IntN(10) == 0 {
		b = append(append([]byte{}, b[:12]...), 8, 6, 0, 1, 8, 0, 6, 4, 0, 2)
		b = append(append(append(b, clusterMAC[:]...), vipAddr.AsSlice()...), make([]byte, 10)...)
	}
	return x.mangled(b)
}

// The programs in the kernel and the rule say the same about random and mangled frames,
// beside real sockets in every state and under any rights.
func TestProgramsSteerByTheRule(t *testing.T) {
	frames := *steeredFrames
	if testing.Short() {
		frames = min(frames, 10_000)
	}
	x := newSteered(t, 1)
	seen := map[ingress.Ruling]int{}
	made := time.Now()
	for i := range frames {
		if time.Since(made) > 20*time.Second {
			// The kernel's TIME-WAIT ends after 60 seconds.
			x, made = newSteered(t, uint64(i)), time.Now()
			x.some()
		}
		if i%2000 == 0 {
			x.some()
		}
		b, ask, expect := x.frame(), x.asked.In, x.expect
		if i%4 == 0 {
			b, ask, expect = x.outgoing(), x.asked.Out, x.expectOut
		}
		x.unsure = false
		want := expect(b)
		got, err := ask(b)
		if x.unsure && err == nil {
			continue
		}
		if err != nil || got != want {
			t.Fatalf("frame %d, out %v, %x: %v, and the rule says %v, %v", i, i%4 == 0, b, got, want, err)
		}
		seen[got]++
	}
	for r := range ingress.RulingCount {
		// No connection sends what is only tried.
		if seen[r] == 0 && r != ingress.KeptSilent {
			t.Errorf("no frame was %v", r)
		}
	}
	t.Log(fmt.Sprint(seen))
}
