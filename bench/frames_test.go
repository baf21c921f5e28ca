package bench

import (
	"net/netip"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"onevoice/lab"
)

// Every frame of a flood is one that a stack takes: both checksums are right,
// whatever the source.
func TestFloodFrames(t *testing.T) {
	f := newSYN(lab.ClusterMAC(), xtMAC(), at(lab.VIP(), 8083))
	for i, src := range []string{"198.18.0.1", "198.19.255.254", "255.255.255.255", "0.0.0.0"} {
		f.from(netip.MustParseAddr(src), uint16(i*21845))
		ip, tcp := f[ethernetBytes:ethernetBytes+ipv4Bytes], f[ethernetBytes+ipv4Bytes:]
		// What is right sums up to all ones, of which the complement is 0.
		if sum := onesComplement(0, ip); sum != 0 {
			t.Errorf("%s: header sum %#x", src, sum)
		}
		pseudo := append(append([]byte{}, ip[12:20]...), 0, unix.IPPROTO_TCP, 0, byte(len(tcp)))
		if sum := onesComplement(0, append(pseudo, tcp...)); sum != 0 {
			t.Errorf("%s: TCP sum %#x", src, sum)
		}
	}
}

// The counting socket counts answers to spoofed sources, and nothing else.
func TestAnswersOnly(t *testing.T) {
	var program []bpf.Instruction
	for _, i := range answersOnly()[2:] {
		program = append(program, bpf.RawInstruction{Op: i.Code, Jt: i.Jt, Jf: i.Jf, K: i.K}.Disassemble())
	}
	vm, err := bpf.NewVM(program)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		to    string
		flags byte
		want  bool
	}{
		{"198.18.0.1", 0x12, true}, {"198.19.255.255", 0x12, true}, {"198.20.0.0", 0x12, false}, {"198.17.255.255", 0x12, false},
		{"10.77.0.101", 0x12, false}, {"198.18.0.1", 0x02, false}, {"198.18.0.1", 0x14, false}, {"198.18.0.1", 0x10, false},
	} {
		f := newSYN(lab.ClusterMAC(), xtMAC(), netip.AddrPortFrom(netip.MustParseAddr(c.to), 1))
		f[ethernetBytes+ipv4Bytes+13] = c.flags
		n, err := vm.Run(f[:])
		if err != nil || (n > 0) != c.want {
			t.Errorf("%s with flags %#x: %d, %v", c.to, c.flags, n, err)
		}
	}
}
