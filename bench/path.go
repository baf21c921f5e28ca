package bench

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"onevoice/lab"
)

// path is a way from the client to the services on the node.
type path struct {
	Name string
	// Title is for tables.
	Title string
	// needs are the programs without which it cannot be measured.
	needs []string
	// http and bulk are where the client finds the services, and dns, where the path
	// can do that.
	http, bulk, dns netip.AddrPort
	// mac is where frames to it go.
	mac func(*bed) net.HardwareAddr
	// on switches it on, off switches it off. off is called also after an on that
	// failed.
	on  func(context.Context, *bed) error
	off func(*bed) error
	// host: the host's own stack serves, at the address of http, bulk and dns.
	host bool
	// processes are its programs while it is on; nil for what is in the kernel.
	processes func(*bed) ([]int, error)
}

// Names of paths.
const (
	Kernel              = "kernel"
	XTCluster           = "xt_cluster"
	HAProxy             = "haproxy"
	Nginx               = "nginx"
	OneVoice            = "onevoice"
	OneVoiceTransparent = "onevoice-transparent"
	OneVoiceDirect      = "onevoice-direct"
)

// PathNames are all of them, in the order of tables.
func PathNames() []string {
	return []string{Kernel, XTCluster, HAProxy, Nginx, OneVoice, OneVoiceTransparent, OneVoiceDirect}
}

// node1 is the address of the first node of every bed.
func node1() netip.Addr { return netip.MustParseAddr("10.77.0.11") }

// sharedByKernel is the address that xt_cluster.rules are about.
func sharedByKernel() netip.Addr { return netip.MustParseAddr("10.77.0.3") }

func at(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }

// nodesMAC is the first node's own.
func nodesMAC(b *bed) net.HardwareAddr { return b.node.MAC }

// newPath makes a path by its name.
func newPath(name string) (*path, error) {
	switch name {
	case Kernel:
		return &path{Name: name, Title: "kernel", http: at(node1(), portHTTP), bulk: at(node1(), portBulk), dns: at(node1(), portDNS), mac: nodesMAC, host: true,
			on: func(context.Context, *bed) error { return nil }, off: func(*bed) error { return nil }}, nil
	case XTCluster:
		return newXTCluster(), nil
	case HAProxy:
		return newServerPath(name, "HAProxy", 8081, 5202, "haproxy.cfg", "haproxy", "-db", "-f"), nil
	case Nginx:
		p := newServerPath(name, "nginx", 8082, 5203, "nginx.conf", "nginx", "-e", "stderr", "-c")
		p.dns = at(node1(), 5301)
		return p, nil
	case OneVoice:
		return newOneVoice(name, "onevoice", ownProxy, 8083, 5204, 5305), nil
	case OneVoiceTransparent:
		return newOneVoice(name, "onevoice, transparent", ownProxy, 8084, 5205, 5306), nil
	case OneVoiceDirect:
		p := newOneVoice(name, "onevoice, direct", ownDirect, portHTTP, portBulk, portDNS)
		p.host = true
		return p, nil
	}
	return nil, fmt.Errorf("there is no path %q; write some of %s", name, strings.Join(PathNames(), ", "))
}

// newServerPath is a proxy that is a program with one file of settings, which
// comes behind the arguments.
func newServerPath(name, title string, http, bulk uint16, file string, argv ...string) *path {
	p := &path{Name: name, Title: title, needs: []string{argv[0]}, http: at(node1(), http), bulk: at(node1(), bulk), mac: nodesMAC}
	var s *server
	p.on = func(_ context.Context, b *bed) error {
		conf, err := writePeerFile(file)
		if err != nil {
			return err
		}
		if s, err = startServer(b.node, name, append(slices.Clone(argv), conf)...); err != nil {
			return err
		}
		return b.untilAccepts(p.http, s.ended)
	}
	p.processes = func(*bed) ([]int, error) { return s.processes() }
	p.off = func(*bed) error {
		defer func() { s = nil }()
		return s.end()
	}
	return p
}

// newOneVoice is ours with one of its files, by one of the ports on which it serves the
// same services.
func newOneVoice(name, title, file string, http, bulk, dns uint16) *path {
	p := &path{Name: name, Title: title, http: at(lab.VIP(), http), bulk: at(lab.VIP(), bulk), dns: at(lab.VIP(), dns),
		mac: func(b *bed) net.HardwareAddr { return b.lan.Spec.ClusterMAC() }}
	p.on = func(ctx context.Context, b *bed) error {
		if err := b.startDaemons(ctx, file); err != nil {
			return err
		}
		return b.untilAccepts(p.http, b.daemonEnded)
	}
	p.processes = func(b *bed) ([]int, error) { return b.daemons[0].Processes() }
	p.off = func(b *bed) error { return b.stopDaemons() }
	return p
}
