package control

import (
	"crypto/hkdf"
	"crypto/sha256"
	"net/netip"
	"slices"
	"time"

	"onevoice/admission"
	"onevoice/config"
	"onevoice/hashing"
	"onevoice/internal/rights"
	"onevoice/link"
	"onevoice/node"
	"onevoice/responder"
	"onevoice/stack"
)

// Types of messages from control to a worker.
const (
	// tellSettings is the first message to a new worker.
	tellSettings = "settings"
	// tellTakeUp is the first message of a new control process to a worker whose
	// own has died; with it come the page and the eventfd that wakes.
	tellTakeUp = "take-up"
	// askStatus is answered by an answer with the same ID.
	askStatus = "status"
	// tellStop makes the worker accept nothing new and end with its last flow.
	tellStop = "stop"
	// askHeld is answered with what the worker's flows are.
	askHeld = "held"
	// tellLists says which flows other nodes hold.
	tellLists = "lists"
	// tellEnd makes the worker end flows.
	tellEnd = "end"
	// askKill is answered with how many flows were ended.
	askKill = "kill"
	// tellPrefixes says what a file of prefixes says. To a new worker one for each
	// file of its settings follows them, in the order of config.PrefixFiles.
	tellPrefixes = "prefixes"
	// tellRetire makes the worker leave everything new to another beside it.
	tellRetire = "retire"
)

// Types of messages from a worker to control.
const (
	// sayReady: everything is open; it is the answer to settings and take-up.
	sayReady = "ready"
	// sayFailed is the answer to settings or take-up that could not be followed.
	sayFailed = "failed"
	sayAnswer = "answer"
	// sayBackend: a backend has changed.
	sayBackend = "backend"
	// sayHolding: a table is in force, or what is held under it has changed.
	sayHolding = "holding"
)

// WorkerSettings are what a worker needs to know. It does not get the cluster
// key, only the hash key that follows from it.
type WorkerSettings struct {
	Config *config.Config
	// Program is the version of the program. A worker of another serves no new flows.
	Program string
	// Self is this node's address on the interface.
	Self netip.Addr
	// Daemon is the first VIP of each interface that this host's daemon serves, by
	// which their workers are found; the first stands for the daemon.
	Daemon []netip.Addr
	// HashKey is in force until the page brings a mapping, and ListKey names
	// flows to other nodes.
	HashKey, ListKey hashing.Key
	// Capture is a file for the worker's frames, "" for none.
	Capture string
}

// NewWorkerSettings are those of a host that has the address self.
func NewWorkerSettings(c *config.Config, self netip.Addr, clusterKey []byte, capture string) (WorkerSettings, error) {
	list, err := hkdf.Key(sha256.New, clusterKey, nil, listKeyInfo, len(hashing.Key{}))
	if err != nil {
		return WorkerSettings{}, err
	}
	return WorkerSettings{Config: c, Self: self, Daemon: firstVIPs(c), HashKey: hashing.DeriveKey(clusterKey), ListKey: hashing.Key(list), Capture: capture}, nil
}

// firstVIPs is the first VIP of each interface.
func firstVIPs(c *config.Config) (out []netip.Addr) {
	for _, name := range c.Uplinks() {
		out = append(out, c.On(name).VIPs[0].Address.Addr())
	}
	return out
}

// listKeyInfo tells ListKey from other keys of the same cluster key (RFC 5869
// §3.2).
const listKeyInfo = "onevoice flow list key v1"

// paths are the paths of the VIPs by their names.
func (s *WorkerSettings) paths() (names []string) {
	for _, v := range s.Config.PathVIPs() {
		names = append(names, s.Config.Path(&v))
	}
	return names
}

// Path is the path of a VIP.
func (s *WorkerSettings) Path(vip int) int {
	return slices.Index(s.paths(), s.Config.Path(&s.Config.VIPs[vip]))
}

// ready is the body of sayReady.
type ready struct {
	Settings WorkerSettings
	// Retired: it was told so by an earlier control process.
	Retired bool
}

// failed is the body of sayFailed.
type failed struct {
	Error string
}

// statusWanted is the body of askStatus.
type statusWanted struct {
	Flows, Collect bool
}

// stopWanted is the body of tellStop.
type stopWanted struct {
	Grace time.Duration
}

// Holding is in which buckets of each service a worker may hold flows, half-open
// ones or SYN cookies of the last minute, as found under the table of a
// generation, whose predecessors' frames were sent by then.
type Holding struct {
	Generation uint64
	Services   []node.Bitmap
}

// heldWanted is the body of askHeld: a bitmap for each service.
type heldWanted struct {
	Services []node.Bitmap
}

// HeldFlows is what is held of the buckets that were asked for, by service, and
// the answer to askHeld.
type HeldFlows struct {
	// Generation is that of the table in force when the worker looked.
	Generation uint64
	// All: no worker of this host that was not asked may hold flows, by service. Workers
	// sets it.
	All      []bool
	Services [][]node.Held
}

// listsTold is the body of tellLists. It counts under the table of one
// generation alone.
type listsTold struct {
	Generation uint64
	Lists      []FlowList
}

// FlowList is the flows of a bucket that other nodes hold, see
// node.SetFlowLists. Service is its place in the configuration.
type FlowList struct {
	Service  int
	Bucket   uint8
	Complete bool
	Hashes   []uint64
}

// endWanted is the body of tellEnd: a bitmap for each service, and whether
// nobody is to be told.
type endWanted struct {
	Services []node.Bitmap
	Silent   bool
}

// Backend is what became of the backend of a service.
type Backend struct {
	Service string
	Up      bool
	// Error is what the last dial met, "" when it went through.
	Error string
}

// WorkerStatus is what a worker tells of itself.
type WorkerStatus struct {
	Process ProcessStatus `json:"process"`
	// Rights are what the process may, nil where nobody has looked.
	Rights *rights.Status `json:"rights,omitempty"`
	// Uplink is whose frames it serves: an interface, or a VLAN of it.
	Uplink string `json:"uplink"`
	// Version is that of the program that it runs.
	Version string `json:"version"`
	// Retired workers serve the flows that they have and take no new ones.
	Retired bool `json:"retired"`
	// Generation is that of the table in force.
	Generation uint64            `json:"generation"`
	Lease      LeaseStatus       `json:"lease"`
	Guard      GuardStatus       `json:"guard"`
	Filter     FilterStatus      `json:"filter"`
	Verdicts   map[string]uint64 `json:"verdicts"`
	// Direct is of the services that this host's own TCP and UDP serve, nil for none.
	Direct *DirectStatus `json:"direct,omitempty"`
	// Refused counts messages from control that made no sense.
	Refused  uint64                `json:"refused_messages"`
	Services []stack.ServiceStatus `json:"services"`
	// TurnedAway is how often each service has turned away what was new; nil when none
	// has rules for it.
	TurnedAway []admission.Counts `json:"turned_away,omitempty"`
	// Flood is of the flood of SYNs that lasts, nil while there is none.
	Flood      *FloodStatus      `json:"flood,omitempty"`
	Stranger   *StrangerStatus   `json:"stranger,omitempty"`
	Unbeliever *UnbelieverStatus `json:"unbeliever,omitempty"`
	Flows      FlowsStatus       `json:"flows"`
	// Prefixes is how many prefixes are in force, by file.
	Prefixes map[string]int `json:"prefixes,omitempty"`
	// Memory is "ample", "tight" or "full", see stack.Memory.
	Memory string `json:"memory"`
	// Neighbours is what it knows of where clients are.
	Neighbours responder.NeighbourCounters `json:"neighbours"`
	// Groups are those that it is a member of, in mac_mode igmp.
	Groups []GroupsStatus `json:"groups,omitempty"`
	// Datagrams are the flows of UDP services.
	Datagrams DatagramsStatus `json:"datagrams"`
	// Fragments are of datagrams that lack one.
	Fragments FragmentsStatus `json:"fragments"`
	// OwnHost is how many connections of this host itself it serves.
	OwnHost int `json:"own_host"`
	// NotReached are services that this host itself does not reach, for another
	// program has their port.
	NotReached []netip.AddrPort `json:"own_host_not_reached,omitempty"`
	// Changed says what is no longer so of the interface.
	Changed string             `json:"interface_changed,omitempty"`
	Device  link.Stats         `json:"device"`
	Loop    node.LoopStats     `json:"loop"`
	Running []stack.FlowStatus `json:"running,omitempty"`
}

// LeaseStatus is a worker's lease, in seconds from now.
type LeaseStatus struct {
	Held  bool    `json:"held"`
	Since float64 `json:"since_seconds"`
	Left  float64 `json:"left_seconds"`
}

// StrangerStatus is somebody who last claimed an address of ours in ARP.
type StrangerStatus struct {
	Address netip.Addr `json:"address"`
	MAC     string     `json:"mac"`
	From    string     `json:"from"`
	Seconds float64    `json:"seconds_ago"`
}

// UnbelieverStatus is a station that did not believe the answers in ARP.
type UnbelieverStatus struct {
	Address netip.Addr `json:"address"`
	MAC     string     `json:"mac"`
	VIP     netip.Addr `json:"vip"`
	// Times is how often it was answered in a row.
	Times   int     `json:"times"`
	Seconds float64 `json:"seconds_ago"`
}

// FlowsStatus are the running flows and what became of the others.
type FlowsStatus struct {
	Running int `json:"running"`
	Limit   int `json:"limit"`
	stack.Counters
}

// ProcessStatus is what a process takes of its host.
type ProcessStatus struct {
	PID        int    `json:"pid"`
	FDs        int    `json:"fds"`
	Goroutines int    `json:"goroutines"`
	HeapBytes  uint64 `json:"heap_bytes"`
	// HeapBytesAfterGC is set when the request asked for a collection.
	HeapBytesAfterGC uint64 `json:"heap_bytes_after_gc,omitempty"`
}
