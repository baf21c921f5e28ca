package lab

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"onevoice/link"
)

// Answers are how many answers each address of a client got to its question.
type Answers map[netip.Addr]int

// probeTime bounds how long answers to a probe are counted, and quietTime is how
// long none may come before the counting ends.
const (
	probeTime = 2 * time.Second
	quietTime = 200 * time.Millisecond
)

// ProbeARP asks for the VIP from every address of a client and counts the
// answers that each gets.
func ProbeARP(h *Host) (Answers, error) {
	return probe(h, func(from netip.Addr) []byte { return arpQuestion(h.MAC, from) }, func(f []byte) (netip.Addr, bool) {
		// An ARP reply from the VIP, RFC 826.
		if binary.BigEndian.Uint16(f[12:]) != 0x0806 || len(f) < 42 || f[21] != 2 || netip.AddrFrom4([4]byte(f[28:32])) != VIP() {
			return netip.Addr{}, false
		}
		return netip.AddrFrom4([4]byte(f[38:42])), true
	})
}

// ProbeEcho pings the VIP from every address of a client and counts the
// answers that each gets.
func ProbeEcho(h *Host) (Answers, error) {
	return probe(h, func(from netip.Addr) []byte { return echoQuestion(h.cluster, h.MAC, from) }, func(f []byte) (netip.Addr, bool) {
		// An echo reply from the VIP, RFC 792.
		if binary.BigEndian.Uint16(f[12:]) != 0x0800 || len(f) < 42 || f[23] != 1 || f[34] != 0 || netip.AddrFrom4([4]byte(f[26:30])) != VIP() {
			return netip.Addr{}, false
		}
		return netip.AddrFrom4([4]byte(f[30:34])), true
	})
}

// probe sends a question from each address and counts the answers to each.
func probe(h *Host, question func(netip.Addr) []byte, answered func([]byte) (netip.Addr, bool)) (Answers, error) {
	var questions [][]byte
	for _, a := range h.Addrs {
		questions = append(questions, question(a))
	}
	got, err := ask(h, &link.Filter{Addresses: h.Addrs}, questions, len(h.Addrs), answered)
	if err != nil {
		return nil, err
	}
	for _, a := range h.Addrs {
		// Also those with no answer.
		got[a] += 0
	}
	return got, nil
}

// ask sends frames from a host and counts answers: until so many addresses have
// one, at most for probeTime, and then until none has come for quietTime.
// answered tells whom a frame answers, if it is an answer.
func ask(h *Host, filter *link.Filter, questions [][]byte, askers int, answered func([]byte) (netip.Addr, bool)) (answers Answers, err error) {
	var d *link.Packet
	err = h.Do(func() (err error) {
		d, err = link.Open(hostDevice, filter)
		return err
	})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	vectors := make([]link.Vector, len(questions))
	for i := range questions {
		vectors[i].Pieces = questions[i : i+1]
	}
	if err := d.Send(vectors); err != nil {
		return nil, err
	}
	answers = Answers{}
	frames := make([]link.Frame, link.MaxBatch)
	for deadline := time.Now().Add(probeTime); time.Now().Before(deadline); {
		wait := quietTime
		if len(answers) < askers {
			wait = time.Until(deadline)
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(d.FD()), Events: unix.POLLIN}}, int(wait/time.Millisecond))
		if err != nil && err != unix.EINTR {
			return nil, err
		}
		if n == 0 {
			break
		}
		got, err := d.Receive(frames)
		if err != nil {
			return nil, err
		}
		for _, f := range frames[:got] {
			if to, ok := answered(f.Data); ok {
				answers[to]++
			}
		}
	}
	return answers, nil
}

// arpQuestion asks who has the VIP.
func arpQuestion(mac net.HardwareAddr, from netip.Addr) []byte {
	b := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	b = append(append(b, mac...), 0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1)
	b = append(append(b, mac...), from.AsSlice()...)
	return append(append(b, 0, 0, 0, 0, 0, 0), VIP().AsSlice()...)
}

// echoQuestion is a ping to the VIP at the cluster MAC.
func echoQuestion(cluster, mac net.HardwareAddr, from netip.Addr) []byte {
	b := append(append(append([]byte{}, cluster...), mac...), 0x08, 0x00)
	ip := []byte{0x45, 0, 0, 36, 0, 0, 0x40, 0, 64, 1, 0, 0}
	ip = append(append(ip, from.AsSlice()...), VIP().AsSlice()...)
	binary.BigEndian.PutUint16(ip[10:], ^foldedSum(0, ip))
	icmp := []byte{8, 0, 0, 0, 0x6f, 0x76, 0, from.As4()[3], 'o', 'n', 'e', 'v', 'o', 'i', 'c', 'e'}
	binary.BigEndian.PutUint16(icmp[2:], ^foldedSum(0, icmp))
	return append(append(b, ip...), icmp...)
}
