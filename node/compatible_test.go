package node

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"testing"

	"onevoice/hashing"
	"onevoice/link"
	"onevoice/link/ingress"
	"onevoice/responder"
)

// sharedPort is that of the first service with another system's hash.
const sharedPort = 40

// sharedServices are a service on a VIP for each system that knows such addresses.
func sharedServices(vip netip.Addr) (out []Service) {
	for i, c := range []hashing.Compatible{
		{System: hashing.ClusterIPSource, Nodes: 16}, {System: hashing.ClusterIPSourcePort, Seed: 7, Nodes: 3},
		{System: hashing.ClusterIPBothPorts, Seed: 0xffffffff, Nodes: 5}, {System: hashing.XTCluster, Seed: 0xcafe, Nodes: 32},
		{System: hashing.NFTHash, Seed: 0x80000000, Nodes: 256}, {System: hashing.Netmask, Nodes: 8}, {System: hashing.CARP, Nodes: 31},
	} {
		if _, ok := c.Bucket(&hashing.Flow{Src: vip, Dst: vip}); ok {
			out = append(out, Service{Proto: protoTCP, Listen: netip.AddrPortFrom(vip, sharedPort+uint16(i)), Compatible: &c})
		}
	}
	return out
}

// shared4 and shared6 are segments of IPv4 and IPv6 to a service.
func shared4(f *hashing.Flow) []byte { return segmentOf(f, flagACK, nil) }

func shared6(f *hashing.Flow) []byte {
	src, dst := f.Src.As16(), f.Dst.As16()
	ip := append([]byte{0x60, 0, 0, 0, 0, 20, protoTCP, 64}, append(src[:], dst[:]...)...)
	tcp := []byte{byte(f.SrcPort >> 8), byte(f.SrcPort), byte(f.DstPort >> 8), byte(f.DstPort), 0, 0, 0, 1, 0, 0, 0, 1, 0x50, flagACK, 0, 0, 0, 0, 0, 0}
	return frame(etherTypeIPv6, append(ip, tcp...)).Data
}

// The kernel finds the same bucket by each system's hash as user space does: a frame
// passes if its bucket's bit is set, and does not if it alone is not.
func TestKernelFilterHashesAsOtherSystems(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to load programs (CAP_BPF, CAP_NET_ADMIN)")
	}
	frames := max(*kernelFrames/10, 1000)
	for name, c := range map[string]struct {
		vip     netip.Addr
		group   responder.MAC
		segment func(*hashing.Flow) []byte
	}{
		"IPv4": {vipAddr, clusterMAC, shared4},
		"IPv6": {netip.MustParseAddr("2001:db8::2"), clusterMAC, shared6},
	} {
		t.Run(name, func(t *testing.T) {
			services := sharedServices(c.vip)
			other := vip2Addr
			if c.vip.Is4() {
				other = netip.MustParseAddr("2001:db8::3")
			}
			f, err := ingress.Load(ingress.Config{
				Own: ownMAC[:], Groups: []net.HardwareAddr{c.group[:]},
				Addresses: []netip.Addr{c.vip, other}, Services: append(FilteredServices(services), ingress.Service{Listen: netip.AddrPortFrom(other, 22)})})
			if err != nil {
				t.Fatalf("%+v", err)
			}
			defer f.Close()
			r := rand.New(rand.NewPCG(9, 0))
			for range frames {
				i := r.IntN(len(services))
				s := &services[i]
				src := c.vip.AsSlice()
				for k := range src {
					src[k] = byte(r.Uint32())
				}
				src[0] = 32 + src[0]%64 // a client's address, of both families
				addr, _ := netip.AddrFromSlice(src)
				flow := hashing.Flow{Src: addr, SrcPort: 1 + uint16(r.IntN(65535)), Dst: c.vip, DstPort: s.Listen.Port(), Proto: protoTCP}
				bucket, ok := s.Compatible.Bucket(&flow)
				if !ok || int(bucket) >= s.Compatible.Nodes {
					t.Fatalf("%v: bucket %d", flow, bucket)
				}
				var only Bitmap
				only.Set(bucket)
				without := everyBucket()
				without[bucket/64] &^= only[bucket/64]
				for bits, want := range map[Bitmap]bool{only: true, without: false} {
					f.Pass(i, (*[4]uint64)(&bits))
					if pass, err := f.Passes(c.segment(&flow)); err != nil || pass != want {
						t.Fatalf("%v of %d, bucket %d of %v: passes %v, %v", s.Compatible.System, s.Compatible.Nodes, bucket, flow, pass, err)
					}
				}
			}
		})
	}
}

// sharing is a node whose VIP is shared by xt_cluster among four.
func sharing(t *testing.T, accept Bitmap) *Node {
	t.Helper()
	n, err := New(Config{
		Own: ownMAC, Address: ownAddr, MTU: 1500, Hasher: hashing.NewHasher(key), Flows: &modelFlows{},
		VIPs:     []VIP{{VIP: responder.VIP{Addr: vipAddr, MAC: clusterMAC}, LAN: lan}},
		Services: []Service{{Proto: protoTCP, Listen: netip.AddrPortFrom(vipAddr, 22), Compatible: &hashing.Compatible{System: hashing.XTCluster, Nodes: 4}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	err = n.SetOwnership(&Ownership{Generation: 1, LeaseEnd: Forever, VIPs: make([]Rows, 1), Services: []Rows{{Accept: accept, Shared: everyBucket()}}})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// What has no service goes by the other system's hash too, and what is a node's of the
// other system is met with silence. ARP goes by the VIP's own table.
func TestR21EchoAndClosedPortsGoByTheOtherHash(t *testing.T) {
	shares := hashing.Compatible{System: hashing.XTCluster, Nodes: 4}
	mine := sharing(t, Bitmap{1 << 1})
	ours, theirs := 0, 0
	for i := range 64 {
		src := netip.AddrFrom4([4]byte{10, 77, 0, byte(50 + i)})
		bucket, _ := shares.Bucket(&hashing.Flow{Src: src})
		echo := icmp(src, icmpEcho, make([]byte, 8))
		for what, f := range map[string]*link.Frame{
			"echo": frame(etherTypeIPv4, echo), "closed port": frame(etherTypeIPv4, tcp(src, 2000, 99, flagSYN, nil)), "SYN": frame(etherTypeIPv4, tcp(src, 2000, 22, flagSYN, nil)),
			"stray": frame(etherTypeIPv4, tcp(src, 2000, 22, flagACK, nil)),
		} {
			h := mine.Handle(0, f)
			if answered := h.Verdict != NotOwner; answered != (bucket == 1) {
				t.Fatalf("%s of %v, bucket %d: %v", what, src, bucket, h.Verdict)
			}
			if bucket != 1 && h.Reply != nil {
				t.Fatalf("%s of %v is answered in another system's bucket", what, src)
			}
		}
		if bucket == 1 {
			ours++
		} else {
			theirs++
		}
		if v := mine.Handle(0, arpRequest(src, vipAddr)).Verdict; v != NotOwner {
			t.Fatalf("ARP of %v: %v", src, v)
		}
	}
	if ours == 0 || theirs == 0 {
		t.Errorf("%d and %d clients", ours, theirs)
	}
}

func TestWhatAnotherSystemDoesNotHave(t *testing.T) {
	for _, c := range []hashing.Compatible{{System: hashing.ClusterIPSource, Nodes: 17}, {System: hashing.Netmask, Nodes: 3}, {System: hashing.CARP}, {System: 99, Nodes: 1}} {
		_, err := New(Config{
			Own: ownMAC, Address: ownAddr, MTU: 1500, Hasher: hashing.NewHasher(key), Flows: &modelFlows{},
			VIPs:     []VIP{{VIP: responder.VIP{Addr: vipAddr, MAC: clusterMAC}, LAN: lan}},
			Services: []Service{{Proto: protoTCP, Listen: netip.AddrPortFrom(vipAddr, 22), Compatible: &c}},
		})
		if err == nil {
			t.Errorf("%+v is taken", c)
		}
	}
}

// BenchmarkHandleShared is the verdict on a segment of another node's client, by our
// own hash and by another system's.
func BenchmarkHandleShared(b *testing.B) {
	for name, c := range map[string]*hashing.Compatible{"siphash": nil, "clusterip": {System: hashing.ClusterIPBothPorts, Nodes: 4}, "xt_cluster": {System: hashing.XTCluster, Nodes: 4}} {
		b.Run(name, func(b *testing.B) {
			n, err := New(Config{
				Own: ownMAC, Address: ownAddr, MTU: 1500, Hasher: hashing.NewHasher(key), Flows: &modelFlows{},
				VIPs:     []VIP{{VIP: responder.VIP{Addr: vipAddr, MAC: clusterMAC}, LAN: lan}},
				Services: []Service{{Proto: protoTCP, Listen: netip.AddrPortFrom(vipAddr, 22), Compatible: c}},
			})
			if err != nil {
				b.Fatal(err)
			}
			f := frame(etherTypeIPv4, tcp(netip.AddrFrom4([4]byte{10, 77, 0, 101}), 2000, 22, flagACK, nil))
			b.ReportAllocs()
			for b.Loop() {
				if v := n.Handle(0, f).Verdict; v != NotOwner {
					b.Fatal(v)
				}
			}
		})
	}
}
