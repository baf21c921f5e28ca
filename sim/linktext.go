package sim

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Bounds of a Link.
const (
	MaxDelay = time.Hour
	// MaxBitsPerSecond keeps the time of a bit in range: 10 Tb/s.
	MaxBitsPerSecond = 10_000_000_000_000
	MaxQueueBytes    = 1 << 30
)

// Check says why there can be no such link.
func (l *Link) Check() error {
	for _, p := range []struct {
		name string
		p    float64
	}{{"loss", l.Loss}, {"dup", l.Dup}, {"corrupt", l.Corrupt}, {"reorder", l.Reorder}} {
		if !(p.p >= 0 && p.p <= 1) {
			return fmt.Errorf("a link's %s is from 0 to 100%%, not %v%%", p.name, p.p*100)
		}
	}
	switch {
	case l.DelayMin < 0 || l.DelayMax > MaxDelay:
		return fmt.Errorf("a link's delay is from 0 to %v, not %v to %v", MaxDelay, l.DelayMin, l.DelayMax)
	case l.DelayMax < l.DelayMin:
		return fmt.Errorf("a link's longest delay, %v, is below its shortest, %v", l.DelayMax, l.DelayMin)
	case l.HoldBack < 0 || l.HoldBack > MaxDelay:
		return fmt.Errorf("a link holds back for 0 to %v, not for %v", MaxDelay, l.HoldBack)
	case l.Reorder > 0 && l.HoldBack == 0:
		return errors.New("a link that reorders holds back for some time: write reorder=1%/10ms")
	case l.BitsPerSecond < 0 || l.BitsPerSecond > MaxBitsPerSecond:
		return fmt.Errorf("a link's speed is from 1 bit/s to %d bit/s, not %d", int64(MaxBitsPerSecond), l.BitsPerSecond)
	case l.QueueBytes < 0 || l.QueueBytes > MaxQueueBytes:
		return fmt.Errorf("a link's queue is from 1 to %d bytes, not %d", MaxQueueBytes, l.QueueBytes)
	case l.QueueBytes > 0 && l.BitsPerSecond == 0:
		return errors.New("a queue needs a speed, or nothing waits in it: write speed=1G beside it")
	}
	return nil
}

// ParseLink reads a link as words in any order, each at most once:
//
//	speed=100M queue=64K delay=1ms delay=1ms..5ms loss=1% dup=1% corrupt=1% reorder=1%/10ms
//
// A speed is in bits a second, a queue in bytes; k, M, G and T stand for powers of
// 1,000, and of 1,024 in a queue. What is left out is as with the zero Link.
func ParseLink(text string) (Link, error) {
	var l Link
	seen := map[string]bool{}
	for _, word := range strings.Fields(text) {
		name, value, ok := strings.Cut(word, "=")
		if !ok {
			return Link{}, fmt.Errorf("%q: write speed=, queue=, delay=, loss=, dup=, corrupt= or reorder= and a value", word)
		}
		if seen[name] {
			return Link{}, fmt.Errorf("%q: there are two of %s", word, name)
		}
		seen[name] = true
		if err := l.set(name, value); err != nil {
			return Link{}, fmt.Errorf("%q: %w", word, err)
		}
	}
	return l, l.Check()
}

func (l *Link) set(name, value string) (err error) {
	switch name {
	case "speed":
		l.BitsPerSecond, err = parseAmount(value, 1000, MaxBitsPerSecond)
		if err == nil && l.BitsPerSecond == 0 {
			err = errors.New("nothing ever leaves a link of speed 0; leave it out for one without a limit")
		}
	case "queue":
		var n int64
		n, err = parseAmount(value, 1024, MaxQueueBytes)
		l.QueueBytes = int(n)
		if err == nil && n == 0 {
			err = errors.New("nothing can wait in a queue of 0 bytes; leave it out for the usual one")
		}
	case "delay":
		lo, hi, spread := strings.Cut(value, "..")
		if l.DelayMin, err = parseDelay(lo); err != nil {
			return err
		}
		if l.DelayMax = l.DelayMin; spread {
			l.DelayMax, err = parseDelay(hi)
		}
	case "loss":
		l.Loss, err = parsePercent(value)
	case "dup":
		l.Dup, err = parsePercent(value)
	case "corrupt":
		l.Corrupt, err = parsePercent(value)
	case "reorder":
		p, hold, _ := strings.Cut(value, "/")
		if l.Reorder, err = parsePercent(p); err == nil && hold != "" {
			l.HoldBack, err = parseDelay(hold)
		}
	default:
		err = errors.New("a link has speed, queue, delay, loss, dup, corrupt and reorder")
	}
	return err
}

// parseAmount reads a whole number with a letter behind it, perhaps.
func parseAmount(text string, base, limit int64) (int64, error) {
	digits, unit := text, int64(1)
	for i, letter := range "kMGT" {
		if d, ok := strings.CutSuffix(text, string(letter)); ok || strings.HasSuffix(text, "K") && letter == 'k' {
			digits, unit = strings.TrimSuffix(d, "K"), int64(math.Pow(float64(base), float64(i+1)))
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 || n > limit/unit {
		return 0, fmt.Errorf("%q is not a number from 1 to %d, such as 100M", text, limit)
	}
	return n * unit, nil
}

func parseDelay(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 || d > MaxDelay {
		return 0, fmt.Errorf("%q is not a time from 0 to %v, such as 5ms", text, MaxDelay)
	}
	return d, nil
}

func parsePercent(text string) (float64, error) {
	digits, ok := strings.CutSuffix(text, "%")
	p, err := strconv.ParseFloat(digits, 64)
	if !ok || err != nil || !(p >= 0 && p <= 100) {
		return 0, fmt.Errorf("%q is not a share from 0%% to 100%%, such as 1%%", text)
	}
	return p / 100, nil
}
