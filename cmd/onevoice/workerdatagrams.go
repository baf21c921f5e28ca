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
	c.MaxFlows = s.bounds.datagrams
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
		return missingRight(err)
	}
	return s.parts.Datagrams.ServeHost(number, at, socket)
}

func (s *serving) datagramsChanged(service string, up bool, err error) {
	s.guest.BackendChanged(service, up, err)
	if up {
		s.log.Info("backend is back", "service", service)
		return
	}
	s.log.Warn("no program has the backend's UDP port; clients are told that theirs is unreachable", "service", service, "error", err)
}
