package sim

import (
	"net/netip"
	"slices"
)

// receiveARP is RFC 826's Packet Reception, with what the router does not believe
// taken out.
func (l *leg) receiveARP(frame []byte, a arpPacket) {
	known := l.neighbours[a.sender]
	forUs := l.own(a.target)
	if (forUs || known != nil) && a.sender.IsValid() && !a.sender.IsUnspecified() && l.Address.Contains(a.sender) && l.believes(frame, a) {
		n := l.neighbour(a.sender)
		if !n.static {
			l.learn(n, a.senderMAC)
		}
	}
	if a.operation == arpRequest && forUs {
		mac := l.MAC
		if l.group != nil && a.target == l.group.Address {
			mac = l.group.mac // RFC 5798 §8.1.2; RFC 2281 §5.2
		}
		r := arpPacket{operation: arpReply, senderMAC: mac, sender: a.target, targetMAC: a.senderMAC, target: a.sender}
		l.port.Send(r.frame(a.senderMAC, mac))
	}
}

// believes says whether an ARP packet may teach the router something.
func (l *leg) believes(frame []byte, a arpPacket) bool {
	r := l.r
	switch {
	case r.RefusesGroups && group(a.senderMAC):
		r.Counts.RefusedGroup++
		l.LAN.report(RefusedARP, r.Name, "it does not believe that %v is at the group address %s (RFC 1812, 3.3.2): enter it by hand in the router, or use a single MAC (mac_mode = \"unicast\")", a.sender, macText(a.senderMAC[:]))
	case r.ValidatesARP && !honestARP(frame):
		r.Counts.RefusedInvalid++
		l.LAN.report(RefusedARP, r.Name, "it does not believe that %v is at %s, for the frame that says so comes from %s: switch the validation of source MACs off for it, or enter it by hand", a.sender, macText(a.senderMAC[:]), macText(frame[6:]))
	default:
		return true
	}
	return false
}

// neighbour is the entry of an address, made if there is none. The oldest one that
// was not entered by hand makes room.
func (l *leg) neighbour(ip netip.Addr) *neighbour {
	if n := l.neighbours[ip]; n != nil {
		return n
	}
	if len(l.oldest) >= MaxNeighbours {
		i := slices.IndexFunc(l.oldest, func(ip netip.Addr) bool { return !l.neighbours[ip].static })
		if i >= 0 {
			old := l.neighbours[l.oldest[i]]
			old.asking.Stop()
			l.r.Counts.Unreachable += uint64(len(old.waiting))
			delete(l.neighbours, l.oldest[i])
			l.oldest = slices.Delete(l.oldest, i, i+1)
		}
	}
	n := &neighbour{}
	l.neighbours[ip] = n
	l.oldest = append(l.oldest, ip)
	return n
}

func (l *leg) learn(n *neighbour, mac MAC) {
	n.mac, n.known, n.learned, n.tries = mac, true, l.r.w.now, 0
	n.asking.Stop()
	waiting := n.waiting
	n.waiting = nil
	for _, f := range waiting {
		copy(f, mac[:])
		l.port.Send(f)
	}
}

// send sends a frame without a destination to an address on the leg's LAN, now or
// when its MAC is known.
func (l *leg) send(to netip.Addr, frame []byte) {
	if to == l.Address.Addr() {
		return
	}
	n := l.neighbour(to)
	if n.known && (n.static || l.r.w.now-n.learned < l.r.ARPLife) {
		copy(frame, n.mac[:])
		l.port.Send(frame)
		return
	}
	n.known = false
	if len(n.waiting) >= arpQueue {
		n.waiting = slices.Delete(n.waiting, 0, 1)
		l.r.Counts.Unreachable++
	}
	n.waiting = append(n.waiting, frame)
	if !n.asking.Pending() {
		n.tries = 0
		l.ask(to, n)
	}
}

// ask asks for an address, and again while nobody answers.
func (l *leg) ask(ip netip.Addr, n *neighbour) {
	if n.tries++; n.tries > arpTries {
		l.r.Counts.Unreachable += uint64(len(n.waiting))
		n.waiting = nil
		return
	}
	a := arpPacket{operation: arpRequest, senderMAC: l.MAC, sender: l.Address.Addr(), target: ip}
	l.port.Send(a.frame(broadcast(), l.MAC))
	n.asking = l.r.w.After(arpRetry, func() { l.ask(ip, n) })
}
