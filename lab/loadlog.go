package lab

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

// loadLogs are the logs of the daemons, from a moment on: what they say of leases
// is exact, where a status that is asked for now and then would miss short ones.
type loadLogs []loadLog

type loadLog struct {
	node, path string
	from       int64
}

// loadEvent is a line of a log that matters under load.
type loadEvent struct {
	at   time.Time
	kind loadEventKind
	// node is whom it is about.
	node string
}

type loadEventKind int

const (
	// leaseLost: the node's lease was over. leaseHeld: it holds one again.
	leaseLost loadEventKind = iota + 1
	leaseHeld
	// workerStill: its worker had not ended a turn for so long that the node kept
	// its heartbeats back.
	workerStill
	// evicted: the others have taken its buckets.
	evicted
	// leaseBlinked: it was over and is held again.
	leaseBlinked
)

// openLogs remembers where the logs end now.
func openLogs(daemons []*Daemon) (loadLogs, error) {
	var all loadLogs
	for _, d := range daemons {
		info, err := os.Stat(d.Log())
		if err != nil {
			return nil, err
		}
		all = append(all, loadLog{d.Host.Name, d.Log(), info.Size()})
	}
	return all, nil
}

// read gives what the logs have said since, in the order of time.
func (l loadLogs) read() (all []loadEvent, err error) {
	for _, one := range l {
		f, err := os.Open(one.path)
		if err != nil {
			return nil, err
		}
		_, err = f.Seek(one.from, io.SeekStart)
		var events []loadEvent
		if err == nil {
			events, err = readLog(f, one.node)
		}
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("read the log of %s: %w", one.node, err)
		}
		all = append(all, events...)
	}
	slices.SortStableFunc(all, func(a, b loadEvent) int { return a.at.Compare(b.at) })
	return all, nil
}

// readLog finds the lines that matter in a node's log, which is of package
// log/slog, TextHandler.
func readLog(in io.Reader, node string) (events []loadEvent, err error) {
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		stamp, rest, ok := strings.Cut(strings.TrimPrefix(lines.Text(), "time="), " ")
		at, err := time.Parse(time.RFC3339Nano, stamp)
		_, text, hasText := strings.Cut(rest, "msg=\"")
		if !ok || err != nil || !hasText {
			continue
		}
		if kind, about := eventOf(text, node); kind != 0 {
			events = append(events, loadEvent{at, kind, about})
		}
	}
	return events, lines.Err()
}

// eventOf tells what a line of a node's log is about, and whom.
func eventOf(text, node string) (loadEventKind, string) {
	for _, k := range []struct {
		begins string
		kind   loadEventKind
	}{
		{"the lease is over", leaseLost}, {"the lease was over", leaseBlinked}, {"answering", leaseHeld},
		{"no worker has ended a turn", workerStill},
	} {
		if strings.HasPrefix(text, k.begins) {
			return k.kind, node
		}
	}
	if victim, _, ok := strings.Cut(text, " was evicted:"); ok {
		return evicted, victim
	}
	return 0, ""
}
