package lab

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"onevoice/link"
)

// badFrame is a frame that deserves no answer.
type badFrame struct {
	name string
	// verdict is what every node has to count it as.
	verdict string
	frame   []byte
}

// Offsets in the frames that the bad ones are made from: an Ethernet header of
// 14 bytes, an IPv4 header of 20, and the transport.
const (
	atIP        = 14
	atTransport = 34
)

// badFrames are one or more for each way in which a frame can be bad. All come
// from mac and, where the address is not what is bad, from an address that
// nobody has.
func badFrames(cluster, mac net.HardwareAddr, from netip.Addr) []badFrame {
	eth := append(append(append([]byte{}, cluster...), mac...), 0x08, 0x00)
	// packet is a whole frame; options make the IPv4 header longer.
	packet := func(proto byte, options, body []byte) []byte {
		h := make([]byte, 20, 20+len(options))
		h[0], h[8], h[9] = 0x45+byte(len(options)/4), 64, proto
		copy(h[12:], from.AsSlice())
		copy(h[16:], VIP().AsSlice())
		h = append(h, options...)
		binary.BigEndian.PutUint16(h[2:], uint16(len(h)+len(body)))
		return slices.Concat(eth, h, body)
	}
	segment := func(flags byte, options ...byte) []byte {
		t := make([]byte, 20)
		binary.BigEndian.PutUint16(t, 50000)
		binary.BigEndian.PutUint16(t[2:], 22)
		t[12], t[13] = byte(20+len(options))<<2, flags
		return packet(protoTCP, nil, append(t, options...))
	}
	const syn = tcpSYN
	echo := packet(protoICMP, nil, []byte{8, 0, 0, 0, 0, 1, 0, 1})
	datagram := packet(protoUDP, nil, []byte{0, 99, 0, 53, 0, 8, 0, 0})
	arp := func(at int, b byte) []byte { return change(arpQuestion(mac, from), at, b) }
	option := func(o ...byte) []byte { return packet(protoTCP, o, segment(syn)[atTransport:]) }
	return []badFrame{
		{"an IPv6 header where IPv4 is announced", "bad-ip-version", seal(change(segment(syn), atIP, 0x65))},
		{"an IPv4 header of 16 bytes", "bad-ip-header-length", change(segment(syn), atIP, 0x44)},
		{"more bytes announced than there are", "bad-ip-length", seal(change(segment(syn), atIP+2, 1))},
		{"a wrong IPv4 checksum", "bad-ip-checksum", change(seal(segment(syn)), atIP+10, 0)},
		{"an IPv4 option that overruns", "bad-ip-options", seal(option(7, 40, 4, 0))},
		{"a source route", "source-route", seal(option(131, 3, 4, 1))},
		{"a loopback source", "martian-source", seal(change(segment(syn), atIP+12, 127))},
		{"a ping from the LAN's broadcast", "martian-source", seal(change(echo, atIP+15, 255))},
		{"a first fragment", "fragment", seal(change(segment(syn), atIP+6, 0x20))},
		{"a later fragment", "fragment-held", seal(change(segment(syn), atIP+7, 0x20))},
		{"half a TCP header", "runt", seal(packet(protoTCP, nil, segment(syn)[atTransport:atTransport+8]))},
		{"a TCP header of 16 bytes", "bad-tcp-offset", seal(change(segment(syn), atTransport+12, 0x40))},
		{"a TCP header beyond the segment", "bad-tcp-offset", seal(change(segment(syn), atTransport+12, 0xf0))},
		{"a TCP option that overruns", "bad-tcp-options", seal(segment(syn, 2, 40, 5, 180))},
		{"SYN with FIN", "bad-tcp-flags", seal(segment(syn | tcpFIN))},
		{"no TCP flags at all", "bad-tcp-flags", seal(segment(0))},
		{"port 0", "bad-tcp-port", seal(change(change(segment(syn), atTransport, 0), atTransport+1, 0))},
		{"a wrong TCP checksum", "bad-tcp-checksum", change(seal(segment(syn)), atTransport+4, 1)},
		{"a UDP length of 4", "bad-udp", seal(change(datagram, atTransport+5, 4))},
		{"an unknown protocol", "no-service", seal(packet(99, nil, make([]byte, 8)))},
		{"a wrong ICMP checksum", "bad-icmp", change(seal(echo), atTransport+7, 9)},
		{"an ICMP redirect", "other-icmp", seal(change(echo, atTransport, 5))},
		{"an ICMP error about a flow of nobody", "unknown-quote",
			seal(packet(protoICMP, nil, append([]byte{3, 1, 0, 0, 0, 0, 0, 0}, quote(from)...)))},
		{"ARP for another kind of hardware", "bad-arp", arp(15, 6)},
		{"ARP with addresses of 8 bytes", "bad-arp", arp(18, 8)},
		{"ARP that is neither request nor reply", "bad-arp", arp(21, 9)},
		{"ARP from a group MAC", "bad-arp", arp(22, 3)},
		{"half an ARP packet", "bad-arp", arpQuestion(mac, from)[:28]},
		{"a VLAN tag", "vlan-tag", slices.Concat(eth[:12], []byte{0x81, 0, 0, 7}, seal(segment(syn))[12:])},
	}
}

// change is a copy of a frame with one byte changed.
func change(frame []byte, at int, b byte) []byte {
	frame = slices.Clone(frame)
	frame[at] = b
	return frame
}

// quote is the beginning of a packet that a node never sent.
func quote(to netip.Addr) []byte {
	b := make([]byte, 28)
	b[0], b[9] = 0x45, protoTCP
	copy(b[12:], VIP().AsSlice())
	copy(b[16:], to.AsSlice())
	b[21], b[22], b[23] = 22, 0xc3, 0x50
	return b
}

// seal computes the checksums of a frame anew, as far as it has the fields.
func seal(frame []byte) []byte {
	b := slices.Clone(frame)
	h := atIP + int(b[atIP]&0xf)*4
	if h < atTransport || h > len(b) {
		return b
	}
	put := func(at int, sum uint16) { binary.BigEndian.PutUint16(b[at:], ^sum) }
	b[atIP+10], b[atIP+11] = 0, 0
	put(atIP+10, foldedSum(0, b[atIP:h]))
	switch body := b[h:]; {
	case b[atIP+9] == protoTCP && len(body) >= 20:
		p := packet{Sight: Sight{Src: Endpoint{addr: [4]byte(b[atIP+12:])}, Dst: Endpoint{addr: [4]byte(b[atIP+16:])}}}
		body[16], body[17] = 0, 0
		put(h+16, foldedSum(p.pseudoSum(len(body)), body))
	case b[atIP+9] == protoICMP:
		body[2], body[3] = 0, 0
		put(h+2, foldedSum(0, body))
	}
	return b
}

// nobody is an address of the LAN that no host has.
func nobody() netip.Addr { return address(250) }

// nonsense sends frames that deserve no answer, looks that none comes, and that
// every node has counted each for what it was, or dropped it in the kernel as
// another's where that cannot be seen there.
func nonsense(ctx context.Context, n *narrator, w *watched) error {
	client := w.LAN.Clients()[0]
	bad := badFrames(client.cluster, client.MAC, nobody())
	n.title("%s sends %d frames that deserve no answer", client.Name, len(bad))
	want := map[string]uint64{}
	var frames [][]byte
	for _, f := range bad {
		want[f.verdict]++
		frames = append(frames, f.frame)
	}
	before, err := w.verdicts(ctx)
	if err != nil {
		return err
	}
	answers, err := sendAndListen(client, frames)
	if err != nil {
		return err
	}
	n.claim(answers == 0, "none got one (%d answers)", answers)
	for _, d := range w.Daemons {
		missing, err := w.counted(ctx, d, before[d.Host.Name], want)
		if err != nil {
			return err
		}
		n.claim(len(missing) == 0, "%s has counted them all under %d names", d.Host.Name, len(want))
		for _, m := range missing {
			n.say("%s", m)
		}
	}
	return nil
}

// sendAndListen sends frames from a client and counts what the VIP sends to
// nobody's address.
func sendAndListen(h *Host, frames [][]byte) (answers int, err error) {
	toNobody := func(f []byte) (netip.Addr, bool) {
		if len(f) < atTransport {
			return netip.Addr{}, false
		}
		at := atIP + 12
		if binary.BigEndian.Uint16(f[12:]) == etherTypeARP {
			at = atIP + 14
		}
		return nobody(), netip.AddrFrom4([4]byte(f[at:at+4])) == VIP()
	}
	got, err := ask(h, &link.Filter{Addresses: []netip.Addr{nobody()}}, frames, 0, toNobody)
	return got[nobody()], err
}

// countTime bounds how long a node may take to count what it has heard.
const countTime = 2 * time.Second

// countsHeartbeats is the verdict that the cluster's own heartbeats get, which
// come all the time.
const countsHeartbeats = "no-service"

// filtered is the name among the verdicts of the frames for other nodes that the
// kernel dropped before they got one.
const filtered = "dropped in the kernel"

// unseen are the verdicts on frames that are only found bad when the whole segment is
// looked at, which the kernel does not do before it drops those for other nodes.
func unseen(verdict string) bool {
	return verdict == "bad-tcp-options" || verdict == "bad-tcp-checksum"
}

// counted waits until a daemon's verdicts have grown by what is wanted, and
// names those that have not, or by more.
func (w *watched) counted(ctx context.Context, d *Daemon, before, want map[string]uint64) (missing []string, err error) {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for began := time.Now(); ; {
		after, err := d.verdicts(ctx)
		if err != nil {
			return nil, err
		}
		missing = nil
		dropped := after[filtered] - before[filtered]
		for _, name := range slices.Sorted(maps.Keys(want)) {
			got := after[name] - before[name]
			if name == countsHeartbeats {
				got = min(got, want[name])
			}
			if lacks := want[name] - got; unseen(name) && got < want[name] && lacks <= dropped {
				dropped -= lacks
				continue
			}
			if got != want[name] {
				missing = append(missing, fmt.Sprintf("%s: %d instead of %d", name, got, want[name]))
			}
		}
		if len(missing) == 0 || time.Since(began) > countTime {
			return missing, nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// verdicts asks all daemons for their counters.
func (w *watched) verdicts(ctx context.Context) (map[string]map[string]uint64, error) {
	out := map[string]map[string]uint64{}
	for _, d := range w.Daemons {
		v, err := d.verdicts(ctx)
		if err != nil {
			return nil, err
		}
		out[d.Host.Name] = v
	}
	return out, nil
}

func (d *Daemon) verdicts(ctx context.Context) (map[string]uint64, error) {
	var s struct {
		Verdicts map[string]uint64 `json:"verdicts"`
		Filtered struct {
			Foreign uint64 `json:"by_socket_filter"`
		} `json:"filtered"`
	}
	if err := d.Ask(ctx, &s); err != nil {
		return nil, err
	}
	s.Verdicts[filtered] = s.Filtered.Foreign
	return s.Verdicts, nil
}

// Ask runs `onevoice status --json` with further flags, as a person would, and
// reads what it says.
func (d *Daemon) Ask(ctx context.Context, into any, flags ...string) error {
	argv := append([]string{"status", "--json", "--socket", d.Socket()}, flags...)
	text, err := exec.CommandContext(ctx, filepath.Join(RunDir, "bin", "onevoice"), argv...).Output()
	if err != nil {
		return fmt.Errorf("status of %s: %w", d.Host.Name, err)
	}
	return json.Unmarshal(text, into)
}
