package bench

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"onevoice/lab"
)

// bed is a LAN with nodes, one client, and the services behind all paths on its
// first node.
type bed struct {
	lan *lab.LAN
	// macMode is the mac_mode of ours.
	macMode string
	node    *lab.Host
	client  *lab.Host
	dir     string
	servers []*server
	// prepared are ours by their files, one for each node, once they were started;
	// daemons are those that run.
	prepared map[string][]*lab.Daemon
	daemons  []*lab.Daemon
	// rate of requests, in a second, at which latency is measured.
	rate float64
	// socketBytes is what the kernel takes for one idle connection's end.
	socketBytes float64
}

// Ports of the services behind the paths, on the first node.
const (
	portHTTP = 8080
	portBulk = 5201
)

// newBed builds a LAN of so many nodes and starts the services.
func newBed(nodes int, macMode string) (b *bed, err error) {
	b = &bed{macMode: cmp.Or(macMode, MulticastMode), prepared: map[string][]*lab.Daemon{}, dir: filepath.Join(runDir(), fmt.Sprintf("bed%d", nodes))}
	if err := os.MkdirAll(b.dir, 0o755); err != nil {
		return nil, err
	}
	b.lan, err = lab.BuildLAN(lab.Spec{Nodes: nodes, Clients: 1, Addresses: 1, LAN: lab.Switch, MACMode: macMode})
	if err != nil {
		return nil, err
	}
	b.node, b.client = b.lan.Nodes()[0], b.lan.Clients()[0]
	if err := b.startServices(); err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

func (b *bed) startServices() error {
	for _, h := range b.lan.Hosts {
		if err := h.Do(applySettings); err != nil {
			return err
		}
	}
	for _, h := range b.lan.Nodes() {
		if err := h.Do(func() error { return routeSpoofed(b.client.Addrs[0]) }); err != nil {
			return fmt.Errorf("route of %s: %w", h.Name, err)
		}
	}
	conf, err := writePeerFile("backend.conf")
	if err != nil {
		return err
	}
	s, err := startServer(b.node, fmt.Sprintf("backend-%d", len(b.lan.Nodes())), "nginx", "-e", "stderr", "-c", conf)
	if err != nil {
		return err
	}
	b.servers = append(b.servers, s)
	return b.untilAccepts(at(b.node.Addrs[0], portHTTP), s.ended)
}

// hostSettings are what every host of a bed has, instead of what the machine
// below happens to have: the kernel's own defaults for TCP buffers, and nearly all ports
// for what it connects, as the manuals of proxies advise, for a port rests for a
// minute after its connection.
func hostSettings() [][2]string {
	return [][2]string{
		{"tcp_rmem", "4096 131072 6291456"},
		{"tcp_wmem", "4096 16384 4194304"},
		{"ip_local_port_range", "10000 65535"},
	}
}

// applySettings runs in the host's namespace.
func applySettings() error {
	for _, s := range hostSettings() {
		if err := os.WriteFile(filepath.Join("/proc/sys/net/ipv4", s[0]), []byte(s[1]), 0); err != nil {
			return fmt.Errorf("set net.ipv4.%s to %s: %w", s[0], s[1], err)
		}
	}
	return setCongestionControl()
}

// setCongestionControl chooses one that does not pace, so that no stream waits
// for a timer: the kernel's own default, or where the machine does not allow that
// in namespaces the one that every kernel does.
func setCongestionControl() (err error) {
	for _, name := range []string{"cubic", "reno"} {
		if err = os.WriteFile("/proc/sys/net/ipv4/tcp_congestion_control", []byte(name), 0); err == nil {
			return nil
		}
	}
	return fmt.Errorf("set net.ipv4.tcp_congestion_control: %w", err)
}

// congestionControl is what the thread's namespace has.
func congestionControl() (string, error) {
	text, err := os.ReadFile("/proc/sys/net/ipv4/tcp_congestion_control")
	return strings.TrimSpace(string(text)), err
}

// acceptTimeout bounds how long a path may take to serve after it was switched on.
const acceptTimeout = 15 * time.Second

// untilListening waits until somebody listens on a port of the node. It does not
// connect: iperf3 would take that for its client.
func (b *bed) untilListening(port uint16, ended func() error) error {
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for began := time.Now(); ; <-ticker.C {
		var table []byte
		err := b.node.Do(func() (err error) { table, err = os.ReadFile("/proc/thread-self/net/tcp"); return err })
		if err != nil || listens(string(table), port) {
			return err
		}
		if err := ended(); err != nil {
			return err
		}
		if time.Since(began) > acceptTimeout {
			return fmt.Errorf("nobody listens on port %d after %v", port, acceptTimeout)
		}
	}
}

// listens reads the kernel's list of sockets (proc_pid_net(5)): number, local
// address and port, those of the other end, and the state.
func listens(table string, port uint16) bool {
	const listenState = "0A"
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) > 3 && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", port)) && f[3] == listenState {
			return true
		}
	}
	return false
}

// untilAccepts waits until a connection from the client is taken, or the program
// that should take it has ended.
func (b *bed) untilAccepts(to netip.AddrPort, ended func() error) error {
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for began := time.Now(); ; <-ticker.C {
		err := b.try(to)
		if err == nil {
			return nil
		}
		if err := ended(); err != nil {
			return err
		}
		if time.Since(began) > acceptTimeout {
			return fmt.Errorf("%s takes no connection after %v: %w", to, acceptTimeout, err)
		}
	}
}

// tryTimeout bounds one try, which may meet silence.
const tryTimeout = 300 * time.Millisecond

// try makes one connection from the client.
func (b *bed) try(to netip.AddrPort) error {
	return b.client.Do(func() error {
		c, err := net.DialTimeout("tcp4", to.String(), tryTimeout)
		if err != nil {
			return err
		}
		return c.Close()
	})
}

// close ends everything in the bed.
func (b *bed) close() error {
	errs := []error{b.stopDaemons()}
	for _, s := range b.servers {
		errs = append(errs, s.end())
	}
	return errors.Join(append(errs, b.lan.Close())...)
}
