package config

import (
	"fmt"
	"net/netip"
	"slices"
)

func (p *problems) cluster(raw *rawCluster, c *Cluster) {
	if v, ok := p.required("cluster.name", raw.Name, "campus-ssh"); ok && !isName(v) {
		p.at("cluster.name", "%s is no name; write one without spaces, of at most %d bytes", shown(v), maxNameBytes)
	}
	if v, ok := p.required("cluster.interface", raw.Interface, "eth0"); ok && !isInterface(v) {
		p.at("cluster.interface", "%s is no interface; write the one on the clients' LAN, such as \"eth0\"", shown(v))
	}
	if v, ok := p.required("cluster.key_file", raw.KeyFile, "/etc/onevoice/cluster.key"); ok && !isPath(v) {
		p.at("cluster.key_file", "%s is not an absolute path; write one, such as \"/etc/onevoice/cluster.key\", and make the file with `onevoice keygen`", shown(v))
	}
	if v := raw.OtherKeyFile; v != nil && (!isPath(*v) || *v == or(raw.KeyFile, "")) {
		p.at("cluster.other_key_file", "%s is not the absolute path of another key; write one, such as \"/etc/onevoice/cluster.new\", or leave it out", shown(*v))
	}
	*c = Cluster{
		OtherKeyFile: or(raw.OtherKeyFile, ""), Name: or(raw.Name, ""), Interface: or(raw.Interface, ""), KeyFile: or(raw.KeyFile, ""), TwoNodes: or(raw.TwoNodes, ""),
		ControlPort: uint16(p.number("cluster.control_port", raw.ControlPort, DefaultControlPort, 1, maxPort)),
		Timing:      Timing(or(raw.Timing, string(TimingLAN))),
	}
	if !slices.Contains([]Timing{TimingFast, TimingLAN, TimingCalm}, c.Timing) {
		p.at("cluster.timing", "%s is not a timing; write %q, %q or %q", shown(string(c.Timing)), TimingFast, TimingLAN, TimingCalm)
	}
	p.peers(raw, c)
	p.twoNodes(raw)
	p.witness(raw, c)
}

func (p *problems) peers(raw *rawCluster, c *Cluster) {
	const key = "cluster.peers"
	if n := len(raw.Peers); n == 0 || n > MaxPeers {
		p.at(key, "there are %d; write the 1 to %d addresses of the nodes", n, MaxPeers)
		return
	}
	for i := range raw.Peers {
		p.peer(fmt.Sprintf("%s[%d]", key, i), &raw.Peers[i], c)
	}
}

// peer takes a peer, of whose addresses none may be another's.
func (p *problems) peer(key string, raw *rawPeer, c *Cluster) {
	addressKey := key
	if p.written(key+".address") || raw.Address == nil {
		addressKey = key + ".address"
	}
	var address, control netip.Addr
	if v, ok := p.required(addressKey, raw.Address, "10.77.0.11"); ok {
		if address, ok = p.hostAddress(addressKey, v, "10.77.0.11"); ok && c.isPeers(address) {
			p.at(addressKey, "%s is there twice; write each node once", address)
		}
	}
	if raw.Control != nil {
		var ok bool
		if control, ok = p.hostAddress(key+".control", *raw.Control, "192.168.5.11"); ok && (control == address || c.isPeers(control)) {
			p.at(key+".control", "%s is there twice; write the node's own address on the management network, or leave it out", control)
		}
	}
	c.Peers = append(c.Peers, address)
	c.Controls = append(c.Controls, control)
}

// isPeers reports whether an address is one of a peer's.
func (c *Cluster) isPeers(a netip.Addr) bool {
	return slices.Contains(c.Peers, a) || slices.Contains(c.Controls, a)
}

// hostAddress is a text as the IPv4 address of a host.
func (p *problems) hostAddress(key, text, example string) (netip.Addr, bool) {
	a, err := parseAddr(text)
	switch {
	case err != nil:
		p.at(key, "%s is not an address; write one like %q", shown(text), example)
	case !isHost(a):
		p.at(key, "%s is not the IPv4 address of a host; write one like %q", a, example)
	default:
		return a, true
	}
	return netip.Addr{}, false
}

func (p *problems) twoNodes(raw *rawCluster) {
	const key = "cluster.two_nodes"
	two := raw.TwoNodes
	switch n := len(raw.Peers); {
	case two != nil && *two != TwoNodesWitness && *two != TwoNodesPreferred:
		p.at(key, "%s is not a choice; write \"witness\" or \"preferred\"", shown(*two))
	case two != nil && n != 2 && !p.toldIn("cluster.peers"):
		p.at(key, "is for two peers, and there are %d; leave it out", n)
	case two == nil && n == 2 && raw.Witness != nil:
		p.at(key, "is missing, and what two nodes do is never implied; with a witness write two_nodes = \"witness\"")
	case two == nil && n == 2:
		p.at(key, "is missing, and two nodes alone cannot tell a dead peer from a cut cable; write \"witness\" (safe: any third box decides) or \"preferred\" (safe too, but service stops while the preferred node, the first peer, is away)")
	}
}

// witness takes the third voter of two nodes, or one more of an even number: it
// makes the number of voters odd.
func (p *problems) witness(raw *rawCluster, c *Cluster) {
	const key = "cluster.witness"
	peers := len(raw.Peers)
	if raw.Witness == nil {
		if c.TwoNodes == TwoNodesWitness && peers == 2 {
			p.at(key, "is missing, and two_nodes = \"witness\" needs one; write the address of a third box that runs `onevoice witness`, such as \"192.168.5.9\"")
		}
		return
	}
	at, err := parseAddrPort(*raw.Witness)
	if err != nil {
		var a netip.Addr
		a, err = parseAddr(*raw.Witness)
		at = netip.AddrPortFrom(a, c.ControlPort)
	}
	switch {
	case err != nil || at.Port() == 0 && !p.toldIn("cluster.control_port"):
		p.at(key, "%s is not an address; write one like \"192.168.5.9\" or \"192.168.5.9:%d\", an address and no name", shown(*raw.Witness), DefaultControlPort)
	case !isHost(at.Addr()):
		p.at(key, "%s is not the IPv4 address of a host; write one like \"192.168.5.9\"", at.Addr())
	case c.isPeers(at.Addr()):
		p.at(key, "%s is in cluster.peers; write the address of a box that is no node", at.Addr())
	case c.TwoNodes == TwoNodesPreferred:
		p.at(key, "is not asked with two_nodes = \"preferred\"; write two_nodes = \"witness\", or leave the witness out")
	case peers%2 == 1 && !p.toldIn("cluster.peers"):
		p.at(key, "is for an even number of peers, and there are %d, who decide alone; leave it out", peers)
	default:
		c.Witness = at
	}
}

// number is a whole number within bounds, or the default.
func (p *problems) number(key string, raw *int64, byDefault, least, most int) int {
	n := or(raw, int64(byDefault))
	if n < int64(least) || n > int64(most) {
		p.at(key, "%d is not a number from %d to %d; write one like %d", n, least, most, byDefault)
		return byDefault
	}
	return int(n)
}

// written reports whether the file states a key.
func (p *problems) written(key string) bool {
	_, ok := p.lines[key]
	return ok
}
