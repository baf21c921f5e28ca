package bench

import (
	"context"
	"errors"
	"time"
)

// referenceNames are the paths that may say what full load is, the first that is
// asked for and there.
func referenceNames() []string {
	return []string{HAProxy, Nginx, OneVoice, OneVoiceTransparent, OneVoiceDirect, XTCluster, Kernel}
}

// loadShare of what the reference does at most is the load of latency.
const loadShare = 0.5

// findRate finds the rate at which latency is measured: half of the requests
// that the reference answers, for all paths the same.
func findRate(ctx context.Context, b *bed, r *Report) error {
	for _, name := range referenceNames() {
		if info := r.Path(name); info == nil || info.Missing != "" {
			continue
		}
		p, err := newPath(name)
		if err != nil {
			return err
		}
		const long = 2 * time.Second
		all, err := p.while(ctx, b, func() ([]float64, error) { return requests(ctx, b, p, long) })
		if err != nil {
			return err
		}
		b.rate = loadShare * all[0]
		r.LatencyRate, r.LatencyReference = b.rate, name
		return nil
	}
	return errors.New("no path is there to say what full load is")
}

// findSocketBytes finds what an idle connection's end takes in the kernel: with
// no proxy between, half of what both ends take.
func findSocketBytes(ctx context.Context, b *bed, r *Report) error {
	p, err := newPath(Kernel)
	if err != nil || b.socketBytes > 0 {
		return err
	}
	n := idleCount(idleMany)
	r.IdleMost = n
	_, err = p.while(ctx, b, func() ([]float64, error) {
		more, _, err := b.openIdle(ctx, p, n)
		b.socketBytes = more.kernel / float64(2*n)
		r.SocketBytes = b.socketBytes
		return nil, err
	})
	return err
}

// while switches the path on, measures, and switches it off.
func (p *path) while(ctx context.Context, b *bed, measure func() ([]float64, error)) (samples []float64, err error) {
	defer func() { err = errors.Join(err, p.off(b)) }()
	if err := p.on(ctx, b); err != nil {
		return nil, err
	}
	return measure()
}
