package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A frame for another node of the cluster: every node hears it, and one answers.
// What it costs the others is seen by sending frames to a node that are not its
// own, at a fixed rate, and then frames to a MAC that nobody has.

const (
	// foreignRate is how many frames are sent in a second.
	foreignRate = 50_000
	// foreignNodes are on the LAN. The frames go to the second, and belong to the
	// first.
	foreignNodes = 4
	// foreignSources are tried, to see which belong to the first node.
	foreignSources = 128
	// answerTime is how long answers to that may take.
	answerTime = 300 * time.Millisecond
)

// nobody's MAC.
func nobodysMAC() net.HardwareAddr { return net.HardwareAddr{0x02, 'O', 'V', 0, 0xff, 0xff} }

// foreignFrame gives the processor time of a foreign frame in nanoseconds: of the
// whole machine, which must do nothing else, and of the sender, in whose call the
// kernel works on the frame, and the node's programs alone.
func foreignFrame(ctx context.Context, b *bed, p *path, d time.Duration) (_ []float64, err error) {
	sources, err := b.sourcesOfFirst(ctx, p)
	if err != nil {
		return nil, err
	}
	foreign, err := b.costOf(ctx, p, p.mac(b), sources, d)
	if err != nil {
		return nil, err
	}
	nothing, err := b.costOf(ctx, p, nobodysMAC(), sources, d)
	return []float64{foreign.machine - nothing.machine, foreign.run - nothing.run}, err
}

// openPort opens a wire at the switch's port to a node.
func (b *bed) openPort(node int) (w wire, err error) {
	err = b.lan.Do(func() (err error) { w, err = openWire(b.lan.Nodes()[node].Name); return err })
	return w, err
}

// sourcesOfFirst are spoofed addresses of which the first node answers, so that
// they are another's to all the rest.
func (b *bed) sourcesOfFirst(ctx context.Context, p *path) (sources []netip.Addr, err error) {
	w, err := b.openPort(0)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	f := newSYN(b.client.MAC, p.mac(b), p.http)
	source := spoofed().Addr()
	for range foreignSources {
		source = source.Next()
		const port = 40_000
		f.from(source, port)
		if err := w.send(f); err != nil {
			return nil, err
		}
	}
	if err := pause(ctx, answerTime); err != nil {
		return nil, err
	}
	seen := map[netip.Addr]bool{}
	err = w.heard(func(a netip.Addr) {
		if !seen[a] {
			seen[a] = true
			sources = append(sources, a)
		}
	})
	if err == nil && len(sources) == 0 {
		err = errors.New("the first node answers no address, so that no frame is known to be its own")
	}
	return sources, err
}

// frameCost is processor time for one frame, in nanoseconds.
type frameCost struct{ machine, run float64 }

// costOf sends frames to the second node.
func (b *bed) costOf(ctx context.Context, p *path, to net.HardwareAddr, sources []netip.Addr, d time.Duration) (cost frameCost, err error) {
	w, err := b.openPort(1)
	if err != nil {
		return cost, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	f := newSYN(b.client.MAC, to, p.http)
	before, err := b.processorTime(p)
	if err != nil {
		return cost, err
	}
	const ports, firstPort = 50_000, 10_000
	sent, sender, err := w.flood(ctx, foreignRate, d, f, func(i int) { f.from(sources[i%len(sources)], uint16(firstPort+i%ports)) })
	if err != nil {
		return cost, err
	}
	after, err := b.processorTime(p)
	if err != nil || sent == 0 {
		return cost, errors.Join(err, ctx.Err())
	}
	each := float64(sent)
	return frameCost{(after.machine - before.machine) / each, (after.run - before.run + float64(sender)) / each}, nil
}

// processorTime is what the machine and the second node's programs have used, in
// nanoseconds. The kernel's threads for what is left over of network work are
// the machine's alone.
func (b *bed) processorTime(p *path) (t frameCost, err error) {
	if t.machine, err = machineTime(); err != nil || len(b.daemons) == 0 || p.processes == nil {
		return t, err
	}
	pids, err := b.daemons[1].Processes()
	if err != nil {
		return t, err
	}
	for _, pid := range pids {
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
		if err != nil {
			return t, err
		}
		for _, name := range tasks {
			// A thread may end meanwhile.
			text, _ := os.ReadFile(name)
			first, _, _ := strings.Cut(string(text), " ")
			n, _ := strconv.ParseFloat(first, 64)
			t.run += n
		}
	}
	return t, nil
}

// busy is the time of all processors that was not idle, in nanoseconds, by the
// first line of /proc/stat (proc_stat(5)): user, nice, system, idle, iowait, irq,
// softirq, in hundredths of a second.
func busy(stat string) (float64, error) {
	line, _, _ := strings.Cut(stat, "\n")
	f := strings.Fields(line)
	const fields, tick = 8, 1e7
	if len(f) < fields {
		return 0, fmt.Errorf("/proc/stat begins with %q", line)
	}
	sum := 0.0
	for _, i := range []int{1, 2, 3, 6, 7} {
		n, err := strconv.ParseFloat(f[i], 64)
		if err != nil {
			return 0, err
		}
		sum += n * tick
	}
	return sum, nil
}

// threadTime is what this thread has used.
func threadTime() (time.Duration, error) {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &u); err != nil {
		return 0, os.NewSyscallError("getrusage", err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}
