package config

import (
	"fmt"
	"net/netip"
	"strings"
)

// MaxPorts bounds the ports of all TCP services together: each has a listener in every
// worker, of about 5 KiB, and one for this host's own connections.
const MaxPorts = 1024

// cutPorts takes the end of a range off an address with ports: "10.77.0.2:8000" and
// "8099" of "10.77.0.2:8000-8099". Without one, last is "".
func cutPorts(text string) (first, last string) {
	at := strings.LastIndexByte(text, ':')
	i := strings.IndexByte(text[at+1:], '-')
	if at < 0 || i < 0 {
		return text, ""
	}
	return text[:at+1+i], text[at+1+i+1:]
}

// parsePorts reads an address with a port, or with a range of them. last is 0 where
// there is one port.
func parsePorts(text string) (at netip.AddrPort, last uint16, err error) {
	first, end := cutPorts(text)
	if at, err = parseAddrPort(first); err != nil || end == "" {
		if first != text && end == "" {
			err = errRange
		}
		return at, 0, err
	}
	to, err := netip.ParseAddrPort("0.0.0.0:" + end)
	if err == nil && (at.Port() == 0 || to.Port() <= at.Port()) {
		err = errRange
	}
	return at, to.Port(), err
}

var errRange = fmt.Errorf("a range of ports that has no end, or ends before it begins")

// Ports is how many ports of the VIP are the service's.
func (s *Service) Ports() int { return max(int(s.LastPort)-int(s.Listen.Port()), 0) + 1 }

// ListenText is where the service listens, as the file writes it.
func (s *Service) ListenText() string {
	if s.UDP {
		return udpPrefix + portsText(s.Listen, s.LastPort)
	}
	return portsText(s.Listen, s.LastPort)
}

// udpPrefix begins the ports of a UDP service; tcpPrefix may begin others.
const (
	udpPrefix = "udp://"
	tcpPrefix = "tcp://"
)

// BackendText is the backend, as the file writes it.
func (s *Service) BackendText() string {
	switch {
	case s.Direct:
		return DirectBackend
	case s.BackendPath != "":
		return unixPrefix + s.BackendPath
	}
	return portsText(s.Backend, s.BackendLast)
}

func portsText(at netip.AddrPort, last uint16) string {
	if last == 0 {
		return at.String()
	}
	return fmt.Sprintf("%s-%d", at, last)
}

// BackendAt is the backend of what comes to a port of the service.
func (s *Service) BackendAt(port uint16) netip.AddrPort {
	if s.BackendLast == 0 {
		return s.Backend
	}
	return netip.AddrPortFrom(s.Backend.Addr(), s.Backend.Port()+port-s.Listen.Port())
}

// overlaps reports whether two services share a port of a VIP.
func (s *Service) overlaps(o *Service) bool {
	return s.UDP == o.UDP && s.Listen.Addr() == o.Listen.Addr() &&
		s.Listen.Port() <= max(o.LastPort, o.Listen.Port()) && o.Listen.Port() <= max(s.LastPort, s.Listen.Port())
}

// portsOf is how many ports services have together that need a listener: those of UDP
// need none.
func portsOf(services ...Service) (n int) {
	for i := range services {
		if !services[i].UDP {
			n += services[i].Ports()
		}
	}
	return n
}
