package hashing

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// The address that clients send to. Rules name it, for an interface has a voice of its
// own in IPv6.
const (
	sharedAddr  = "10.77.0.2"
	sharedAddr6 = "2001:db8::2"
)

// kernelRules are rules of the running kernel, one for each bucket, that count the
// packets which they meet.
type kernelRules struct {
	tool string
	// make makes them, and counts are the packets that each has met.
	make   func(t *testing.T, c *Compatible)
	counts func(t *testing.T) []int
}

// The running kernel's own rules meet the very clients that we say they meet: 10,000
// of each family by each rule, as packets on an interface.
func TestTheKernelSharesAsWeDo(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root for a network namespace of its own")
	}
	clients := 10_000
	if testing.Short() {
		clients = 1_000
	}
	for _, c := range []Compatible{{XTCluster, 0, 4}, {XTCluster, 0xcafe, 7}, {NFTHash, 0xcafe, 32}} {
		for _, family := range []string{"IPv4", "IPv6"} {
			t.Run(fmt.Sprintf("%v of %d/%s", c.System, c.Nodes, family), func(t *testing.T) {
				rules := xtRules(family)
				if c.System == NFTHash {
					rules = nftRules(family)
				}
				if _, err := exec.LookPath(rules.tool); err != nil {
					t.Skip(err)
				}
				w := newWire(t)
				rules.make(t, &c)
				w.compare(t, &c, rules, family, clients)
			})
		}
	}
}

// compare sends, bucket by bucket, a packet of each client in it. After each bucket its
// rule has met all of them, and no other rule has met any.
func (w *wire) compare(t *testing.T, c *Compatible, rules kernelRules, family string, clients int) {
	t.Helper()
	r := rand.New(rand.NewPCG(uint64(c.Seed), uint64(clients)))
	frames := make([][][]byte, c.Nodes)
	for range clients {
		src, frame := clientFrame(r, family)
		bucket, ok := c.Bucket(&Flow{Src: src})
		if !ok {
			t.Fatalf("%v has no bucket", src)
		}
		frames[bucket] = append(frames[bucket], frame)
	}
	want := make([]int, c.Nodes)
	for bucket, list := range frames {
		// The kernel queues a thousand packets that it has not come to.
		for chunk := range slices.Chunk(list, 500) {
			for _, frame := range chunk {
				w.send(t, frame)
			}
			want[bucket] += len(chunk)
			for late := time.Now().Add(20 * time.Second); ; runtime.Gosched() {
				got := rules.counts(t)
				if slices.Equal(got, want) {
					break
				}
				if total(got) >= total(want) || time.Now().After(late) {
					t.Fatalf("after bucket %d the kernel counts %v, want %v", bucket, got, want)
				}
			}
		}
		if len(list) == 0 && clients >= 100*c.Nodes && !(c.System == XTCluster && family == "IPv6") {
			t.Errorf("nobody of %d clients is in bucket %d", clients, bucket)
		}
	}
}

func total(counts []int) (sum int) {
	for _, n := range counts {
		sum += n
	}
	return sum
}

// wire is an interface of a namespace of its own, with an end to send into.
type wire struct{ far, index int }

// nearMAC is that of the interface.
func nearMAC() []byte { return []byte{2, 0, 0, 0, 0, 1} }

func newWire(t *testing.T) *wire {
	t.Helper()
	runtime.LockOSThread() // never given back
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "near", HardwareAddr: nearMAC()}, PeerName: "far"}); err != nil {
		t.Fatal(err)
	}
	w := &wire{}
	for _, name := range []string{"near", "far"} {
		l, err := netlink.LinkByName(name)
		if err == nil {
			err = netlink.LinkSetUp(l)
		}
		if err != nil {
			t.Fatal(err)
		}
		w.index = l.Attrs().Index
	}
	for deadline := time.Now().Add(5 * time.Second); ; runtime.Gosched() {
		if l, err := netlink.LinkByName("near"); err != nil || time.Now().After(deadline) {
			t.Fatalf("no carrier: %v", err)
		} else if l.Attrs().OperState == netlink.OperUp {
			break
		}
	}
	if w.far, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(w.far) })
	return w
}

func (w *wire) send(t *testing.T, frame []byte) {
	t.Helper()
	if err := unix.Sendto(w.far, frame, 0, &unix.SockaddrLinklayer{Ifindex: w.index}); err != nil {
		t.Fatal(err)
	}
}

// clientFrame is a datagram of a client that could be anybody.
func clientFrame(r *rand.Rand, family string) (netip.Addr, []byte) {
	datagram := []byte{0, 99, 0, 53, 0, 8, 0, 0}
	ethernet := append(nearMAC(), 2, 0, 0, 0, 0, 2)
	if family == "IPv4" {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], r.Uint32())
		b[0] = 11 + b[0]%100 // neither loopback nor a group
		ip := append([]byte{0x45, 0, 0, 28, 0, 0, 0, 0, 64, unix.IPPROTO_UDP, 0, 0}, append(b[:], netip.MustParseAddr(sharedAddr).AsSlice()...)...)
		sealHeader(ip)
		return netip.AddrFrom4(b), slices.Concat(ethernet, []byte{8, 0}, ip, datagram)
	}
	var b [16]byte
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	b[0] = 0x20 | b[0]&0x1f // 2000::/3
	dst := netip.MustParseAddr(sharedAddr6).As16()
	datagram = datagram6(b, dst, datagram)
	ip := slices.Concat([]byte{0x60, 0, 0, 0, 0, 8, unix.IPPROTO_UDP, 64}, b[:], dst[:])
	return netip.AddrFrom16(b), slices.Concat(ethernet, []byte{0x86, 0xdd}, ip, datagram)
}

// datagram6 makes a datagram's checksum right, without which connection tracking does
// not count it (RFC 8200 §8.1).
func datagram6(src, dst [16]byte, b []byte) []byte {
	sum := uint32(len(b)) + unix.IPPROTO_UDP
	for _, part := range [][]byte{src[:], dst[:], b} {
		for i := 0; i < len(part); i += 2 {
			sum += uint32(part[i])<<8 | uint32(part[i+1])
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	out := slices.Clone(b)
	binary.BigEndian.PutUint16(out[6:], ^uint16(sum))
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

// run runs a tool in this thread's namespace. One that the kernel does not have the
// module for is a reason to skip.
func run(t *testing.T, input string, args ...string) string {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Skipf("%v: %v: %s", args, err, out)
	}
	return string(out)
}

// xtRules are those of iptables -m cluster, a rule for each local node.
func xtRules(family string) kernelRules {
	tool, to := "iptables", sharedAddr
	if family == "IPv6" {
		tool, to = "ip6tables", sharedAddr6
	}
	counted := regexp.MustCompile(`(?m)^ *(\d+) +\d+ .* cluster `)
	return kernelRules{
		tool: tool,
		make: func(t *testing.T, c *Compatible) {
			for n := range c.Nodes {
				run(t, "", tool, "-t", "mangle", "-A", "PREROUTING", "-i", "near", "-d", to, "-m", "cluster", "--cluster-total-nodes", fmt.Sprint(c.Nodes),
					"--cluster-local-node", fmt.Sprint(n+1), "--cluster-hash-seed", fmt.Sprint(c.Seed))
			}
		},
		counts: func(t *testing.T) []int {
			return numbers(counted, run(t, "", tool, "-t", "mangle", "-L", "PREROUTING", "-v", "-x", "-n"))
		},
	}
}

// nftRules are those of nft's jhash.
func nftRules(family string) kernelRules {
	word, to := "ip", sharedAddr
	if family == "IPv6" {
		word, to = "ip6", sharedAddr6
	}
	counted := regexp.MustCompile(`jhash .* counter packets (\d+)`)
	return kernelRules{
		tool: "nft",
		make: func(t *testing.T, c *Compatible) {
			text := fmt.Sprintf("table %s share {\nchain pre { type filter hook prerouting priority -150;\n", word)
			for n := range c.Nodes {
				text += fmt.Sprintf("iifname near %s daddr %s jhash %s saddr mod %d seed %d == %d counter\n", word, to, word, c.Nodes, c.Seed, n)
			}
			run(t, text+"}\n}\n", "nft", "-f", "-")
		},
		counts: func(t *testing.T) []int { return numbers(counted, run(t, "", "nft", "list", "table", word, "share")) },
	}
}

// numbers are what a pattern finds in each line.
func numbers(pattern *regexp.Regexp, text string) (out []int) {
	for _, m := range pattern.FindAllStringSubmatch(text, -1) {
		n, _ := strconv.Atoi(m[1])
		out = append(out, n)
	}
	return out
}
