package lab

import (
	"fmt"
	"os"
	"slices"
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

// takeDown stops the daemons, compares the nodes' settings with those before,
// and tells the judge's verdict.
func (w *watched) takeDown(n *narrator, before hostSettings) error {
	n.title("The daemons stop")
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
	w.tellVerdict(n)
	return nil
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
		return fmt.Sprintf("running for %s, pid %d", time.Duration(s.Seconds*float64(time.Second)).Round(time.Second), s.PID)
	}
	return "stopped: " + s.Ended
}
