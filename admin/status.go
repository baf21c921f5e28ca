package admin

import (
	"fmt"
	"reflect"
	"strings"

	"onevoice/admission"
	"onevoice/config"
	"onevoice/control"
	"onevoice/internal/rights"
	"onevoice/link"
	"onevoice/node"
	"onevoice/stack"
)

// Status is the answer to GET /v1/status.
type Status struct {
	Node    string  `json:"node"`
	Cluster string  `json:"cluster"`
	Version string  `json:"version"`
	Uptime  float64 `json:"uptime_seconds"`
	// Phase is "blank", "joining", "member" or "failed"; Index the last entry of
	// the log that this node has applied. Leased: it may answer for what it owns.
	Phase  string `json:"phase"`
	Index  uint64 `json:"index"`
	Leased bool   `json:"leased"`
	// Warnings are sentences about what is wrong now, worst first.
	Warnings []string `json:"warnings"`
	// News are sentences about what goes on and harms nobody.
	News []string `json:"news,omitempty"`
	// Found are those of Warnings that `onevoice doctor` finds by itself.
	Found    []string        `json:"found_by_doctor,omitempty"`
	VIPs     []VIPStatus     `json:"vips"`
	Services []ServiceStatus `json:"services"`
	Nodes    []NodeStatus    `json:"nodes"`
	// Foreign are nodes of other systems that own buckets.
	Foreign []ForeignStatus `json:"foreign,omitempty"`
	// Verdicts, Filtered, Flows, Device, Loop and Running are of all workers together, and
	// Workers of each.
	Verdicts map[string]uint64 `json:"verdicts"`
	Filtered Filtered          `json:"filtered"`
	// Rulings are frames by what the programs of the direct path have decided about
	// them; nil without such services.
	Rulings   map[string]uint64       `json:"rulings,omitempty"`
	Flows     control.FlowsStatus     `json:"flows"`
	Datagrams control.DatagramsStatus `json:"datagrams"`
	Fragments control.FragmentsStatus `json:"fragments"`
	Device    link.Stats              `json:"device"`
	Loop      node.LoopStats          `json:"loop"`
	// Process is the control process, Control what its loop did, and Lists the
	// lists of flows that it exchanged.
	Process control.ProcessStatus `json:"process"`
	// Rights are what the control process may.
	Rights  *rights.Status         `json:"rights,omitempty"`
	Control control.LoopStats      `json:"control"`
	Lists   control.ListCounts     `json:"lists"`
	Workers []control.WorkerStatus `json:"workers"`
	// PrefixFiles are allow_file and deny_file.
	PrefixFiles []control.PrefixFileStatus `json:"prefix_files,omitempty"`
	Table       map[string][]string        `json:"table,omitempty"`
	Running     []stack.FlowStatus         `json:"running,omitempty"`
}

// Filtered counts frames that the kernel dropped before a worker saw them, and so
// without a verdict; see control.FilterStatus.
type Filtered struct {
	Foreign uint64 `json:"by_socket_filter"`
	ForHost uint64 `json:"by_tcx"`
	// AnsweredSYNs were not dropped, but answered with SYN cookies. They have a verdict.
	AnsweredSYNs uint64 `json:"syns_answered_by_tcx"`
}

// Active is the worker that takes what is new, nil when there is none.
func (s *Status) Active() *control.WorkerStatus {
	for i := range s.Workers {
		if !s.Workers[i].Retired {
			return &s.Workers[i]
		}
	}
	return nil
}

// Sum fills in what is of all workers together, and warns of backends that are
// down.
func (s *Status) Sum() {
	s.Verdicts = map[string]uint64{}
	for i := range s.Workers {
		w := &s.Workers[i]
		for name, n := range w.Verdicts {
			s.Verdicts[name] += n
		}
		if w.Direct != nil && s.Rulings == nil {
			s.Rulings = map[string]uint64{}
		}
		if w.Direct != nil {
			for name, n := range w.Direct.Rulings {
				s.Rulings[name] += n
			}
		}
		s.Filtered.Foreign += w.Filter.Foreign
		s.Filtered.ForHost += w.Filter.ForHost
		s.Filtered.AnsweredSYNs += w.Filter.AnsweredSYNs
		addAll(&s.Flows, &w.Flows)
		addAll(&s.Datagrams, &w.Datagrams)
		addAll(&s.Fragments, &w.Fragments)
		addAll(&s.Device, &w.Device)
		addAll(&s.Loop, &w.Loop)
		s.Loop.LongestTurn = max(s.Loop.LongestTurn, w.Loop.LongestTurn)
		s.Running = append(s.Running, w.Running...)
		w.Running = nil
	}
	for _, svc := range s.Services {
		// What a check says is in the warnings about the cluster.
		if !svc.Up && svc.Reason == "" {
			s.Warnings = append(s.Warnings, noBackend(&svc))
		}
	}
}

// noBackend says that a service has nobody behind it.
func noBackend(s *ServiceStatus) string {
	if s.Backend == config.DirectBackend {
		return fmt.Sprintf("service %s: no program listens on %s, so the kernel resets its clients; have it listen there or at all addresses, or write path = \"netstack\" and a backend", s.Name, s.Listen)
	}
	return fmt.Sprintf("service %s: the backend %s %s", s.Name, s.Backend, without(s.Listen))
}

// without is what it means that a service's backend is not there.
func without(listen string) string {
	if strings.HasPrefix(listen, "udp://") {
		return "has no program at its port; clients are told that theirs is unreachable"
	}
	return "does not accept; clients are reset"
}

// addAll adds the counters of one struct to those of another of its kind.
func addAll[T any](to, from *T) { addFields(reflect.ValueOf(to).Elem(), reflect.ValueOf(from).Elem()) }

func addFields(to, from reflect.Value) {
	for i := range to.NumField() {
		switch f := to.Field(i); f.Kind() {
		case reflect.Struct:
			addFields(f, from.Field(i))
		case reflect.Uint64:
			f.SetUint(f.Uint() + from.Field(i).Uint())
		case reflect.Int:
			f.SetInt(f.Int() + from.Field(i).Int())
		}
	}
}

// VIPStatus is one address of the cluster.
type VIPStatus struct {
	Address string `json:"address"`
	MAC     string `json:"mac"`
	MACMode string `json:"mac_mode"`
}

// ServiceStatus is one service as this node sees it.
type ServiceStatus struct {
	stack.ServiceStatus
	Affinity string `json:"affinity"`
	// Hash is another system's, "" for our own.
	Hash string `json:"hash,omitempty"`
	// Buckets of this node's share, of how many.
	Buckets   int `json:"buckets"`
	BucketsIn int `json:"buckets_in_all"`
	// Reason is why its check calls it down, one line.
	Reason string `json:"reason,omitempty"`
	// TurnedAway is how often what was new was turned away here; nil without rules
	// for it.
	TurnedAway *admission.Counts `json:"turned_away,omitempty"`
}

// ForeignStatus is a node of another system that shares services with the cluster, and
// the numbers that are its own, as that system counts.
type ForeignStatus struct {
	Name    string           `json:"name"`
	Numbers map[string][]int `json:"numbers"`
}

// NodeStatus is one member of the cluster, as this node sees it.
type NodeStatus struct {
	Name    string `json:"name"`
	Address string `json:"address"`
	ID      string `json:"id"`
	// State is StateOf it.
	State   string `json:"state"`
	Self    bool   `json:"self"`
	Voter   bool   `json:"voter"`
	Leader  bool   `json:"leader"`
	Witness bool   `json:"witness"`
	// In: it may own buckets, under its epoch. Leased: it said so last, Heard
	// seconds ago, negative for never.
	In     bool    `json:"in"`
	Leased bool    `json:"leased"`
	Epoch  uint64  `json:"epoch"`
	Heard  float64 `json:"heard_seconds_ago"`
	// Spoke is how long ago its last datagram to this host alone came in, seconds,
	// negative for never. One that speaks and is not heard is kept from the shared MAC.
	Spoke float64 `json:"datagram_seconds_ago"`
	// Orphaned: it was evicted and is taken for dead.
	Orphaned bool `json:"orphaned"`
	// Weight is its share of the buckets, of which Percent counts by its load.
	Weight   uint32 `json:"weight"`
	Percent  uint8  `json:"percent"`
	Draining bool   `json:"draining"`
	// Slow: it has just come and takes its share bit by bit.
	Slow bool `json:"slow_start"`
	// Down are the services that it says are down.
	Down []string `json:"down,omitempty"`
	// Buckets is its share of the first VIP's table, BucketsOf those of all
	// tables, and DrainsOf the buckets in which it may hold older flows.
	Buckets   int            `json:"buckets"`
	BucketsOf map[string]int `json:"buckets_of"`
	DrainsOf  map[string]int `json:"drains_of"`
	// Flows are those that it serves, and Hears the names of the nodes that it hears on
	// the shared MAC, as it has told Told seconds ago: negative for never, and then
	// Flows is so, too. A witness has no flows, and an older version tells of none.
	Flows int      `json:"flows"`
	Hears []string `json:"hears,omitempty"`
	Told  float64  `json:"told_seconds_ago"`
}
