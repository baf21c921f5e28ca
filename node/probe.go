package node

import (
	"net/netip"
	"time"

	"onevoice/responder"
)

// A gateway that does not believe where the VIPs are shows that only when it has
// something for them, which is when a user waits. So the node that answers it pings
// it once from a VIP: it has to find out where to answer to.
const (
	// probes is how many pings there are, and probeInterval the time between two:
	// enough questions for doubtTimes, where a resolver asks three times for each.
	probes        = 3
	probeInterval = 6 * time.Second
	// probeID tells these pings from others in a capture.
	probeID = 0x6f76
)

// gatewayProbe is how far this has come.
type gatewayProbe struct {
	gateway netip.Addr
	vip     int
	next    time.Duration
	sent    int
}

// newGatewayProbe pings from the first VIP of IPv4.
func newGatewayProbe(cfg *Config) (p gatewayProbe) {
	for i := range cfg.VIPs {
		if cfg.ProbeGateway && cfg.Gateway.Is4() && cfg.VIPs[i].Addr.Is4() {
			return gatewayProbe{gateway: cfg.Gateway, vip: i}
		}
	}
	return p
}

// probeGateway calls send for the ping that is due now, or for the question where the
// gateway is. The frame is send's.
func (n *Node) probeGateway(now time.Duration, send func(vip int, frame []byte)) {
	p := &n.probe
	if !p.gateway.IsValid() || p.sent == probes || now < p.next {
		return
	}
	p.next = now + time.Second
	// No frame asks.
	n.stamp = 0
	if n.answersFor(now, p.vip, p.gateway) != Undecided {
		return
	}
	var header [ethernetBytes]byte
	if !n.Address(now, p.gateway, header[:]) {
		if ask := n.Ask(now, p.gateway); ask != nil {
			send(p.vip, ask)
		}
		return
	}
	p.next = now + probeInterval
	p.sent++
	send(p.vip, responder.EchoRequest(n.own, responder.MAC(header[:6]), n.vips[p.vip].Addr, p.gateway, probeID, uint16(p.sent)))
}
