package lab

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"onevoice/internal/pcap"
	"onevoice/link"
)

// testLAN builds a LAN without daemons and a sniffer on it.
func testLAN(t *testing.T, spec Spec, capture io.Writer) (*LAN, *Sniffer) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for network namespaces (CAP_SYS_ADMIN) and packet sockets (CAP_NET_RAW)")
	}
	l, err := BuildLAN(spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	s, err := NewSniffer(l, capture)
	if err != nil {
		t.Fatal(err)
	}
	return l, s
}

func verdict(t *testing.T, s *Sniffer) *Verdict {
	t.Helper()
	v, err := s.Verdict()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// takeVIP gives the VIP to a host's kernel, which then answers for it as no
// node may: with its own MAC.
func takeVIP(t *testing.T, h *Host) {
	t.Helper()
	err := h.Do(func() error {
		dev, err := netlink.LinkByName(hostDevice)
		if err != nil {
			return err
		}
		return netlink.AddrAdd(dev, &netlink.Addr{IPNet: &net.IPNet{IP: VIP().AsSlice(), Mask: net.CIDRMask(32, 32)}})
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A kernel with the VIP stands in for a node. The sniffer loses nothing of a
// bulk transfer, partial checksums and super-frames are no breach, and the wrong
// MAC is.
func TestSnifferOnKernel(t *testing.T) {
	for _, kind := range []Kind{Switch, Hub} {
		t.Run(string(kind), func(t *testing.T) {
			var file bytes.Buffer
			l, s := testLAN(t, Spec{Nodes: 2, Clients: 1, Addresses: 1, LAN: kind}, &file)
			takeVIP(t, l.Nodes()[0])
			const size = 64 << 20
			transfer(t, l, size)
			v := verdict(t, s)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if v.Lost != 0 || v.Counts.Handshakes != 1 || v.Counts.SYNs != 1 || v.Nodes["n1"].SYNACKs != 1 {
				t.Errorf("lost %d, %+v", v.Lost, v)
			}
			if v.Counts.Bytes < size {
				t.Errorf("%d bytes seen of %d", v.Counts.Bytes, size)
			}
			if len(v.Rules) != 1 || v.Rules[RuleClaim] != int(v.Nodes["n1"].ARPReplies) || v.Rules[RuleClaim] == 0 {
				t.Errorf("rules broken %v, want one %s for each of %d ARP answers\n%v", v.Rules, RuleClaim, v.Nodes["n1"].ARPReplies, v.Breaches)
			}
			if got := pcapFrames(t, file.Bytes()); got != v.Counts.Frames {
				t.Errorf("%d frames in the file, %d judged", got, v.Counts.Frames)
			}
		})
	}
}

// transfer sends bytes from the client to port 22 of the VIP.
func transfer(t *testing.T, l *LAN, size int) {
	t.Helper()
	var listener net.Listener
	err := l.Nodes()[0].Do(func() (err error) { listener, err = net.Listen("tcp4", "10.77.0.2:22"); return err })
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	sent := make(chan error, 1)
	go func() {
		var c net.Conn
		err := l.Clients()[0].Do(func() (err error) { c, err = net.Dial("tcp4", "10.77.0.2:22"); return err })
		if err == nil {
			_, err = c.Write(make([]byte, size))
			err = errors.Join(err, c.Close())
		}
		sent <- err
	}()
	c, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if n, err := io.Copy(io.Discard, c); err != nil || n != int64(size) {
		t.Errorf("%d bytes received: %v", n, err)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
}

// pcapFrames counts the frames of a pcap file.
func pcapFrames(t *testing.T, b []byte) (n uint64) {
	t.Helper()
	r, err := pcap.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	for {
		switch _, err := r.Next(); {
		case err == io.EOF:
			return n
		case err != nil:
			t.Fatal(err)
		}
		n++
	}
}

// Two kernels with the VIP answer one question: as on the wire, so in the
// verdict.
func TestSnifferTwoKernels(t *testing.T) {
	l, s := testLAN(t, Spec{Nodes: 2, Clients: 1, Addresses: 1, LAN: Switch}, nil)
	defer s.Close()
	for _, h := range l.Nodes() {
		takeVIP(t, h)
	}
	client := l.Clients()[0]
	answers, err := ProbeARP(client)
	if err != nil {
		t.Fatal(err)
	}
	if answers[client.Addrs[0]] != 2 {
		t.Fatalf("%v answers, want 2 to %s", answers, client.Addrs[0])
	}
	v := verdict(t, s)
	if v.Rules[RuleAnswerTwice] != 1 || v.Rules[RuleClaim] != 2 {
		t.Errorf("rules broken %v", v.Rules)
	}
	err = s.Ask(func(j *Judge) {
		if a := j.ARPAnswers(client.Addrs[0]); a.Asked != 1 || a.Answered != 1 {
			t.Errorf("the judge says %+v", a)
		}
	})
	if err != nil {
		t.Error(err)
	}
}

// However fast the answers come, the sniffer has the question first.
func TestSnifferKeepsTheOrderOfCauses(t *testing.T) {
	l, s := testLAN(t, Spec{Nodes: 1, Clients: 1, Addresses: 1, LAN: Switch}, nil)
	defer s.Close()
	const rounds = 2000
	node, client := l.Nodes()[0], l.Clients()[0]
	questions, answers := openDevice(t, client), openDevice(t, node)
	answered := make(chan error, 1)
	go func() { answered <- answerARP(answers, node, rounds) }()
	for i := range rounds {
		// Each has another asker, so that no answer fits another question.
		asker := netip.AddrFrom4([4]byte{10, 78, byte(i >> 8), byte(i)})
		if err := questions.Send([]link.Vector{{Pieces: [][]byte{arpQuestion(client.MAC, asker)}}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-answered; err != nil {
		t.Fatal(err)
	}
	v := verdict(t, s)
	if !v.Held() || v.Counts.ARPRequests != rounds || v.Nodes["n1"].ARPReplies != rounds {
		t.Errorf("%v: %+v, n1 %+v", v.Err(), v.Counts, v.Nodes["n1"])
	}
}

func openDevice(t *testing.T, h *Host) *link.Packet {
	t.Helper()
	var d *link.Packet
	err := h.Do(func() (err error) {
		d, err = link.Open(hostDevice, &link.Filter{Addresses: h.Addrs, Groups: []net.HardwareAddr{ClusterMAC()}})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// answerARP answers so many requests as a node should.
func answerARP(d *link.Packet, node *Host, count int) error {
	frames := make([]link.Frame, link.MaxBatch)
	for count > 0 {
		if _, err := unix.Poll([]unix.PollFd{{Fd: int32(d.FD()), Events: unix.POLLIN}}, -1); err != nil && err != unix.EINTR {
			return err
		}
		n, err := d.Receive(frames)
		if err != nil {
			return err
		}
		for _, f := range frames[:n] {
			if len(f.Data) < 42 || f.Data[12] != 8 || f.Data[13] != 6 || f.Data[21] != 1 || [4]byte(f.Data[38:]) != VIP().As4() {
				continue
			}
			reply := append([]byte{}, f.Data[6:12]...)
			reply = append(append(reply, node.MAC...), 8, 6, 0, 1, 8, 0, 6, 4, 0, 2)
			reply = append(append(reply, ClusterMAC()...), VIP().AsSlice()...)
			reply = append(reply, f.Data[22:32]...)
			if err := d.Send([]link.Vector{{Pieces: [][]byte{reply}}}); err != nil {
				return err
			}
			count--
		}
	}
	return nil
}

// A sniffer that is closed says so.
func TestSnifferClosed(t *testing.T) {
	_, s := testLAN(t, Spec{Nodes: 1, Clients: 1, Addresses: 1, LAN: Hub}, nil)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Verdict(); err == nil {
		t.Error("a closed sniffer gives a verdict")
	}
}

// What does not fit into the ring is counted as lost, and what fits is not.
func TestRingIsFull(t *testing.T) {
	l, s := testLAN(t, Spec{Nodes: 1, Clients: 1, Addresses: 1, LAN: Switch}, nil)
	defer s.Close()
	client := l.Clients()[0]
	var r *ring
	if err := l.ns.Do(func() (err error) { r, err = openRing([]int{client.Port}); return err }); err != nil {
		t.Fatal(err)
	}
	defer r.close()
	d := openDevice(t, client)
	const extra = 64
	batch := make([]link.Vector, link.MaxBatch)
	for i := range batch {
		batch[i].Pieces = [][]byte{arpQuestion(client.MAC, client.Addrs[0])}
	}
	for range (ringSlots + extra) / len(batch) {
		if err := d.Send(batch); err != nil {
			t.Fatal(err)
		}
	}
	// The other sniffer on this LAN has seen all of it once it answers, so this
	// ring has, too.
	if v := verdict(t, s); v.Lost != 0 || v.Counts.ARPRequests != ringSlots+extra {
		t.Errorf("the sniffer that reads saw %d and lost %d", v.Counts.ARPRequests, v.Lost)
	}
	if lost := r.dropped(); lost != extra {
		t.Errorf("%d lost, want %d", lost, extra)
	}
	n := 0
	for c := (Capture{}); ; n++ {
		_, port, ok := r.next(&c)
		if !ok {
			break
		}
		if port != client.Port || len(c.Data) != 42 || c.Bytes != 42 {
			t.Fatalf("port %d, %d of %d bytes", port, len(c.Data), c.Bytes)
		}
		r.release()
	}
	if n != ringSlots {
		t.Errorf("%d in the ring, want %d", n, ringSlots)
	}
}
