package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// warmUp is left out of every measurement of a stream, for windows to open.
const warmUp = time.Second

// loadSlack bounds how much longer than asked a program may take.
const loadSlack = 20 * time.Second

// upload is what a single stream of the client brings to the service.
func upload(ctx context.Context, b *bed, p *path, d time.Duration) ([]float64, error) {
	return stream(ctx, b, p, d)
}

// download is the other direction.
func download(ctx context.Context, b *bed, p *path, d time.Duration) ([]float64, error) {
	return stream(ctx, b, p, d, "--reverse")
}

// measure runs a test on a path that is switched on, for about that long.
type measure func(context.Context, *bed, *path, time.Duration) ([]float64, error)

// smallUp is a stream to the node of which every frame fits the wire when it
// leaves the client, as from a card without offloads.
func smallUp(run measure) measure {
	return withDevice(run, func(b *bed, on bool) error {
		return b.client.Do(func() error { return setOffloads(on, ethtoolSTSO, ethtoolSGSO, ethtoolSGRO) })
	})
}

// smallDown is a stream to the client of which every frame fits the wire when it
// leaves the node. Only the card's part is taken away: the kernel may still make
// large segments and cut them itself.
func smallDown(run measure) measure {
	return withDevice(run, func(b *bed, on bool) error {
		return b.node.Do(func() error { return setOffloads(on, ethtoolSTSO) })
	})
}

// withDevice runs a test with something off that is on otherwise.
func withDevice(run measure, set func(b *bed, on bool) error) measure {
	return func(ctx context.Context, b *bed, p *path, d time.Duration) (out []float64, err error) {
		if err := set(b, false); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, set(b, true)) }()
		return run(ctx, b, p, d)
	}
}

// stream runs iperf3 from the client, to a server that serves once: what one
// stream left behind is nothing to the next.
func stream(ctx context.Context, b *bed, p *path, d time.Duration, more ...string) ([]float64, error) {
	out, err := streamText(ctx, b, p, d, more...)
	rate, parsed := parseIperf(out)
	if parsed != nil {
		return nil, errors.Join(err, parsed)
	}
	const giga = 1e9
	return []float64{rate / giga}, err
}

// streamText is what iperf3 says of a stream.
func streamText(ctx context.Context, b *bed, p *path, d time.Duration, more ...string) (_ string, err error) {
	s, err := startServer(b.node, "iperf3", "iperf3", "--server", "--one-off", "--version4", "--port", fmt.Sprint(portBulk))
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, s.end()) }()
	if err := b.untilListening(portBulk, s.ended); err != nil {
		return "", err
	}
	argv := append([]string{"iperf3", "--client", p.bulk.Addr().String(), "--port", fmt.Sprint(p.bulk.Port()), "--json",
		"--omit", seconds(warmUp), "--time", seconds(d)}, more...)
	return output(ctx, b.client, warmUp+d+loadSlack, argv...)
}

// seconds is a time for the programs' arguments, whole seconds.
func seconds(d time.Duration) string {
	return fmt.Sprint(max(1, int(d.Round(time.Second)/time.Second)))
}

// parseHalves reads the mean rates of a stream before and after an instant, in bits a
// second, from the intervals of `iperf3 --json`: of those that touch the instant, and
// of the warm-up, nothing. at and interval are in seconds.
func parseHalves(text string, at, interval float64) (before, after float64, err error) {
	var r struct {
		Error     string `json:"error"`
		Intervals []struct {
			Sum struct {
				Start         float64 `json:"start"`
				End           float64 `json:"end"`
				BitsPerSecond float64 `json:"bits_per_second"`
				Omitted       bool    `json:"omitted"`
			} `json:"sum"`
		} `json:"intervals"`
	}
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return 0, 0, fmt.Errorf("iperf3 wrote no JSON: %w", err)
	}
	if r.Error != "" {
		return 0, 0, fmt.Errorf("iperf3: %s", r.Error)
	}
	var sums [2]float64
	var counts [2]int
	for _, i := range r.Intervals {
		half := 0
		switch s := &i.Sum; {
		case s.Omitted, s.End > at && s.Start < at+interval:
			continue
		case s.Start >= at:
			half = 1
		}
		sums[half] += i.Sum.BitsPerSecond
		counts[half]++
	}
	if counts[0] == 0 || counts[1] == 0 || sums[0] == 0 {
		return 0, 0, fmt.Errorf("iperf3: %d intervals before the middle and %d behind it; nothing can be compared", counts[0], counts[1])
	}
	return sums[0] / float64(counts[0]), sums[1] / float64(counts[1]), nil
}

// parseIperf reads what the receiver got, in bits a second, from `iperf3 --json`.
func parseIperf(text string) (float64, error) {
	var r struct {
		Error string `json:"error"`
		End   struct {
			Received struct {
				BitsPerSecond float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		} `json:"end"`
	}
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return 0, fmt.Errorf("iperf3 wrote no JSON: %w", err)
	}
	if r.Error != "" {
		return 0, fmt.Errorf("iperf3: %s", r.Error)
	}
	if r.End.Received.BitsPerSecond <= 0 {
		return 0, errors.New("iperf3: nothing was received")
	}
	return r.End.Received.BitsPerSecond, nil
}
