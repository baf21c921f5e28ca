package main

import (
	"bufio"
	"crypto/rand"
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"

	"onevoice/config"
	"onevoice/datagram"
	"onevoice/proxy"
	"onevoice/stack"
)

// openDatagrams makes the UDP flows, where a service is of UDP.
func (s *serving) openDatagrams() error {
	c := datagram.Config{
		MTU: s.parts.Device.MTU(), Poller: s.parts.Poller,
		// A system call for each answer would be dear.
		Random:         bufio.NewReaderSize(rand.Reader, 4096),
		BackendChanged: s.datagramsChanged,
	}
	mark := proxy.MarkFor(s.settings.Config.VIPs[0].Address.Addr())
	for i := range s.settings.Config.Services {
		svc := &s.settings.Config.Services[i]
		if svc.UDP && !svc.Direct {
			c.Services = append(c.Services, datagram.Service{
				Name: svc.Name, Listen: svc.Listen, Backend: backendOf(svc, mark), EachPort: svc.BackendLast != 0, Idle: svc.Idle,
			})
		}
	}
	if len(c.Services) == 0 {
		return nil
	}
	most, err := raiseDescriptors(spareDescriptors + stack.MaxFlows + datagram.MaxFlows)
	if err != nil {
		s.log.Warn("the limit on open files could not be read; a UDP flow needs one each", "error", err)
	}
	if c.MaxFlows = datagramsOf(most); c.MaxFlows < datagram.MaxFlows {
		s.log.Warn("the limit on open files bounds the UDP flows; raise it (LimitNOFILE in systemd) for more", "flows", c.MaxFlows, "of", datagram.MaxFlows)
	}
	s.parts.Datagrams = datagram.New(c)
	s.parts.Datagrams.SetMTU6(s.mtu6())
	s.opened(func() error { s.parts.Datagrams.Close(); return nil })
	return s.serveHostDatagrams()
}

// serveHostDatagrams takes this host's own datagrams to the VIPs.
func (s *serving) serveHostDatagrams() error {
	number := 0
	for i := range s.settings.Config.Services {
		svc := &s.settings.Config.Services[i]
		if !svc.UDP || svc.Direct {
			continue
		}
		if svc.Ports() > config.MaxPorts {
			s.log.Warn("this host itself does not reach the service, for it has too many ports", "service", svc.Name, "ports", svc.Ports(), "at_most", config.MaxPorts)
		}
		for k := 0; k < svc.Ports() && svc.Ports() <= config.MaxPorts; k++ {
			if err := s.serveHostPort(number, netip.AddrPortFrom(svc.Listen.Addr(), svc.Listen.Port()+uint16(k))); err != nil {
				return err
			}
		}
		number++
	}
	return nil
}

// serveHostPort does so for a port of the UDP service with that number.
func (s *serving) serveHostPort(number int, at netip.AddrPort) error {
	socket, err := proxy.ListenDatagrams(at)
	if errors.Is(err, unix.EADDRINUSE) {
		s.log.Warn("a program has this UDP port of all of this host's addresses, so this host itself does not reach the service; clients do; have the program listen on 127.0.0.1 and this host's own address", "listen", at)
		return nil
	}
	if err != nil {
		return rights(err)
	}
	return s.parts.Datagrams.ServeHost(number, at, socket)
}

// datagramsOf is how many UDP flows there may be with so many descriptors: half of
// those that are for flows, where there are not enough for all.
func datagramsOf(descriptors int) int {
	flows := descriptors - spareDescriptors
	if flows >= stack.MaxFlows+datagram.MaxFlows {
		return datagram.MaxFlows
	}
	return min(max(flows/2, leastFlows), datagram.MaxFlows)
}

const (
	// spareDescriptors are for all but flows.
	spareDescriptors = 1024
	// leastFlows of UDP there may be, however few descriptors there are: then it is
	// the system that refuses, which is counted.
	leastFlows = 1024
)

// raiseDescriptors raises the limit on open files to need, or as far as it may, and
// returns what it is then.
func raiseDescriptors(need int) (int, error) {
	var now unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &now); err != nil {
		return 0, err
	}
	if now.Cur >= uint64(need) {
		return need, nil
	}
	// With CAP_SYS_RESOURCE also above the hard limit; without it up to that.
	for _, most := range []uint64{max(now.Max, uint64(need)), now.Max} {
		wanted := unix.Rlimit{Cur: min(uint64(need), most), Max: most}
		if unix.Setrlimit(unix.RLIMIT_NOFILE, &wanted) == nil {
			return int(wanted.Cur), nil
		}
	}
	return int(min(now.Cur, uint64(need))), nil
}

func (s *serving) datagramsChanged(service string, up bool, err error) {
	s.guest.BackendChanged(service, up, err)
	if up {
		s.log.Info("backend is back", "service", service)
		return
	}
	s.log.Warn("no program has the backend's UDP port; clients are told that theirs is unreachable", "service", service, "error", err)
}
