package config

import (
	"net"
	"net/netip"
	"os"
	"time"
)

// Config is a file that makes sense.
type Config struct {
	Cluster  Cluster
	Node     Node
	Admin    Admin
	VIPs     []VIP
	Services []Service
	// Warnings are sentences about what is allowed and may bite.
	Warnings []string
}

// Cluster is equal on all nodes.
type Cluster struct {
	Name      string
	Interface string
	KeyFile   string
	Peers     []netip.Addr
	// TwoNodes is "", "witness" or "preferred".
	TwoNodes string
}

// Node is this node's own.
type Node struct {
	Name     string
	StateDir string
	// StopTimeout is how long running flows get at a stop.
	StopTimeout time.Duration
}

// Admin is how the daemon is asked.
type Admin struct {
	Socket string
}

// VIP is an address that the cluster answers for.
type VIP struct {
	// Address is the VIP with the length of its LAN's prefix.
	Address netip.Prefix
	MAC     net.HardwareAddr
	MACMode MACMode
}

// MACMode is how frames for the VIP reach every node.
type MACMode string

// MAC modes.
const (
	MACMulticast MACMode = "multicast"
	MACIGMP      MACMode = "igmp"
	MACUnicast   MACMode = "unicast"
)

// Service is one port of a VIP and the backend behind it.
type Service struct {
	Name     string
	Listen   netip.AddrPort
	Backend  netip.AddrPort
	Affinity Affinity
	Source   Source
}

// Affinity is what is hashed, by its name in the file.
type Affinity string

// Affinities.
const (
	SourceIP             Affinity = "source-ip"
	SourceNet            Affinity = "source-net"
	SourceIPPort         Affinity = "source-ip-port"
	SourceIPPortDestPort Affinity = "source-ip-port-dest-port"
)

// Source is the address that the backend sees.
type Source string

// Sources.
const (
	SourceTransparent Source = "transparent"
	SourcePlain       Source = "plain"
	SourceProxyV1     Source = "proxy-v1"
	SourceProxyV2     Source = "proxy-v2"
)

// Bounds of a file. The largest that makes sense has about 100 kB; the time
// that the TOML library takes grows with the square of what it is given.
const (
	MaxFileBytes   = 1 << 18
	MaxPeers       = 32
	MaxVIPs        = 16
	MaxServices    = 256
	MaxStopTimeout = 10 * time.Minute
)

// Defaults of keys that need not be written.
const (
	DefaultSocket      = "/run/onevoice/onevoice.sock"
	DefaultStateDir    = "/var/lib/onevoice"
	DefaultStopTimeout = 10 * time.Second
)

// Load reads the file at path.
func Load(path string) (*Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	host, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	return Parse(path, data, host)
}
