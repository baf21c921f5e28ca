package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Latency is measured at a constant rate that is the same for all paths, from the
// time at which a request was due: one that has to wait for its turn, because
// others before it were slow, is as late as its user would find it. A generator
// that waits for an answer before it asks again would leave those out
// (coordinated omission).

// latencyConnections share the requests.
const latencyConnections = 32

// stragglers is how long answers may come after the last request was due; who
// has none by then waited at least so long.
const stragglers = time.Second

// latency is the time of requests on connections that stay, in microseconds.
func latency(ctx context.Context, b *bed, p *path, d time.Duration) (out []float64, err error) {
	err = b.client.Do(func() error {
		if err := fineTimers(); err != nil {
			return err
		}
		c, err := newClients(p.http)
		if err != nil {
			return err
		}
		took, err := c.constantRate(ctx, b.rate, d)
		if err := errors.Join(err, c.close()); err != nil {
			return err
		}
		slices.Sort(took)
		for _, q := range []float64{0.50, 0.99, 0.999} {
			out = append(out, float64(quantile(took, q))/float64(time.Microsecond))
		}
		return nil
	})
	return out, err
}

// quantile of sorted times, by the nearest rank.
func quantile(sorted []time.Duration, q float64) time.Duration {
	const almost = 1e-9 // that the product of two floats may be too much
	rank := int(q*float64(len(sorted)) + 1 - almost)
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// constantRate asks so often in a second for the time d, and returns how long
// after its time each answer came.
func (c *clients) constantRate(ctx context.Context, rate float64, d time.Duration) ([]time.Duration, error) {
	if rate <= 0 {
		return nil, errors.New("the rate of requests is not known")
	}
	if err := c.openMany(latencyConnections, time.Now().Add(acceptTimeout)); err != nil {
		return nil, err
	}
	free := make([]int, 0, latencyConnections)
	for i := range c.conns {
		free = append(free, i)
	}
	s := &schedule{began: time.Now(), every: time.Duration(float64(time.Second) / rate), count: int(rate * d.Seconds())}
	end := s.at(s.count).Add(stragglers)
	took := make([]time.Duration, 0, s.count)
	for len(took) < s.count && ctx.Err() == nil {
		now := time.Now()
		if now.After(end) {
			return c.late(took, s, now), nil
		}
		for len(free) > 0 && s.due(now) {
			if err := c.send(free[0], s.take()); err != nil {
				return nil, err
			}
			free = free[1:]
		}
		until := end
		if len(free) > 0 && s.next < s.count {
			until = s.at(s.next)
		}
		events, err := c.wait(until)
		if err != nil {
			return nil, err
		}
		for _, e := range events {
			if e.Token == timerToken || !e.Readable {
				continue
			}
			done, err := c.receive(int(e.Token))
			if err != nil {
				return nil, fmt.Errorf("after %d answers: %w", len(took), err)
			}
			if done {
				took = append(took, time.Since(c.conns[e.Token].due))
				c.conns[e.Token].due = time.Time{}
				free = append(free, int(e.Token))
			}
		}
	}
	return took, ctx.Err()
}

// late adds those who have no answer: asked or not, they wait since they were due.
func (c *clients) late(took []time.Duration, s *schedule, now time.Time) []time.Duration {
	for _, conn := range c.conns {
		if !conn.due.IsZero() {
			took = append(took, now.Sub(conn.due))
		}
	}
	for s.next < s.count {
		took = append(took, now.Sub(s.take()))
	}
	return took
}

// schedule says when each of a number of things is due.
type schedule struct {
	began time.Time
	every time.Duration
	count int
	next  int
}

func (s *schedule) at(i int) time.Time { return s.began.Add(time.Duration(i) * s.every) }

// due reports whether there is one whose time has come.
func (s *schedule) due(now time.Time) bool { return s.next < s.count && !s.at(s.next).After(now) }

// take is when the next one is due, and goes on to the one after it.
func (s *schedule) take() time.Time {
	s.next++
	return s.at(s.next - 1)
}
