package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// hostSettings are the rules, routes, addresses and group memberships of nodes.
type hostSettings map[string][]string

// note takes down a host's settings as they are now.
func (s hostSettings) note(h *Host) error {
	return h.Do(func() error {
		text, err := settingsNow()
		s[h.Name] = text
		return err
	})
}

func settingsNow() ([]string, error) {
	var out []string
	rules, err := netlink.RuleList(unix.AF_INET)
	if err != nil {
		return nil, err
	}
	for _, r := range rules {
		out = append(out, "rule "+r.String())
	}
	routes, err := netlink.RouteListFiltered(unix.AF_INET, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return nil, err
	}
	for _, r := range routes {
		out = append(out, "route "+r.String())
	}
	groups, err := os.ReadFile("/proc/thread-self/net/dev_mcast")
	if err != nil {
		return nil, err
	}
	for _, line := range strings.Split(strings.TrimSpace(string(groups)), "\n") {
		out = append(out, "group "+strings.Join(strings.Fields(line), " "))
	}
	slices.Sort(out)
	return out, nil
}

// underWatch makes a lab with a light service beside SSH, lets something happen in it,
// and takes it down. What n was told of that did not hold, the sniffer's verdict among
// it, is the error.
func underWatch(spec Spec, n *narrator, happens func(*watched) error) (err error) {
	before := hostSettings{}
	spec.Beat = true
	w, err := newWatched(DemoOptions{Spec: spec}, n, &before)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	if err := happens(w); err != nil {
		n.fail(err)
	}
	if err := w.takeDown(n, before); err != nil {
		return errors.Join(n.err(), err)
	}
	if n.err() == nil {
		n.title("Every claim held.")
	}
	return n.err()
}

// takeDown stops the daemons, compares the nodes' settings with those before,
// and tells the judge's verdict.
func (w *watched) takeDown(n *narrator, before hostSettings) error {
	n.title("The daemons stop")
	// Those that still run take over what the others had.
	if err := w.sniffer.Tell((*Judge).Moving); err != nil {
		return err
	}
	began := time.Now()
	for _, d := range w.Daemons {
		if err := d.Signal(syscall.SIGTERM); err != nil {
			return err
		}
		n.claim(d.Status().Ended == "exit 0", "%s ended cleanly (%s)", d.Host.Name, d.Status().Ended)
	}
	n.say("in %s", time.Since(began).Round(time.Millisecond))
	after := hostSettings{}
	for _, h := range w.LAN.Nodes() {
		if err := after.note(h); err != nil {
			return err
		}
		n.claim(slices.Equal(before[h.Name], after[h.Name]), "rules, routes and groups of %s are what they were", h.Name)
		if !slices.Equal(before[h.Name], after[h.Name]) {
			n.say("before: %s", strings.Join(before[h.Name], "; "))
			n.say("after:  %s", strings.Join(after[h.Name], "; "))
		}
	}
	if err := w.SSH.Close(); err != nil {
		return err
	}
	w.endBeats()
	w.endNames()
	left, err := othersLeft()
	if err != nil {
		return err
	}
	n.claim(len(left) == 0, "no process is left%s", strings.Join(left, ""))
	w.tellVerdict(n)
	return nil
}

// endTime bounds how long sessions of a service that was ended may linger.
const endTime = 2 * time.Second

// othersLeft names the processes of the lab beside its first one and this one,
// once those that are ending have ended.
func othersLeft() ([]string, error) {
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for began := time.Now(); ; <-ticker.C {
		left, err := others()
		if err != nil || len(left) == 0 || time.Since(began) > endTime {
			return left, err
		}
	}
}

func others() (names []string, err error) {
	if ours, err := ownProc(); err != nil || !ours {
		// A /proc of outside tells of others' processes, too.
		return nil, err
	}
	all, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	for _, e := range all {
		if _, err := strconv.Atoi(e.Name()); err != nil || e.Name() == "1" || e.Name() == strconv.Itoa(os.Getpid()) {
			continue
		}
		// It may end while it is looked at.
		if name, err := os.ReadFile(filepath.Join("/proc", e.Name(), "comm")); err == nil {
			names = append(names, ", but "+e.Name()+" "+strings.TrimSpace(string(name)))
		}
	}
	return names, nil
}

// tellVerdict tells what the sniffer saw.
func (w *watched) tellVerdict(n *narrator) {
	v, err := w.sniffer.Verdict()
	if err != nil {
		n.claim(false, "the sniffer heard everything (%v)", err)
		return
	}
	v.tell(n)
}

// String is for the narration of a status.
func (s DaemonStatus) String() string {
	if s.Running {
		return fmt.Sprintf("up %s, pid %d", time.Duration(s.Seconds*float64(time.Second)).Round(time.Second), s.PID)
	}
	return "stopped: " + s.Ended
}
