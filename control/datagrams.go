package control

import (
	"time"

	"onevoice/datagram"
	"onevoice/stack"
)

// DatagramsStatus are the flows of UDP services and what became of others.
type DatagramsStatus struct {
	Flows int `json:"flows"`
	Limit int `json:"limit"`
	datagram.Counters
}

// FragmentsStatus are datagrams of which a fragment is waited for, and the bytes that
// they take; and how many were given up, for the rest did not come in time or others
// needed the room.
type FragmentsStatus struct {
	Waiting  int    `json:"waiting"`
	Bytes    int    `json:"bytes"`
	TimedOut uint64 `json:"timed_out"`
	GivenUp  uint64 `json:"given_up"`
}

// services are those of both protocols, in the order of the configuration.
func (g *Guest) services() []stack.ServiceStatus {
	tcp := g.parts.Stack.Services()
	var udp []datagram.ServiceStatus
	if g.parts.Datagrams != nil {
		udp = g.parts.Datagrams.Services()
	}
	var out []stack.ServiceStatus
	for i := range g.settings.Config.Services {
		switch s := &g.settings.Config.Services[i]; {
		case s.Direct:
			up, flows := g.parts.Direct.service(i)
			out = append(out, stack.ServiceStatus{Name: s.Name, Listen: s.ListenText(), Backend: s.BackendText(), Up: up, Flows: flows})
		case s.UDP && len(udp) > 0:
			u := &udp[0]
			out = append(out, stack.ServiceStatus{Name: u.Name, Listen: s.ListenText(), Backend: s.BackendText(), Up: u.Up, Flows: u.Flows})
			udp = udp[1:]
		case !s.UDP && len(tcp) > 0:
			out = append(out, tcp[0])
			tcp = tcp[1:]
		}
	}
	return out
}

// datagramFlows are the flows of UDP in the words of all flows.
func datagramFlows(r *datagram.Relay, now time.Duration) (out []stack.FlowStatus) {
	for _, f := range r.Flows(now, stack.MaxFlows) {
		out = append(out, stack.FlowStatus{
			Client: f.Client, Service: f.Service, State: "datagrams", Seconds: f.Age.Seconds(), BytesUp: f.BytesUp, BytesDown: f.BytesDown,
		})
	}
	return out
}

// leaveHost leaves this host's own datagrams to the worker of the new configuration.
func (g *Guest) leaveHost() {
	if g.parts.Datagrams != nil {
		g.parts.Datagrams.LeaveHost()
	}
}
