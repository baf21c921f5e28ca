package control

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"onevoice/internal/inetdiag"
	"onevoice/link/ingress"
)

// When it is said that the host keeps clients out: so many SYNs have passed in so long,
// and no connection began; and until when it is said without another one.
const (
	keptOutSYNs  = 3
	keptOutAfter = 5 * time.Second
	keptOutUntil = time.Minute
)

// keptOut notices that SYNs which the programs let pass come to no connection, though a
// program listens: a packet filter of this host, which comes behind the programs, drops
// them. It is used under the path's lock.
type keptOut struct {
	is bool
	// passed and begun are the counts as of since, when the last connection had begun, or
	// when nobody had tried; latest and at are of the last SYN.
	passed, begun, latest uint64
	since, at             time.Duration
}

// look takes the counts of a moment: SYNs that have passed, and connections that the host
// has begun. Others than the services' count for these as well, so that it may not be
// noticed where there are many.
func (k *keptOut) look(now time.Duration, passed, begun uint64, half bool) {
	if passed != k.latest {
		k.latest, k.at = passed, now
	}
	if half || begun != k.begun || passed == k.passed || now-k.at > keptOutUntil {
		*k = keptOut{passed: passed, begun: begun, latest: passed, since: now, at: k.at}
		return
	}
	k.is = k.is || passed-k.passed >= keptOutSYNs && now-k.since >= keptOutAfter
}

// noticeKeptOut is for a look at the sockets.
func (d *DirectPath) noticeKeptOut(all []directSocket, listens []bool) error {
	begun, err := d.cfg.Begun()
	if err != nil {
		return err
	}
	half := slices.ContainsFunc(all, func(s directSocket) bool { return s.State == inetdiag.SYNRecv })
	// Where nobody listens the kernel resets, and that is told.
	listens = slices.DeleteFunc(slices.Clone(listens), func(up bool) bool { return up })
	silent := len(listens) == len(d.cfg.Services)
	passed := d.cfg.Programs.Rulings()[ingress.PassSYN]
	d.mu.Lock()
	defer d.mu.Unlock()
	d.keptOut.look(d.cfg.Clock(), passed, begun, half || silent)
	return nil
}

// KeptOut reports whether this host seems to drop the services' clients by itself.
func (d *DirectPath) KeptOut() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.keptOut.is
}

// Where the kernel counts (proc_net(5)).
const (
	netstat = "/proc/net/netstat"
	snmp    = "/proc/net/snmp"
)

// cookiesSent is how many SYN cookies the host has sent (TcpExt SyncookiesSent).
func cookiesSent() (uint64, error) { return counted(netstat, "TcpExt:", "SyncookiesSent") }

// connectionsBegun is how many connections of clients the host has begun, or could not for
// its programs took none more, or begins with a cookie.
func connectionsBegun() (uint64, error) {
	begun, err := counted(snmp, "Tcp:", "PassiveOpens")
	if err != nil {
		return 0, err
	}
	more, err := counted(netstat, "TcpExt:", "SyncookiesSent", "ListenDrops")
	return begun + more, err
}

// counted is the sum of some counters of a line of such a file.
func counted(path, line string, names ...string) (sum uint64, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("control: %w", err)
	}
	var head [][]byte
	for text := range bytes.Lines(b) {
		f := bytes.Fields(text)
		if len(f) == 0 || string(f[0]) != line {
			continue
		}
		if head == nil {
			head = f
			continue
		}
		for _, name := range names {
			at := slices.IndexFunc(head, func(h []byte) bool { return string(h) == name })
			if at < 0 || at >= len(f) {
				return 0, fmt.Errorf("control: %s has no %s", path, name)
			}
			n, err := strconv.ParseUint(string(f[at]), 10, 64)
			if err != nil {
				return 0, fmt.Errorf("control: %s: %s: %w", path, name, err)
			}
			sum += n
		}
		return sum, nil
	}
	return 0, fmt.Errorf("control: %s has no %s", path, line)
}
