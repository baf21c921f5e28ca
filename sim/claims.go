package sim

import (
	"errors"
	"fmt"
	"net/netip"
)

// claims are who has which address on a LAN.
type claims struct {
	ips  map[netip.Addr]string
	macs map[MAC]string
}

// Claim notes that a station has a MAC and an IP address on the LAN, or says who
// has one of them already. A zero MAC or address claims none.
func (l *LAN) Claim(name string, mac MAC, ip netip.Addr) error { return l.claim(name, mac, ip) }

func (l *LAN) claim(name string, mac MAC, ip netip.Addr) error {
	c := &l.claims
	if c.ips == nil {
		c.ips, c.macs = map[netip.Addr]string{}, map[MAC]string{}
	}
	if other, taken := c.ips[ip]; taken && ip.IsValid() {
		return fmt.Errorf("%s has the address %v on this LAN already; give %s another", other, ip, name)
	}
	if other, taken := c.macs[mac]; taken && mac != (MAC{}) {
		return fmt.Errorf("%s has the MAC %s on this LAN already; give %s another", other, macText(mac[:]), name)
	}
	c.ips[ip], c.macs[mac] = name, name
	return nil
}

// claimShared is claim for an address that several stations may have, under one
// name of all of them.
func (l *LAN) claimShared(name string, mac MAC, ip netip.Addr) error {
	if l.claims.ips[ip] == name && l.claims.macs[mac] == name {
		return nil
	}
	return l.claim(name, mac, ip)
}

// AddClient plugs a client into a switch ("" for the first), or says why it cannot
// be there. Of what is flooded, its card takes only what concerns the client, ARP
// for others not among it: to thousands of clients that would be most of all events.
// What it does not take is counted as unwanted only if it was a broadcast.
func (l *LAN) AddClient(name string, o ClientOptions) (*Client, error) {
	if name == "" {
		name = l.switches[0].name
	}
	err := o.check()
	if err == nil {
		err = l.claim(o.Name, o.MAC, o.IP)
	}
	if err != nil {
		return nil, fmt.Errorf("client %s: %w", o.Name, err)
	}
	c := newClient(l, o)
	if c.port, err = l.AttachTo(name, o.Name, nil, c.receive); err != nil {
		return nil, err
	}
	c.port.narrow = c
	sw := c.port.outlet.sw
	sw.narrow[o.MAC] = c.port.outlet
	sw.open = sw.open[:len(sw.open)-1]
	return c, nil
}

func (o *ClientOptions) check() error {
	switch {
	case !o.IP.Is4() || !o.VIP.Is4():
		return fmt.Errorf("it needs IPv4 addresses, not %v and %v", o.IP, o.VIP)
	case o.IP == o.VIP:
		return fmt.Errorf("its address is the VIP's own, %v", o.VIP)
	case group(o.MAC) || o.MAC == MAC{}:
		return fmt.Errorf("its MAC is that of a single station, not %s", macText(o.MAC[:]))
	case o.Gateway.IsValid() && !o.Gateway.Is4():
		return fmt.Errorf("its gateway has an IPv4 address, not %v", o.Gateway)
	case o.Gateway.IsValid() && o.Gateway == o.IP:
		return errors.New("it cannot be its own gateway")
	}
	return nil
}
