package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
)

// A flood of SYNs from sources that do not exist, which never answer. It stays
// in the namespaces of the bed.

const (
	// floodRate is how many SYNs are sent in a second.
	floodRate = 50_000
	// connectRate is how many connections clients who mean it make in a second.
	connectRate = 200
	// floodLimit bounds a flood that something else should end.
	floodLimit = 2 * time.Minute
)

// underFlood gives, with SYNs of a flood coming all the time, the time to connect
// that one of a hundred exceeds, in milliseconds; how many SYNs were answered in
// a second; how much more memory is used, in MiB; what one stream of a client brings
// to the service, in Gb/s; and which part a stream keeps that ran before the flood
// began, in hundredths.
func underFlood(ctx context.Context, b *bed, p *path, d time.Duration) ([]float64, error) {
	w, err := b.openWire()
	if err != nil {
		return nil, err
	}
	before, err := p.used(b)
	if err != nil {
		return nil, errors.Join(err, w.close())
	}
	var took []time.Duration
	var answers uint32
	var after memory
	connects := func() error {
		_, err := w.answers()
		if err != nil {
			return err
		}
		began := time.Now()
		if took, err = b.connects(ctx, p, d); err != nil {
			return err
		}
		if answers, err = w.answers(); err != nil {
			return err
		}
		answers = uint32(float64(answers) / time.Since(began).Seconds())
		after, err = p.used(b)
		return err
	}
	var rate []float64
	throughput := func() (err error) { rate, err = upload(ctx, b, p, d); return err }
	err = errors.Join(b.during(ctx, w, p, connects), b.during(ctx, w, p, throughput))
	var kept float64
	if err == nil {
		kept, err = b.keptUnderFlood(ctx, w, p, d)
	}
	if err = errors.Join(err, w.close()); err != nil {
		return nil, err
	}
	const mega = 1 << 20
	slices.Sort(took)
	p99 := float64(quantile(took, 0.99)) / float64(time.Millisecond)
	more := max(0, after.resident-before.resident+after.kernel-before.kernel)
	return []float64{p99, float64(answers), more / mega, rate[0], 100 * kept}, nil
}

// keptUnderFlood runs one stream, in whose second half SYNs are sent, and gives what
// it brought then as a part of what it brought before.
func (b *bed) keptUnderFlood(ctx context.Context, w wire, p *path, d time.Duration) (kept float64, err error) {
	ctx, stop := context.WithCancel(ctx)
	flooded := make(chan error, 1)
	go func() { flooded <- b.floodLater(ctx, w, p, warmUp+d) }()
	text, err := streamText(ctx, b, p, 2*d, "--interval", fmt.Sprint(floodInterval.Seconds()))
	stop()
	if err = errors.Join(err, <-flooded); err != nil {
		return 0, err
	}
	before, during, err := parseHalves(text, d.Seconds(), floodInterval.Seconds())
	return during / before, err
}

// floodInterval is for how long a stream's rate is taken together; of the two around
// the beginning of a flood, nothing is taken.
const floodInterval = 250 * time.Millisecond

// floodLater is the goroutine `bench.bed.floodLater`; it ends with ctx.
func (b *bed) floodLater(ctx context.Context, w wire, p *path, wait time.Duration) error {
	select {
	case <-ctx.Done():
		return nil
	case <-time.After(wait):
		return b.flood(ctx, w, p)
	}
}

// openWire opens a wire at the client's interface.
func (b *bed) openWire() (w wire, err error) {
	err = b.client.Do(func() (err error) { w, err = openWire(hostDevice); return err })
	return w, err
}

// during calls do while SYNs are sent to a path.
func (b *bed) during(ctx context.Context, w wire, p *path, do func() error) (err error) {
	ctx, stop := context.WithCancel(ctx)
	flooded := make(chan error, 1)
	go func() { flooded <- b.flood(ctx, w, p) }()
	err = do()
	stop()
	return errors.Join(err, <-flooded)
}

// flood is the goroutine `bench.bed.flood`; it ends with ctx. Sources and ports
// come again only after minutes.
func (b *bed) flood(ctx context.Context, w wire, p *path) error {
	f := newSYN(b.client.MAC, p.mac(b), p.http)
	const ports, firstPort = 50_000, 10_000
	source := spoofed().Addr().Next()
	_, _, err := w.flood(ctx, floodRate, floodLimit, f, func(i int) {
		if source = source.Next(); !spoofed().Contains(source) {
			source = spoofed().Addr().Next()
		}
		f.from(source, uint16(firstPort+i%ports))
	})
	return err
}

// connects makes connections at a constant rate and returns how long after its
// time each was there, in no order. Who has none in the end waited until then.
func (b *bed) connects(ctx context.Context, p *path, d time.Duration) (took []time.Duration, err error) {
	err = b.client.Do(func() error {
		c, err := newClients(p.http)
		if err != nil {
			return err
		}
		took, err = c.connectAtRate(ctx, connectRate, d)
		return errors.Join(err, c.close())
	})
	return took, err
}

func (c *clients) connectAtRate(ctx context.Context, rate float64, d time.Duration) ([]time.Duration, error) {
	s := &schedule{began: time.Now(), every: time.Duration(float64(time.Second) / rate), count: int(rate * d.Seconds())}
	end := s.at(s.count).Add(stragglers)
	took := make([]time.Duration, 0, s.count)
	for len(took) < s.count && ctx.Err() == nil {
		now := time.Now()
		if now.After(end) {
			return c.late(took, s, now), nil
		}
		for s.due(now) {
			if _, err := c.connect(s.take()); err != nil {
				return nil, err
			}
		}
		until := end
		if s.next < s.count {
			until = s.at(s.next)
		}
		events, err := c.wait(until)
		if err != nil {
			return nil, err
		}
		for _, e := range events {
			if e.Token == timerToken || !e.Writable || c.conns[e.Token].fd < 0 {
				continue
			}
			i := int(e.Token)
			if err := c.finished(i); err != nil {
				return nil, fmt.Errorf("after %d connections: %w", len(took), err)
			}
			took = append(took, time.Since(c.conns[i].due))
			c.conns[i].due = time.Time{}
			c.reset(i)
		}
	}
	return took, ctx.Err()
}

// routeSpoofed lets a node send to sources that do not exist by way of the client,
// who drops it; it runs in the node's namespace.
func routeSpoofed(client netip.Addr) error {
	to := &net.IPNet{IP: spoofed().Addr().AsSlice(), Mask: net.CIDRMask(spoofed().Bits(), 32)}
	return netlink.RouteAdd(&netlink.Route{Dst: to, Gw: client.AsSlice()})
}
