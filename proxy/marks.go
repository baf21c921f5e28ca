package proxy

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A transparent backend on an address of this host that is not loopback's speaks to
// clients of its own, too, so a rule "from ADDR" would lead those answers astray. A
// mark tells ours: the connection to the backend has it (SO_MARK), loopback leaves
// it on the packets, and the sockets that the backend accepts, and the resets where
// nothing listens, take it over:
//
//	sysctl net.ipv4.tcp_fwmark_accept=1 net.ipv4.fwmark_reflect=1
//	ip rule add priority 7072 fwmark MARK iif lo lookup TABLE
//
// (ip-sysctl.rst of the kernel). No packet of the network has a mark, unless a rule
// of the host's puts one on it.

// markPriority is that of the rule when both settings were on before; one more for
// the first that was off, two more for the second. So whoever takes the rule away
// knows what else to take back, after a crash, too.
const markPriority = 7072

// markSettings are the two, in the order of the priority's bits.
func markSettings() [2]string {
	return [2]string{"/proc/sys/net/ipv4/tcp_fwmark_accept", "/proc/sys/net/ipv4/fwmark_reflect"}
}

// MarkFor is the mark that belongs to the daemon of a VIP.
func MarkFor(vip netip.Addr) uint32 { return uint32(TableFor(vip)) }

// mark is that of the table's daemon.
func (r *Routes) mark() uint32 { return uint32(r.table) }

// installMarks turns the settings on and adds the rule.
func (r *Routes) installMarks() error {
	if r.there != nil {
		if there, err := r.rules(); err != nil || slices.ContainsFunc(there, func(one netlink.Rule) bool { return isMark(&one) }) {
			return err
		}
	}
	rule := r.rule(netip.IPv4Unspecified())
	rule.Mark, rule.Priority = r.mark(), markPriority
	for i, name := range markSettings() {
		old, err := os.ReadFile(name)
		if err != nil {
			return fmt.Errorf("proxy: this kernel cannot mark the answers of a backend that is not on loopback: %w", err)
		}
		if len(old) > 0 && old[0] == '0' {
			rule.Priority |= 1 << i
		}
	}
	// The rule comes first, for it remembers what was changed.
	if err := netlink.RuleAdd(rule); err != nil {
		return fmt.Errorf("proxy: add rule for mark %#x: %w", rule.Mark, err)
	}
	for i, name := range markSettings() {
		if rule.Priority&(1<<i) == 0 {
			continue
		}
		if err := os.WriteFile(name, []byte("1"), 0); err != nil {
			return fmt.Errorf("proxy: a transparent backend that is not on loopback needs net.ipv4.tcp_fwmark_accept = 1 and net.ipv4.fwmark_reflect = 1, which this program may not set; set them in /etc/sysctl.d: %w", err)
		}
	}
	return nil
}

// removeMark takes a rule of a mark away. The settings go back with the last one;
// before that they are another daemon's to take back.
func (r *Routes) removeMark(rule *netlink.Rule) error {
	if err := netlink.RuleDel(rule); err != nil {
		return err
	}
	changed := rule.Priority - markPriority
	if changed == 0 {
		return nil
	}
	all, err := netlink.RuleList(unix.AF_INET)
	if err != nil {
		return fmt.Errorf("proxy: list rules: %w", err)
	}
	for i := range all {
		if other := &all[i]; isMark(other) {
			heir := *other
			if heir.Priority |= changed; heir.Priority == other.Priority {
				return nil
			}
			return errors.Join(netlink.RuleAdd(&heir), netlink.RuleDel(other))
		}
	}
	var errs []error
	for i, name := range markSettings() {
		if changed&(1<<i) != 0 {
			errs = append(errs, os.WriteFile(name, []byte("0"), 0))
		}
	}
	return errors.Join(errs...)
}

// isMark reports a rule of installMarks.
func isMark(rule *netlink.Rule) bool {
	return rule.Protocol == routeProtocol && rule.Mark != 0 && rule.Priority&^3 == markPriority
}

// TryMark reports whether this process may mark a socket, as a transparent backend that
// is not on loopback needs: os.ErrPermission when it may not.
func TryMark() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	return os.NewSyscallError("setsockopt SO_MARK", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, 1))
}
