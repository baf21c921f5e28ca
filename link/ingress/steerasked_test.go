package ingress

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A SYN-ACK that the kernel repeats after the right to answer has gone and come back stays,
// for another node may have answered the same SYN, until the client asks again.
func TestTheKernelRepeatsNoSYNACKOfBefore(t *testing.T) {
	for name, back := range map[string]func(t *testing.T, d *Direct) error{
		"the bucket": func(t *testing.T, d *Direct) error {
			rows := ownedSince(bootNow(t))
			return errors.Join(d.Publish(make([]DirectRow, 2)), d.Settle(), d.Publish(rows), d.Settle())
		},
		"the lease": func(t *testing.T, d *Direct) error {
			d.SetLease(0, 0, 0)
			d.SetLease(0, bootNow(t), 1<<62)
			return nil
		},
	} {
		for _, family := range []string{"4", "6"} {
			t.Run(name+", IPv"+family, func(t *testing.T) {
				t.Parallel()
				w := newListener(t, family)
				d := direct(t, directConfig())
				if _, err := d.Attach("near", ""); err != nil {
					t.Fatal(err)
				}
				d.SetLease(0, 0, 1<<62)
				if err := errors.Join(d.Publish(ownedSince(bootNow(t))), d.Settle()); err != nil {
					t.Fatal(err)
				}
				w.send(w.opens)
				w.answered("a SYN")
				w.answered("it is repeated")
				if err := back(t, d); err != nil {
					t.Fatal(err)
				}
				// The kernel repeats it two seconds after the last time, and then after four.
				for deadline := time.Now().Add(5 * time.Second); d.Rulings()[KeptSYNACK] == 0; {
					if w.hearsSYNACK(100 * time.Millisecond) {
						t.Fatal("a SYN-ACK of before")
					}
					if time.Now().After(deadline) {
						t.Fatal("the kernel does not repeat its SYN-ACK")
					}
				}
				w.send(w.opens)
				w.answered("the SYN again")
			})
		}
	}
}

// Of more SYNs than are remembered each is answered at once.
func TestSYNsBeyondThoseRemembered(t *testing.T) {
	_, a := newRight(t)
	at := netip.AddrPortFrom(vip, 22)
	for i := range 3 * maxAsked {
		src := netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)}), 40000)
		in, err := a.In(segment(src, at, syn, 0))
		if err != nil || in != PassSYN {
			t.Fatalf("SYN %d: %v, %v", i, in, err)
		}
		answer := segment(at, src, syn|ack, 0)
		copy(answer, client)
		copy(answer[6:], own)
		binary.BigEndian.PutUint32(answer[ethernetBytes+ipv4Bytes+8:], 1)
		if out, err := a.Out(answer); err != nil || out != Elsewhere {
			t.Fatalf("the answer to SYN %d: %v, %v", i, out, err)
		}
		if i > 0 {
			continue
		}
		another := edit(answer, ethernetBytes+ipv4Bytes+11, 2)
		if out, err := a.Out(another); err != nil || out != KeptSYNACK {
			t.Fatalf("an answer to another SYN of the same port: %v, %v", out, err)
		}
		copy(answer[ethernetBytes+16:], []byte{198, 51, 100, 7})
		if out, err := a.Out(answer); err != nil || out != KeptSYNACK {
			t.Fatalf("an answer to nobody: %v, %v", out, err)
		}
	}
}

// A place that two processors wrote at once is nobody's.
func TestSYNsWrittenAtOnce(t *testing.T) {
	d, a := newRight(t)
	at, src := netip.AddrPortFrom(vip, 22), netip.MustParseAddrPort("198.51.100.7:40000")
	answer := segment(at, src, syn|ack, 0)
	copy(answer, client)
	copy(answer[6:], own)
	binary.BigEndian.PutUint32(answer[ethernetBytes+ipv4Bytes+8:], 1)
	answered := func() Ruling {
		out, err := a.Out(answer)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	if in, err := a.In(segment(src, at, syn, 0)); err != nil || in != PassSYN || answered() != Elsewhere {
		t.Fatalf("%v, %v, and %v", in, err, answered())
	}
	var place uint32
	var value, taken [askedBytes / 8]uint64
	for i := range uint32(maxAsked) {
		if err := d.asked.Lookup(i, &value); err != nil {
			t.Fatal(err)
		}
		if value[0] != 0 {
			place, taken = i, value
		}
	}
	for word := range taken {
		mixed := taken
		mixed[word] += uint64(time.Millisecond)
		if err := d.asked.Put(place, &mixed); err != nil {
			t.Fatal(err)
		}
		if got := answered(); got != KeptSYNACK {
			t.Errorf("with another word %d of the place: %v", word, got)
		}
	}
	if err := d.asked.Put(place, &taken); err != nil || answered() != Elsewhere {
		t.Errorf("%v, and with the place as it was %v", err, answered())
	}
}

// newRight is the programs of a node whose right to all buckets begins now, and their twins.
func newRight(t *testing.T) (*Direct, *Asked) {
	t.Helper()
	d := direct(t, directConfig())
	a, err := d.Ask()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	now := bootNow(t)
	d.SetLease(0, now, 1<<62)
	if err := d.Publish(ownedSince(now)); err != nil {
		t.Fatal(err)
	}
	return d, a
}

// bootNow is CLOCK_BOOTTIME.
func bootNow(t testing.TB) time.Duration {
	t.Helper()
	var at unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &at); err != nil {
		t.Fatal(err)
	}
	return time.Duration(at.Nano())
}

// ownedSince are rows of a node that owns everything since a time.
func ownedSince(since time.Duration) []DirectRow {
	r := DirectRow{Owned: not([4]uint64{}), Settled: not([4]uint64{})}
	for b := range r.Since {
		r.Since[b] = since
	}
	return []DirectRow{r, r}
}

// listener is a wire with a program behind its near end that listens on a VIP.
type listener struct {
	*wire
	heard int
	opens []byte
}

func newListener(t *testing.T, family string) *listener {
	t.Helper()
	w := newWire(t)
	at, src, bits := netip.AddrPortFrom(vip, 22), netip.MustParseAddrPort("198.51.100.7:40000"), 32
	if family == "6" {
		at, src, bits = netip.AddrPortFrom(vip6, 22), netip.MustParseAddrPort("[2001:db8:1::7]:40000"), 128
	}
	near, err := netlink.LinkByName("near")
	if err != nil {
		t.Fatal(err)
	}
	index, to := near.Attrs().Index, &net.IPNet{IP: src.Addr().AsSlice(), Mask: net.CIDRMask(bits, bits)}
	err = errors.Join(
		netlink.AddrAdd(near, &netlink.Addr{IPNet: &net.IPNet{IP: at.Addr().AsSlice(), Mask: to.Mask}, Flags: unix.IFA_F_NODAD}),
		netlink.RouteAdd(&netlink.Route{LinkIndex: index, Dst: to, Scope: netlink.SCOPE_LINK}),
		netlink.NeighAdd(&netlink.Neigh{LinkIndex: index, IP: to.IP, HardwareAddr: client, State: unix.NUD_PERMANENT}),
	)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return &listener{w, packetSocket(t, "far", unix.ETH_P_ALL), summed(segment(src, at, syn, 0))}
}

func (l *listener) send(frame []byte) {
	l.t.Helper()
	if err := unix.Send(l.far, frame, 0); err != nil {
		l.t.Fatal(err)
	}
}

// answered waits for a SYN-ACK.
func (l *listener) answered(what string) {
	l.t.Helper()
	if !l.hearsSYNACK(5 * time.Second) {
		l.t.Fatalf("%s: no SYN-ACK", what)
	}
}

// hearsSYNACK reports whether a SYN-ACK leaves within a time.
func (l *listener) hearsSYNACK(within time.Duration) bool {
	l.t.Helper()
	buf := make([]byte, 4096)
	for until := time.Now().Add(within); ; {
		left := time.Until(until)
		if left <= 0 {
			return false
		}
		timeout := unix.NsecToTimeval(int64(max(left, time.Millisecond)))
		if err := unix.SetsockoptTimeval(l.heard, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
			l.t.Fatal(err)
		}
		n, _, err := unix.Recvfrom(l.heard, buf, 0)
		switch {
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			l.t.Fatal(err)
		}
		at := ethernetBytes + ipv4Bytes
		if binary.BigEndian.Uint16(buf[12:]) == typeIPv6 {
			at = ethernetBytes + ipv6Bytes
		}
		if n >= at+tcpBytes && string(buf[6:12]) == string(own) && buf[at+13] == syn|ack {
			return true
		}
	}
}

// summed makes a segment's checksum right (RFC 9293 section 3.1).
func summed(frame []byte) []byte {
	from, at := ethernetBytes+12, ethernetBytes+ipv4Bytes
	if binary.BigEndian.Uint16(frame[12:]) == typeIPv6 {
		from, at = ethernetBytes+8, ethernetBytes+ipv6Bytes
	}
	sum := uint32(protoTCP + len(frame) - at)
	for i := from; i < len(frame); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(frame[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(frame[at+16:], ^uint16(sum))
	return frame
}
