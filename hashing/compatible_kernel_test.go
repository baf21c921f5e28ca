package hashing

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// The kernel's own match says the same, of each of many clients.
func TestXTClusterIsTheKernels(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root for a network namespace of its own")
	}
	if _, err := exec.LookPath("iptables"); err != nil {
		t.Skip(err)
	}
	runtime.LockOSThread() // never given back
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	near := []byte{2, 0, 0, 0, 0, 1}
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "near", HardwareAddr: near}, PeerName: "far"}); err != nil {
		t.Fatal(err)
	}
	index := 0
	for _, name := range []string{"near", "far"} {
		l, err := netlink.LinkByName(name)
		if err == nil {
			err = netlink.LinkSetUp(l)
		}
		if err != nil {
			t.Fatal(err)
		}
		index = l.Attrs().Index
	}
	for deadline := time.Now().Add(5 * time.Second); ; runtime.Gosched() {
		if l, err := netlink.LinkByName("near"); err != nil || time.Now().After(deadline) {
			t.Fatalf("no carrier: %v", err)
		} else if l.Attrs().OperState == netlink.OperUp {
			break
		}
	}
	far, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(far) })
	for _, c := range []Compatible{{XTCluster, 0, 4}, {XTCluster, 0xcafe, 7}} {
		k := &kernelMatch{t: t, nodes: c.Nodes}
		k.rules("-A", c.Seed)
		want := k.counts()
		for i := range 40 {
			src := netip.AddrFrom4([4]byte{198, 51, byte(7 * i), byte(i)})
			bucket, _ := c.Bucket(&Flow{Src: src})
			want[bucket]++
			frame := append(slices.Clone(near), 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, unix.IPPROTO_UDP, 0, 0)
			frame = append(append(frame, src.AsSlice()...), 10, 77, 0, 2, 0, 99, 0, 53, 0, 8, 0, 0)
			sealHeader(frame[14:34])
			if err := unix.Sendto(far, frame, 0, &unix.SockaddrLinklayer{Ifindex: index}); err != nil {
				t.Fatal(err)
			}
			if got := k.counts(); !slices.Equal(got, want) {
				t.Fatalf("seed %#x: %v: the kernel counts %v, want %v", c.Seed, src, got, want)
			}
		}
		k.rules("-D", c.Seed)
	}
}

// kernelMatch is a rule for each node, in the order of their numbers.
type kernelMatch struct {
	t     *testing.T
	nodes int
}

func (k *kernelMatch) rules(do string, seed uint32) {
	k.t.Helper()
	for n := range k.nodes {
		args := []string{"-t", "mangle", do, "PREROUTING", "-i", "near", "-m", "cluster", "--cluster-total-nodes", fmt.Sprint(k.nodes),
			"--cluster-local-node", fmt.Sprint(n + 1), "--cluster-hash-seed", fmt.Sprint(seed)}
		if out, err := exec.Command("iptables", args...).CombinedOutput(); err != nil {
			k.t.Skipf("iptables %v: %v: %s", args, err, out)
		}
	}
}

// counts are how many packets each rule has met.
func (k *kernelMatch) counts() (out []int) {
	k.t.Helper()
	text, err := exec.Command("iptables", "-t", "mangle", "-L", "PREROUTING", "-v", "-x", "-n").Output()
	if err != nil {
		k.t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^ *(\d+) +\d+ .* cluster `).FindAllSubmatch(text, -1) {
		n, _ := strconv.Atoi(string(m[1]))
		out = append(out, n)
	}
	if len(out) != k.nodes {
		k.t.Fatalf("%d rules in\n%s", len(out), text)
	}
	return out
}

// sealHeader makes an IPv4 header's checksum right.
func sealHeader(b []byte) {
	sum := uint32(0)
	for i := 0; i < len(b); i += 2 {
		sum += uint32(b[i])<<8 | uint32(b[i+1])
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	b[10], b[11] = byte(^sum>>8), byte(^sum)
}
