package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// memory is what a path takes, in bytes.
type memory struct {
	// resident is that of its programs; what several of them share is counted once
	// ("Pss" of proc_pid_smaps_rollup(5)).
	resident float64
	// kernel is what the kernel has for sockets and in their buffers, on the whole
	// machine.
	kernel float64
}

// used is what a path takes now, and the machine's kernel.
func (p *path) used(b *bed) (m memory, err error) {
	var pids []int
	if p.processes != nil {
		if pids, err = p.processes(b); err != nil {
			return m, err
		}
	}
	for _, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			return m, err
		}
		bytes, err := kilobytes(string(text), "Pss")
		if err != nil {
			return m, err
		}
		m.resident += bytes
	}
	m.kernel, err = kernelMemory()
	return m, err
}

// kernelMemory is what the kernel has for sockets, on the whole machine.
func kernelMemory() (float64, error) {
	stat, err := os.ReadFile("/proc/net/sockstat")
	if err != nil {
		return 0, err
	}
	pages, err := bufferPages(string(stat))
	if err != nil {
		return 0, err
	}
	buffers := pages * float64(os.Getpagesize())
	// Only root may read this one.
	if text, err := os.ReadFile("/proc/slabinfo"); err == nil {
		return buffers + socketSlabs(string(text)), nil
	}
	info, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	slabs, err := kilobytes(string(info), "Slab")
	return buffers + slabs, err
}

// socketCaches are the kernel's caches of which a TCP socket, its file, its place
// in an epoll and its entry in a connection tracker are made.
func socketCaches() []string {
	return []string{"TCP", "sock_inode_cache", "filp", "lsm_file_cache", "eventpoll_epi", "eventpoll_pwq", "nf_conntrack",
		"request_sock_TCP", "tw_sock_TCP", "tcp_bind_bucket", "tcp_bind2_bucket"}
}

// socketSlabs are the bytes in those caches, by slabinfo(5): name, objects in
// use, all objects, bytes of each. Each socket's file has a name besides, which
// is too little beside all other names to be seen in their cache.
func socketSlabs(text string) (sum float64) {
	var sockets, nameBytes float64
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 4 {
			continue
		}
		objects, _ := strconv.ParseFloat(f[1], 64)
		size, _ := strconv.ParseFloat(f[3], 64)
		if slices.Contains(socketCaches(), f[0]) {
			sum += objects * size
		}
		switch f[0] {
		case "sock_inode_cache":
			sockets = objects
		case "dentry":
			nameBytes = size
		}
	}
	return sum + sockets*nameBytes
}

// kilobytes finds "Name: 12 kB" and returns bytes.
func kilobytes(text, name string) (float64, error) {
	m := regexp.MustCompile(`(?m)^` + name + `:\s+(\d+) kB$`).FindStringSubmatch(text)
	if m == nil {
		return 0, fmt.Errorf("no %s in what the kernel says", name)
	}
	n, err := strconv.ParseFloat(m[1], 64)
	return n * 1024, err
}

// bufferPages are those of all TCP sockets, by /proc/net/sockstat.
func bufferPages(text string) (float64, error) {
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) > 2 && f[0] == "TCP:" && f[len(f)-2] == "mem" {
			return strconv.ParseFloat(f[len(f)-1], 64)
		}
	}
	return 0, errors.New("no pages of TCP in what the kernel says")
}

// Connections that do nothing.
const (
	idleFew  = 1_000
	idleMany = 10_000
)

// idleTimeout bounds how long opening them may take, and idleRest is how long
// they do nothing before the memory is looked at.
const (
	idleTimeout = time.Minute
	idleRest    = 2 * time.Second
)

// idleCount is how many connections there can be, when n are wanted: a proxy has
// two open files for each, and not every machine allows so many.
func idleCount(n int) int {
	const besides = 200
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return n
	}
	return max(1, int(min(uint64(n), (limit.Cur-min(limit.Cur, besides))/2)))
}

// idle measures what n connections take that have had one answer each and are
// open: resident, kernel, and both, in KiB for each, and what the path takes in
// all, in MiB.
func idle(n int) measure {
	return func(ctx context.Context, b *bed, p *path, _ time.Duration) ([]float64, error) {
		n := idleCount(n)
		used, total, err := b.openIdle(ctx, p, n)
		if err != nil {
			return nil, err
		}
		// The client's sockets, and the service's behind a proxy.
		others := 1.0
		if p.processes != nil {
			others = 2
		}
		kernel := max(0, used.kernel-others*float64(n)*b.socketBytes)
		const kilo, mega = 1 << 10, 1 << 20
		each := kilo * float64(n)
		return []float64{used.resident / each, kernel / each, (used.resident + kernel) / each, (total.resident + kernel) / mega}, nil
	}
}

// openIdle opens n connections and returns how much more is used with them, and
// how much in all.
func (b *bed) openIdle(ctx context.Context, p *path, n int) (more, total memory, err error) {
	// The first connections make what stays. What was closed, also by the path
	// before this one, the kernel gives back a little later.
	if err := b.hold(ctx, p, latencyConnections, 0, func() error { return nil }); err != nil {
		return more, total, err
	}
	if err := pause(ctx, idleRest); err != nil {
		return more, total, err
	}
	before, err := p.used(b)
	if err != nil {
		return more, total, err
	}
	err = b.hold(ctx, p, n, idleRest, func() (err error) { total, err = p.used(b); return err })
	more = memory{max(0, total.resident-before.resident), total.kernel - before.kernel}
	return more, total, err
}

// hold opens n connections, waits, calls then, and closes them.
func (b *bed) hold(ctx context.Context, p *path, n int, rest time.Duration, then func() error) error {
	return b.client.Do(func() error {
		c, err := newClients(p.http)
		if err != nil {
			return err
		}
		err = c.openMany(n, time.Now().Add(idleTimeout))
		if err == nil {
			err = pause(ctx, rest)
		}
		if err == nil {
			err = then()
		}
		return errors.Join(err, c.close())
	})
}

// pause waits, or returns why it does not.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
