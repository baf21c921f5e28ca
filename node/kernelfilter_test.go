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
	"sync"
	"testing"
	"time"

	"golang.org/x/net/bpf"

	"onevoice/hashing"
	"onevoice/internal/flowstate"
	"onevoice/link"
	"onevoice/link/ingress"
	"onevoice/responder"
)

var kernelFrames = flag.Int("kernel-frames", 50_000, "how many frames the kernel and the node both judge")

// vip2Addr is a second VIP, of which only one port is a service.
var vip2Addr = netip.MustParseAddr("10.77.0.3")

// exceptedPort is that of heartbeats.
const exceptedPort = 7176

// inKernel is a node with services of every affinity and their program in the
// kernel, attached to nothing.
type inKernel struct {
	t       testing.TB
	n       *Node
	flows   *modelFlows
	filter  *ingress.Filter
	classic *bpf.VM
	random  *rand.Rand
	held    []hashing.Flow
}

func newInKernel(t testing.TB, seed uint64) *inKernel {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to load programs (CAP_BPF, CAP_NET_ADMIN)")
	}
	k := &inKernel{t: t, flows: &modelFlows{states: map[hashing.Flow]flowstate.State{}}, random: rand.New(rand.NewPCG(seed, 0))}
	var services []Service
	for a := hashing.SourceIP; a <= hashing.SourceIPPortDestPort; a++ {
		services = append(services, Service{Proto: protoTCP, Listen: netip.AddrPortFrom(vipAddr, 22+uint16(a)), Affinity: a})
	}
	services = append(services, Service{Proto: protoTCP, Listen: netip.AddrPortFrom(vip2Addr, 22), Affinity: hashing.SourceIP},
		Service{Proto: protoTCP, Listen: netip.AddrPortFrom(vip2Addr, 24), LastPort: 25, Affinity: hashing.SourceIPPortDestPort})
	// Some have pins, one within another, and one for everybody.
	for _, i := range []int{1, 3, 4} {
		services[i].Pins = []Pin{{netip.MustParsePrefix("10.77.0.0/16"), 3}, {netip.MustParsePrefix("10.77.0.102/32"), 200}, {netip.MustParsePrefix("128.0.0.0/1"), 3}}
	}
	services[4].Pins = append(services[4].Pins, Pin{netip.MustParsePrefix("0.0.0.0/0"), 77})
	services = append(services, sharedServices(vipAddr)...)
	// Of UDP, also on ports of TCP.
	services = append(services, Service{Proto: protoUDP, Listen: netip.AddrPortFrom(vipAddr, 22), Affinity: hashing.SourceIPPort},
		Service{Proto: protoUDP, Listen: netip.AddrPortFrom(vipAddr, 53), LastPort: 54}, Service{Proto: protoUDP, Listen: netip.AddrPortFrom(vip2Addr, 53), Affinity: hashing.SourceNet})
	var err error
	k.n, err = New(Config{
		Own: ownMAC, Address: ownAddr, MTU: 1500, Services: services, Hasher: hashing.NewHasher(key), Flows: k.flows,
		Datagrams: &modelDatagrams{flows: map[hashing.Flow]int{}},
		VIPs:      []VIP{{VIP: responder.VIP{Addr: vipAddr, MAC: clusterMAC}, LAN: lan}, {VIP: responder.VIP{Addr: vip2Addr, MAC: clusterMAC}, LAN: lan}},
	})
	if err != nil {
		t.Fatal(err)
	}
	takes := &link.Filter{Addresses: []netip.Addr{vipAddr, vip2Addr}, Groups: []net.HardwareAddr{clusterMAC[:]}, Except: exceptedPort}
	if k.classic, err = bpf.NewVM(takes.Program(ownMAC[:])); err != nil {
		t.Fatal(err)
	}
	k.filter, err = ingress.Load(ingress.Config{
		Own: ownMAC[:], Groups: takes.Groups, Addresses: takes.Addresses, Except: takes.Except, Services: FilteredServices(services),
	})
	if errors.Is(err, ingress.ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.filter.Close() })
	k.n.Tick(time.Hour)
	k.n.SetFilter(KernelFilter(k.filter))
	return k
}

// own puts an ownership in force: of each service a random half of the buckets, all
// or none, under a key.
func (k *inKernel) own(key hashing.Key, share func() uint64) {
	k.t.Helper()
	o := &Ownership{Generation: k.n.Generation() + 1, VIPs: make([]Rows, 2), LeaseEnd: Forever}
	for range k.n.services {
		o.Services = append(o.Services, Rows{Key: key, Accept: Bitmap{share(), share(), share(), share()}})
	}
	if err := k.n.SetOwnership(o); err != nil {
		k.t.Fatal(err)
	}
}

func none() uint64 { return 0 }

// hold makes the node's TCP hold a flow of a service.
func (k *inKernel) hold(service int, client netip.AddrPort) hashing.Flow {
	at := k.n.services[service].Listen
	f := hashing.Flow{Src: client.Addr(), SrcPort: client.Port(), Dst: at.Addr(), DstPort: at.Port(), Proto: protoTCP}
	if k.n.table.find(&f) == nil {
		k.n.table.add(&f, service, k.n.bucketOf(service, &f), k.n.last).proven = true
		k.flows.states[f] = flowstate.Open
		k.held = append(k.held, f)
	}
	return f
}

// connections is how many services are of TCP; they come first.
func (k *inKernel) connections() (n int) {
	for i := range k.n.services {
		if k.n.services[i].Proto == protoTCP {
			n++
		}
	}
	return n
}

// some gives the node half of the buckets and a few flows.
func (k *inKernel) some() {
	k.t.Helper()
	for range 40 {
		if c := k.client(); c.Port() != 0 {
			k.hold(k.random.IntN(k.connections()), c)
		}
	}
	k.own(hashing.Key{1}, k.random.Uint64)
}

// passes is what the kernel does with a frame.
func (k *inKernel) passes(frame []byte) bool {
	k.t.Helper()
	pass, err := k.filter.Passes(frame)
	if err != nil {
		k.t.Fatalf("%x: %v", frame, err)
	}
	return pass
}

// segmentOf is a frame of a flow.
func segmentOf(f *hashing.Flow, flags uint8, payload []byte) []byte {
	b := tcp(f.Src, f.SrcPort, f.DstPort, flags, payload)
	copy(b[16:], f.Dst.AsSlice())
	fixIP(b)
	fixTransport(b)
	return frame(etherTypeIPv4, b).Data
}

// client is one of a few, some of whom nobody can be, or anybody.
func (k *inKernel) client() netip.AddrPort {
	r := k.random
	port := uint16(r.Uint32())
	if r.IntN(2) == 0 {
		port = uint16(1000 + r.IntN(8))
	}
	few := [][4]byte{{10, 77, 0, 101}, {10, 77, 0, 102}, {203, 0, 113, 254}, {198, 51, 100, 1}, {127, 0, 0, 1}, {0, 0, 0, 1}, {224, 0, 0, 5}, {10, 77, 0, 255}, vipAddr.As4()}
	if i := r.IntN(2 * len(few)); i < len(few) {
		return netip.AddrPortFrom(netip.AddrFrom4(few[i]), port)
	}
	var any [4]byte
	binary.BigEndian.PutUint32(any[:], r.Uint32())
	return netip.AddrPortFrom(netip.AddrFrom4(any), port)
}

// frame is a random frame, mostly a segment of a service, and then mostly mangled.
func (k *inKernel) frame() []byte {
	r := k.random
	c := k.client()
	f := hashing.Flow{Src: c.Addr(), SrcPort: c.Port(), Dst: vipAddr, DstPort: 22 + uint16(r.IntN(5))}
	if r.IntN(3) == 0 {
		f.DstPort = sharedPort + uint16(r.IntN(8))
	}
	if r.IntN(5) == 0 {
		f.Dst = vip2Addr
	}
	if r.IntN(4) == 0 && len(k.held) > 0 {
		f = k.held[r.IntN(len(k.held))]
	}
	flags := []uint8{flagSYN, flagACK, flagACK | flagPSH, flagACK | flagFIN, flagRST, flagSYN | flagACK}[r.IntN(6)]
	b := segmentOf(&f, flags, make([]byte, r.IntN(3)*r.IntN(40)))
	switch r.IntN(20) {
	case 0:
		b = frame(etherTypeIPv4, udp(f.Src, f.SrcPort, exceptedPort-uint16(r.IntN(2)), make([]byte, r.IntN(30)))).Data
	case 4, 5, 6, 7:
		p := udp(f.Src, f.SrcPort, []uint16{22, 53, 54, 55}[r.IntN(4)], make([]byte, r.IntN(60)))
		copy(p[16:], f.Dst.AsSlice())
		fixIP(p)
		fixTransport(p)
		b = frame(etherTypeIPv4, p).Data
	case 1:
		b = frame(etherTypeIPv4, icmp(f.Src, uint8(r.IntN(12)), quote(f.Src, f.DstPort, f.SrcPort))).Data
	case 2:
		b = arpRequest(f.Src, f.Dst).Data
	case 3:
		b = append(b, make([]byte, r.IntN(20))...) // padding
	}
	if r.IntN(2) == 0 {
		k.mangle(&b)
	}
	return b
}

// mangle changes some bytes of the headers and then mostly makes the checksums right
// again, so that more is looked at than these.
func (k *inKernel) mangle(frame *[]byte) {
	r, b := k.random, *frame
	for range 1 + r.IntN(3) {
		at := r.IntN(min(len(b), 60))
		if r.IntN(2) == 0 {
			b[at] ^= 1 << r.IntN(8)
		} else {
			b[at] = byte(r.Uint32())
		}
	}
	if r.IntN(8) == 0 {
		b = b[:min(len(b), 34+r.IntN(30))]
	}
	if p := b[14:]; len(p) >= 20 && r.IntN(4) > 0 {
		fixIP(p)
		if (p[9] == protoTCP || p[9] == protoUDP) && len(p) >= 40 {
			fixTransport(p)
		}
	}
	*frame = b
}

// judge compares the kernel with the node for one frame that passed or did not.
func (k *inKernel) judge(b []byte, pass bool) error {
	k.n.decoded = Decoded{}
	v := k.n.Handle(k.n.last, &link.Frame{Data: b}).Verdict
	classic, err := k.classic.Run(b)
	if err != nil {
		return err
	}
	flow := &k.n.decoded.Flow
	service, ok := k.n.byListen.find(k.n.vip(flow.Dst), flow.Proto, flow.DstPort)
	// Of a short datagram too little is read for the kernel to tell.
	tooShort := flow.Proto == protoUDP && len(b) < 54
	switch {
	case classic == 0:
		if pass {
			return fmt.Errorf("link's filter refuses it, %v", v)
		}
	case ok && v == NotOwner && tooShort && pass:
	case ok && v == NotOwner:
		if held := flow.Proto == protoTCP && k.n.table.find(flow) != nil; pass != held {
			return fmt.Errorf("another node's, and passes: %v; held here: %v", pass, held)
		}
	case ok && (v == BadTCPChecksum || v == BadTCPOptions || v == BadUDP || v == MartianSource):
		// What is wrong is not seen in the kernel, or may not be: the filter goes by
		// the bucket.
		if bucket := k.n.bucketOf(service, flow); !pass && k.n.ownership.Services[service].Accept.Has(bucket) {
			return fmt.Errorf("dropped in a bucket of ours, %v", v)
		}
	case !pass && !(v == MartianSource && flow.Proto == protoTCP):
		return fmt.Errorf("dropped, and the node says %v", v)
	}
	return nil
}

// The kernel and the node say the same about random and mangled frames: what the
// kernel drops is refused by link's filter or is another node's, and all of that is
// dropped.
func TestKernelFilterAgreesWithTheNode(t *testing.T) {
	frames := *kernelFrames
	if testing.Short() {
		frames = min(frames, 10_000)
	}
	const workers = 2
	var group sync.WaitGroup
	for w := range workers {
		k := newInKernel(t, uint64(w))
		k.some()
		group.Go(func() {
			for i := range frames / workers {
				if i%5000 == 4999 {
					k.own(hashing.Key{byte(w), byte(k.random.Uint32())}, k.random.Uint64)
				}
				b := k.frame()
				pass, err := k.filter.Passes(b)
				if err == nil {
					err = k.judge(b, pass)
				}
				if err != nil {
					t.Errorf("frame %d of worker %d, %x: %v", i, w, b, err)
					return
				}
			}
			dropped := int(k.filter.Stats().Foreign)
			if dropped < frames/workers/20 {
				t.Errorf("only %d of %d frames were another node's", dropped, frames/workers)
			}
			t.Logf("worker %d: %d frames, of which the kernel dropped %d for being another node's", w, frames/workers, dropped)
		})
	}
	group.Wait()
}
