package control

import (
	"errors"
	"slices"

	"onevoice/hashing"
	"onevoice/internal/inetdiag"
	"onevoice/node"
)

// directSocket is one of a service, with its flow and bucket.
type directSocket struct {
	inetdiag.Socket
	service int // of cfg.Services
	flow    hashing.Flow
	bucket  uint8
}

// sockets are the connections of the services, with their buckets if these are asked for,
// and which services a program listens for.
func (d *DirectPath) sockets(want inetdiag.Wanted, buckets bool) (out []directSocket, listens []bool, err error) {
	if len(d.cfg.Services) == 1 && d.cfg.Services[0].LastPort == 0 {
		want.Port = d.cfg.Services[0].Listen.Port()
	}
	all, err := d.cfg.Sockets(want)
	if err != nil {
		return nil, nil, err
	}
	listens = make([]bool, len(d.cfg.Services))
	for i := range all {
		s := &all[i]
		for k := range d.cfg.Services {
			svc := &d.cfg.Services[k]
			at := s.Local
			switch {
			case svc.UDP || at.Port() < svc.Listen.Port() || at.Port() > max(svc.LastPort, svc.Listen.Port()):
			case s.State == inetdiag.Listen:
				listens[k] = listens[k] || at.Addr() == svc.Listen.Addr() || at.Addr().IsUnspecified() && (at.Addr().Is6() || svc.Listen.Addr().Is4())
			case s.State == inetdiag.Closed || at.Addr() != svc.Listen.Addr() || slices.Contains(d.cfg.Self, s.Remote.Addr()):
			default:
				out = append(out, directSocket{Socket: *s, service: k, flow: hashing.Flow{
					Src: s.Remote.Addr(), SrcPort: s.Remote.Port(), Dst: at.Addr(), DstPort: at.Port(), Proto: node.TCP,
				}})
			}
		}
	}
	if !buckets {
		return out, listens, nil
	}
	err = d.cfg.Ask(func(n *node.Node) {
		for i := range out {
			out[i].bucket = n.BucketOf(d.cfg.Services[out[i].service].Index, &out[i].flow)
		}
	})
	return out, listens, err
}

// Held is what the host's own TCP has of the wanted buckets, by service of the
// configuration, into out. It returns under which generation at the latest that was found:
// what frames that are judged by older rows let in is not in it.
func (d *DirectPath) Held(wanted []node.Bitmap, out [][]node.Held) (generation uint64, err error) {
	generation = d.takesNothingSince()
	all, _, err := d.sockets(inetdiag.Wanted{Over: true}, true)
	if err != nil {
		return 0, err
	}
	// A cookie that left since the last look may still come back.
	if err := d.lookForCookies(); err != nil {
		return 0, err
	}
	by := make([][hashing.Buckets]node.Held, len(d.cfg.Services))
	err = d.cfg.Ask(func(n *node.Node) {
		for i := range all {
			h := &by[all[i].service][all[i].bucket]
			h.Flows++
			if all[i].State == inetdiag.SYNRecv {
				h.HalfOpen++
			}
			if len(h.Hashes) < node.MaxListed {
				h.Hashes = append(h.Hashes, n.FlowHash(&all[i].flow))
			} else {
				h.Overflow = true
			}
		}
	})
	if err != nil {
		return 0, err
	}
	d.mu.Lock()
	cookies := d.cfg.Clock()-d.cookieAt < cookieTime
	d.mu.Unlock()
	for k, s := range d.cfg.Services {
		if s.Index >= len(wanted) || s.UDP {
			continue
		}
		for b := range hashing.Buckets {
			h := &by[k][b]
			h.Bucket, h.Overflow, h.Unproven = uint8(b), h.Overflow || cookies, cookies || h.HalfOpen > 0
			if wanted[s.Index].Has(h.Bucket) && (h.Flows > 0 || h.Unproven) {
				out[s.Index] = append(out[s.Index], *h)
			}
		}
	}
	return generation, nil
}

// takesNothingSince is the generation by whose rows, or later ones, every frame is judged.
// One that has left the programs to another takes nothing under any.
func (d *DirectPath) takesNothingSince() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.retired {
		return ^uint64(0)
	}
	return d.settled
}

// lookForCookies takes in how many SYN cookies the host has sent.
func (d *DirectPath) lookForCookies() error {
	sent, err := d.cfg.Cookies()
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.cfg.Clock()
	if sent != d.cookies {
		d.cookies, d.cookieAt = sent, now
	}
	if d.flood.due(now) {
		d.flood.tell(d.cfg.Log, now, sent)
	}
	return nil
}

// End ends the flows that are taken: with a reset to both sides, or without a word to
// the client. It returns how many it ended.
func (d *DirectPath) End(silent bool, takes func(service int, f *hashing.Flow, bucket uint8) bool) (n int, err error) {
	all, _, err := d.sockets(inetdiag.Wanted{Over: true}, true)
	if err != nil {
		return 0, err
	}
	return d.end(all, silent, takes)
}

// EndAll resets what is left when the time of a stop is over, and nobody is there to be
// asked any more.
func (d *DirectPath) EndAll() error {
	all, _, err := d.sockets(inetdiag.Wanted{Over: true}, false)
	if err == nil {
		_, err = d.end(all, false, func(int, *hashing.Flow, uint8) bool { return true })
	}
	return err
}

func (d *DirectPath) end(all []directSocket, silent bool, takes func(service int, f *hashing.Flow, bucket uint8) bool) (n int, err error) {
	d.mu.Lock()
	retired := d.retired
	d.mu.Unlock()
	if retired {
		return 0, nil
	}
	if silent {
		d.cfg.Programs.Silence(d.cfg.Clock() + quietTime)
	}
	var errs []error
	for i := range all {
		if s := &all[i]; takes(d.cfg.Services[s.service].Index, &s.flow, s.bucket) {
			errs = append(errs, d.cfg.Destroy(&s.Socket))
			n++
		}
	}
	d.wake()
	return n, errors.Join(errs...)
}
