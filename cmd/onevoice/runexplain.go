package main

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"onevoice/admin"
	"onevoice/cluster"
	"onevoice/config"
	"onevoice/hashing"
)

// question is who answers a client.
type question struct {
	cfg  *config.Config
	flow hashing.Flow
	// service is nil where the VIP has none on the port; rows is the name of whose rows
	// decide.
	service *config.Service
	rows    string
	// pin is what the client is pinned by, the zero Prefix when it is not; homes are
	// whom the first buckets belong to by pins.
	pin    netip.Prefix
	homes  []string
	answer admin.Explanation
}

// ask reads the words of a question: the client as SRC or SRC:PORT, and what it asks
// for as VIP:PORT, with udp:// before it or without.
func ask(cfg *config.Config, client, to string) (*question, error) {
	q := &question{cfg: cfg, flow: hashing.Flow{Proto: 6}}
	if rest, udp := strings.CutPrefix(to, "udp://"); udp {
		q.flow.Proto, to = 17, rest
	}
	at, err := netip.ParseAddrPort(to)
	if err != nil || at.Port() == 0 {
		return nil, fmt.Errorf("%q is not what a client asks for; write a VIP with a port, such as %s:22", to, cfg.VIPs[0].Address.Addr())
	}
	if q.flow.Src, q.flow.SrcPort, err = clientOf(client); err != nil {
		return nil, err
	}
	q.flow.Dst, q.flow.DstPort = at.Addr(), at.Port()
	if !slices.ContainsFunc(cfg.VIPs, func(v config.VIP) bool { return v.Address.Addr() == at.Addr() }) {
		return nil, fmt.Errorf("%s is no VIP of this cluster; it has %s", at.Addr(), addressesOf(cfg.VIPs))
	}
	if q.flow.Src.Is4() != at.Addr().Is4() {
		return nil, fmt.Errorf("%s cannot send to %s: one is IPv4 and the other IPv6", q.flow.Src, at.Addr())
	}
	return q, q.find()
}

// clientOf reads an address, with a port or without.
func clientOf(text string) (netip.Addr, uint16, error) {
	if at, err := netip.ParseAddrPort(text); err == nil && at.Addr().Zone() == "" {
		return at.Addr().Unmap(), at.Port(), nil
	}
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		return a.Unmap(), 0, nil
	}
	return netip.Addr{}, 0, fmt.Errorf("%q is no client; write an address, or an address with a port, such as 198.51.100.7:40000", text)
}

// find looks which service it is, and so whose rows decide and what is hashed.
func (q *question) find() error {
	var shared *config.Service
	for i := range q.cfg.Services {
		s := &q.cfg.Services[i]
		if s.Listen.Addr() != q.flow.Dst {
			continue
		}
		if shared == nil && s.Sharing.Other() {
			shared = s
		}
		if s.Takes(q.flow.Proto, q.flow.DstPort) {
			q.service = s
		}
	}
	e := &q.answer
	e.Client, e.To = q.flow.Src.String(), netip.AddrPortFrom(q.flow.Dst, q.flow.DstPort).String()
	if q.flow.SrcPort != 0 {
		e.Client = netip.AddrPortFrom(q.flow.Src, q.flow.SrcPort).String()
	}
	by := q.service
	if by == nil {
		by = shared // so the node does it: what has no service goes by the first
	}
	e.Hash, e.Affinity, e.Buckets, q.rows = string(config.HashSipHash), string(config.SourceIP), hashing.Buckets, vipService(q.flow.Dst)
	if by != nil {
		e.Affinity, q.rows = string(by.Affinity), by.Name
		if by.Sharing.Other() {
			e.Hash, e.Buckets = string(by.Sharing.Hash), by.Sharing.Nodes
		}
	}
	if q.service != nil {
		e.Service = q.service.Name
	}
	if q.pinned(by); q.pin.IsValid() {
		return nil
	}
	if ports := e.Affinity == string(config.SourceIPPort) || e.Affinity == string(config.SourceIPPortDestPort); ports && q.flow.SrcPort == 0 {
		return fmt.Errorf("the affinity of %s is %s, so the client's port decides too; write it as %s:PORT", q.rows, e.Affinity, q.flow.Src)
	}
	q.compatible(by)
	return nil
}

// pinned finds the bucket of a client that has a pin.
func (q *question) pinned(by *config.Service) {
	if by == nil {
		return
	}
	var pins []config.PinnedPrefix
	pins, q.homes = q.cfg.PinsOf(by.Name)
	for _, p := range pins {
		if p.Clients.Contains(q.flow.Src) {
			q.pin = p.Clients
			q.bucket(int(p.Bucket))
			return
		}
	}
}

// byFile is what in the file gives buckets to nodes.
func (q *question) byFile() string {
	if len(q.homes) > 0 {
		return "[[pin]]"
	}
	return "local"
}

// compatible finds the bucket where it does not depend on a key.
func (q *question) compatible(by *config.Service) {
	if by == nil || !by.Sharing.Other() {
		return
	}
	if bucket, ok := compatibleOf(by).Bucket(&q.flow); ok {
		q.bucket(int(bucket))
		number := int(bucket) + by.Sharing.First()
		q.answer.Number = &number
	}
}

func (q *question) bucket(b int) { q.answer.Bucket = &b }

// hashed says how the bucket came about.
func (q *question) hashed() string {
	e := &q.answer
	what := map[string]string{
		string(config.SourceIP): "its address", string(config.SourceNet): "its network",
		string(config.SourceIPPort): "its address and port", string(config.SourceIPPortDestPort): "its address, its port and the service's",
	}[e.Affinity]
	text := fmt.Sprintf("%s of %s hashes to bucket %d of %d by %s", strings.Replace(what, "its", "the", 1), e.Client, *e.Bucket, e.Buckets, e.Hash)
	if q.pin.IsValid() {
		text = fmt.Sprintf("%s is in %s, which a [[pin]] gives bucket %d", e.Client, q.pin, *e.Bucket)
	}
	if e.Number != nil {
		text += fmt.Sprintf(", which counts it as number %d", *e.Number)
	}
	if e.Service == "" {
		text += "; no service has the port, so " + map[bool]string{true: "the VIP's own table", false: "the table of " + q.rows}[q.rows == vipService(q.flow.Dst)] + " decides who resets it"
	}
	return text
}

// explain is the admin.Explainer of the daemon.
func (d *daemon) explain(client, to string) (*admin.Explanation, error) {
	q, err := ask(d.cfg, client, to)
	if err != nil {
		return nil, err
	}
	if d.loop == nil {
		return nil, errors.New("the daemon is starting")
	}
	var answered cluster.Explained
	callErr := d.loop.Call(func(time.Duration) {
		if q.answer.Bucket == nil {
			var m cluster.Mapping
			if m, err = d.core.MappingOf(q.rows); err != nil {
				return
			}
			affinity, _ := hashing.ParseAffinity(q.answer.Affinity) // as the file was checked
			q.bucket(int(hashing.NewHasher(hashing.Key(m.Key)).Bucket(affinity, &q.flow)))
		}
		answered, err = d.core.Explain(q.rows, uint8(*q.answer.Bucket))
	})
	if err = errors.Join(callErr, err); err != nil {
		return nil, err
	}
	q.answer.From = "node " + d.cfg.Node.Name
	q.admitted(d.prefixes.Lists())
	q.owned(&answered)
	return &q.answer, nil
}

// owned says who has the bucket, and why.
func (q *question) owned(x *cluster.Explained) {
	e, o := &q.answer, &x.Owner
	e.Owner, e.OwnerAddress, e.Foreign, e.Self = o.Name, o.Address, o.Foreign, o.Self
	e.Next, e.Drainers = x.Next.Name, append(slices.Clone(x.Drainers), x.Grace...)
	e.Answers = o.Foreign || o.Leased && x.To.Name == "" && !x.Remapped
	why := []string{q.hashed()}
	switch {
	case o.Name == "":
		why = append(why, "nobody owns it, for no node may take it")
	case o.Foreign:
		e.OwnerAddress = ""
		why = append(why, fmt.Sprintf("it belongs to %s, which is another system's node, so no node of this cluster answers; `onevoice takeover %s` changes that once it is gone", o.Name, o.Name))
	default:
		why = append(why, q.ours(x))
	}
	if x.Remapped {
		why = append(why, "the service is about to be mapped in another way, and until then nobody accepts anything new for it")
	}
	if len(e.Drainers) > 0 {
		why = append(why, "running connections may still be at "+strings.Join(e.Drainers, ", "))
	}
	e.Why = strings.Join(why, "; ")
	switch {
	case o.Foreign:
		e.NextWhy = "another system's node hands its clients to nobody"
	case o.Name == "":
		e.NextWhy = "nobody owns it now"
	case x.Next.Name == "":
		e.NextWhy = "no other node may take it"
	case x.Home == x.Next.Name || x.Pinned == x.Next.Name:
		e.NextWhy = "it belongs there"
	default:
		e.NextWhy = "the smallest change of the table that gives every bucket an owner"
	}
}

// ours says why a node of this cluster has the bucket.
func (q *question) ours(x *cluster.Explained) string {
	o := &x.Owner
	text := fmt.Sprintf("%s owns it", o.Name)
	switch {
	case x.Pinned == o.Name:
		text += ", as an operator has pinned it there"
	case x.Pinned != "":
		text += fmt.Sprintf(", while %s cannot have it, where an operator has pinned it", x.Pinned)
	case x.Home == o.Name:
		text += ", as " + q.byFile() + " in the file says"
	case x.Home != "":
		text += fmt.Sprintf(", while %s cannot have it, whose it is by %s in the file", x.Home, q.byFile())
	}
	switch {
	case x.To.Name != "":
		text += fmt.Sprintf(" and gives it to %s at this moment", x.To.Name)
	case o.Leased && o.Down:
		text += " and holds a lease, and the service is down there, so it refuses; `onevoice status` there tells why"
	case o.Leased:
		text += " and holds a lease, so it answers"
	default:
		text += " and holds no lease as far as is known here, so nobody may answer until the others have its buckets"
	}
	return text
}
