package report

import (
	"encoding/json"
	"fmt"
	"time"
)

// Time is a time or a length of time, as seconds in JSON.
type Time time.Duration

// MarshalJSON implements json.Marshaler.
func (t Time) MarshalJSON() ([]byte, error) {
	return json.Marshal(float64(time.Duration(t).Microseconds()) / 1e6)
}

// String is for people.
func (t Time) String() string {
	if d := time.Duration(t); d < 100*time.Millisecond {
		return fmt.Sprintf("%.3g ms", d.Seconds()*1000)
	}
	return fmt.Sprintf("%.3f s", time.Duration(t).Seconds())
}

// Report is one run.
type Report struct {
	// Name is the scenario's, "" for one of the command line; Title says in a line
	// what it is, About in sentences why.
	Name  string   `json:"scenario,omitempty"`
	Title string   `json:"title"`
	About string   `json:"about,omitempty"`
	Links []string `json:"links,omitempty"`
	// Command makes this run again.
	Command  string    `json:"command"`
	Settings []Setting `json:"settings"`
	Duration Time      `json:"duration"`

	Timeline []Event `json:"timeline"`
	// Untold is how many events there were beyond MaxEvents.
	Untold  int       `json:"untold,omitempty"`
	Answers []Answers `json:"answers"`
	Nodes   []Node    `json:"nodes"`
	// Samples are the nodes' shares over time, in the order of Nodes.
	Samples  []Sample `json:"samples"`
	Sessions Sessions `json:"sessions"`
	Moved    Moved    `json:"moved"`
	// Clients are those of a replayed capture, the busiest first.
	Clients []Client `json:"clients,omitempty"`
	// Failover is the longest time for which some bucket had no owner after all
	// had one, Waited the longest for which a client got no answer at all.
	Failover Time `json:"failover"`
	Waited   Time `json:"waited"`

	Findings []Finding `json:"findings"`
	// Expected are the codes of the findings that were to come, empty for none;
	// AsExpected tells whether just these came.
	Expected   []string `json:"expected"`
	AsExpected bool     `json:"as_expected"`
	// Quiet are faults that never struck anything.
	Quiet []string `json:"faults_that_struck_nothing,omitempty"`
	// Limits are what this version's node cannot do, and what stood in for it.
	Limits []string `json:"limits,omitempty"`
}

// MaxEvents bounds a timeline.
const MaxEvents = 400

// Setting is one of the run's, as the command line has it.
type Setting struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// Kind is what an event is about.
type Kind string

// The kinds.
const (
	Cluster Kind = "cluster" // what nodes say
	Fault   Kind = "fault"
	Shares  Kind = "shares"
	LAN     Kind = "lan"
	Clients Kind = "clients"
)

// Event is a line of the timeline.
type Event struct {
	At   Time   `json:"at"`
	Kind Kind   `json:"kind"`
	Text string `json:"text"`
}

// Answers counts requests of one kind by how many nodes answered.
type Answers struct {
	What  string `json:"what"`
	Asked int    `json:"asked"`
	One   int    `json:"one"`
	None  int    `json:"none"`
	More  int    `json:"more"`
}

// Node is one node at the end.
type Node struct {
	Name string `json:"name"`
	// Buckets it answers for, of the service; Served connections; Clients whose
	// last connection it served.
	Buckets int `json:"buckets"`
	Served  int `json:"served"`
	Clients int `json:"clients"`
	// Heard is how many frames came to its port, those for others among them.
	Heard uint64 `json:"frames_heard"`
	// Alive: it runs at the end.
	Alive bool `json:"alive"`
}

// Sample is who answered for how many buckets at a time.
type Sample struct {
	At      Time  `json:"at"`
	Buckets []int `json:"buckets"`
}

// Sessions are the long connections.
type Sessions struct {
	Open int `json:"open"`
	// Untouched went on to the end. Reset were ended by a reset that their dead
	// node's users deserve, SlowestReset after the death; Cut by one though their
	// node lived. Hanging said something and had no answer at the end.
	Untouched    int  `json:"untouched"`
	Reset        int  `json:"reset"`
	SlowestReset Time `json:"slowest_reset"`
	Cut          int  `json:"cut"`
	Hanging      int  `json:"hanging"`
}

// Moved is how many clients came to another node than before.
type Moved struct {
	// Clients were served in the beginning and at the end, Moved of them by
	// different nodes.
	Clients int `json:"clients"`
	Moved   int `json:"moved"`
	// Kernel is how many CLUSTERIP's and xt_cluster's hash would have moved for the
	// same change of the number of nodes; negative when that did not change.
	Kernel int `json:"kernel_hash"`
}

// Client is one of a replayed capture.
type Client struct {
	Address     string `json:"address"`
	Frames      int    `json:"frames"`
	Connections int    `json:"connections"`
	// Nodes answered its connections, or its pings if there are none.
	Nodes []string `json:"nodes"`
}

// MostClients is how many clients text and page list.
const MostClients = 30

// Finding is something that the network's administrator should know.
type Finding struct {
	Code string `json:"code"`
	Text string `json:"text"`
	Mend string `json:"mend,omitempty"`
}

// Tell adds an event, up to MaxEvents.
func (r *Report) Tell(at time.Duration, kind Kind, format string, args ...any) {
	if len(r.Timeline) >= MaxEvents {
		r.Untold++
		return
	}
	r.Timeline = append(r.Timeline, Event{Time(at), kind, fmt.Sprintf(format, args...)})
}

// Verdict is the outcome in a line.
func (r *Report) Verdict() string {
	found := "healthy"
	if len(r.Findings) > 0 {
		found = ""
		for i, f := range r.Findings {
			if i > 0 {
				found += ", "
			}
			found += f.Code
		}
	}
	switch {
	case r.AsExpected && len(r.Findings) > 0:
		return found + ", as expected of this network"
	case r.AsExpected:
		return found
	case len(r.Expected) > 0:
		want := ""
		for i, c := range r.Expected {
			if i > 0 {
				want += ", "
			}
			want += c
		}
		return found + "; expected was: " + want
	}
	return found
}
