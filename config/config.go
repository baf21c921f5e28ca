package config

import (
	"net"
	"net/netip"
	"os"
	"time"
)

// Config is a file that makes sense.
type Config struct {
	Cluster Cluster
	Node    Node
	Admin   Admin
	VIPs    []VIP
	// Access is of all services.
	Access   Access
	Services []Service
	Pins     []Pin
	// Warnings are sentences about what is allowed and may bite.
	Warnings []string
}

// Cluster is equal on all nodes.
type Cluster struct {
	Name      string
	Interface string
	KeyFile   string
	// OtherKeyFile is a key that is accepted besides, "" for none.
	OtherKeyFile string
	// Peers are the nodes' addresses on Interface.
	Peers []netip.Addr
	// Controls are their addresses on a management network, in the order of
	// Peers; the zero Addr is that of a peer who has none.
	Controls []netip.Addr
	// ControlPort is the UDP port of the datagrams between the peers' addresses.
	ControlPort uint16
	// TwoNodes is TwoNodesWitness or TwoNodesPreferred when there are two peers,
	// else "".
	TwoNodes string
	// Witness is not valid when there is none. It may be with every even number
	// of peers.
	Witness netip.AddrPort
	Timing  Timing
}

// What two nodes do when one does not hear the other.
const (
	TwoNodesWitness   = "witness"
	TwoNodesPreferred = "preferred"
)

// Timing is how soon a node is given up, by its name in the file.
type Timing string

// Timings.
const (
	TimingFast Timing = "fast"
	TimingLAN  Timing = "lan"
	TimingCalm Timing = "calm"
)

// Node is this node's own.
type Node struct {
	Name     string
	StateDir string
	// User is as whom the daemon runs, "" for DefaultUser where root starts it and that
	// user is there, and else for who starts it.
	User string
	// StopTimeout is how long running flows get at a stop.
	StopTimeout time.Duration
	// Weight is this node's share of the buckets beside the others', 1 to
	// MaxWeight.
	Weight int
	// Voter is nil when the rule decides: the first peers, an odd number with
	// the witness.
	Voter *bool
	// Agent says 0 to 100, the percentage of Weight that counts.
	Agent         Agent
	AgentInterval time.Duration
	// Ping are hosts whose losses and round-trip times lower the weight.
	Ping []netip.Addr
	// GatewayCheck: a gateway that no longer answers takes the node out.
	GatewayCheck bool
	// MemoryMiB bounds what each worker of this node may have in use, 0 for half of the
	// host's.
	MemoryMiB int
}

// Agent is where the load comes from: a program that prints it, or a file that
// holds it. There is none when both are "".
type Agent struct {
	Program string // absolute path
	Args    []string
	File    string // absolute path
}

// Admin is how the daemon is asked.
type Admin struct {
	Socket string
	// Listen is where the page is served, the zero value for nowhere. TokenFile has
	// what opens it, "" for nothing; then Listen is on loopback.
	Listen    netip.AddrPort
	TokenFile string
}

// VIP is an address that the cluster answers for.
type VIP struct {
	// Address is the VIP with the length of its LAN's prefix.
	Address netip.Prefix
	MAC     net.HardwareAddr
	MACMode MACMode
	// Uplink is where its clients are.
	Uplink Uplink
}

// MACMode is how frames for the VIP reach every node.
type MACMode string

// MAC modes.
const (
	MACMulticast MACMode = "multicast"
	MACIGMP      MACMode = "igmp"
	MACUnicast   MACMode = "unicast"
)

// Service is a port of a VIP, or a range of them, and the backend behind it.
type Service struct {
	Name   string
	Listen netip.AddrPort
	// UDP: its ports are UDP's, not TCP's.
	UDP bool
	// LastPort ends a range of ports that begins with Listen's, 0 for one port.
	LastPort uint16
	Backend  netip.AddrPort
	// BackendLast ends a range as long as Listen's, of which each port serves the
	// one in the same place; 0 for one port that serves all.
	BackendLast uint16
	// BackendPath is a unix socket in Backend's place, "" for none.
	BackendPath string
	Affinity    Affinity
	// Direct: this host's own TCP or UDP serves the clients, and Backend is Listen.
	Direct bool
	Source Source
	// Idle is how long a flow of UDP lasts that nothing is said in.
	Idle  time.Duration
	Check Check
	// Sharing is as another system shares, where that is wanted.
	Sharing Sharing
	// Access is this service's own, beside Config.Access.
	Access     Access
	DenyAction Action
	Limit      Limit
}

// Check is how a service is watched.
type Check struct {
	Kind CheckKind
	// Target is the backend as address:port for CheckTCP, CheckUDP and CheckSSHBanner, or
	// "unix:" and its path; a URL for CheckHTTP, and the absolute path of a program
	// for CheckExec.
	Target string
	Args   []string // of CheckExec
	// Backend: the backend is asked, on connections that begin as its clients' do.
	// A CheckHTTP may ask another.
	Backend bool
	// Interval is from probe to probe. Timeout, at most Interval, is when a
	// probe without an answer has failed.
	Interval, Timeout time.Duration
	// Rise good answers in a row bring the service up, Fall bad ones take it
	// down.
	Rise, Fall int
	// HoldDown is how long the service stays down at least.
	HoldDown time.Duration
}

// CheckKind is how a check asks, by its name in the file.
type CheckKind string

// Check kinds.
const (
	CheckTCP       CheckKind = "tcp"
	CheckUDP       CheckKind = "udp"
	CheckSSHBanner CheckKind = "ssh-banner"
	CheckHTTP      CheckKind = "http"
	CheckExec      CheckKind = "exec"
)

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
	MaxPings       = 8
	MaxWeight      = 1000
	MinMemoryMiB   = 64
	MaxMemoryMiB   = 1 << 20
	MaxStopTimeout = 10 * time.Minute

	MinCheckInterval = 200 * time.Millisecond
	MaxCheckInterval = time.Hour
	// MinBannerInterval keeps clear of sshd's PerSourcePenalties, a second for
	// each connection without a login (sshd_config(5)).
	MinBannerInterval = 2 * time.Second
	MaxRiseFall       = 100
	MaxHoldDown       = time.Hour
	MinIdle           = time.Second
	MaxIdle           = time.Hour

	maxPort      = 1<<16 - 1
	maxArguments = 64
)

// Defaults of keys that need not be written.
const (
	DefaultSocket      = "/run/onevoice/onevoice.sock"
	DefaultStateDir    = "/var/lib/onevoice"
	DefaultUser        = "onevoice"
	DefaultStopTimeout = 10 * time.Second

	DefaultControlPort   = 7177
	DefaultWeight        = 100
	DefaultAgentInterval = 5 * time.Second
	DefaultCheckInterval = 2 * time.Second
	DefaultCheckTimeout  = time.Second
	DefaultCheckRise     = 2
	DefaultCheckFall     = 3
	DefaultHoldDown      = 10 * time.Second
	DefaultIdle          = 30 * time.Second
)

// Load reads the file at path.
func Load(path string) (*Config, error) {
	c, _, err := Read(path)
	return c, err
}

// Read is Load, and returns the file's text, too, for Changes.
func Read(path string) (*Config, []byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, unread(path, err)
	}
	host, err := os.Hostname()
	if err != nil {
		return nil, nil, err
	}
	c, err := Parse(path, data, host)
	return c, data, err
}
