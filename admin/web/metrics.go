package web

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"onevoice/admin"
	"onevoice/control"
)

// metrics answers in Prometheus' text format, from one look at the daemon.
func (s *Server) metrics(w http.ResponseWriter, r *http.Request, _ rights) {
	status, err := s.cfg.Daemon.Status(admin.Wanted{})
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	status.Process = control.MeasureProcess(false)
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(collector{status}); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(w, r)
}

// collector is a status as metrics.
type collector struct{ *admin.Status }

// metric is what is known of one metric before it is measured.
type metric struct {
	name, help string
	labels     []string
	kind       prometheus.ValueType
}

func (m *metric) desc() *prometheus.Desc {
	return prometheus.NewDesc("onevoice_"+m.name, m.help, m.labels, nil)
}

// family is a metric with its values.
type family struct {
	metric
	values []value
}

type value struct {
	number float64
	labels []string
}

// Describe implements prometheus.Collector.
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, f := range c.families() {
		ch <- f.desc()
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	for _, f := range c.families() {
		for _, v := range f.values {
			ch <- prometheus.MustNewConstMetric(f.desc(), f.kind, v.number, v.labels...)
		}
	}
}

func gauge(name, help string, values ...value) family {
	return family{metric{name: name, help: help, kind: prometheus.GaugeValue}, values}
}

func counter(name, help string, values ...value) family {
	return family{metric{name: name, help: help, kind: prometheus.CounterValue}, values}
}

// by names the labels of a family.
func (f family) by(labels ...string) family {
	f.labels = labels
	return f
}

func is(b bool, labels ...string) value {
	if b {
		return value{1, labels}
	}
	return value{0, labels}
}

func count[N int | uint64 | uint32 | uint8](n N, labels ...string) value {
	return value{float64(n), labels}
}

// families are all metrics of a status.
func (c collector) families() []family {
	all := []family{
		gauge("info", "The daemon: always 1.", value{1, []string{c.Node, c.Cluster, c.Version}}).by("node", "cluster", "version"),
		gauge("uptime_seconds", "How long this daemon has run.", value{c.Uptime, nil}),
		gauge("leased", "1 while this node may answer for what it owns.", is(c.Leased)),
		gauge("warnings", "How many things are wrong now; `onevoice status` says which.", count(len(c.Warnings))),
		gauge("log_index", "The last entry of the replicated log that this node has applied.", count(c.Index)),
	}
	all = append(all, c.nodes()...)
	all = append(all, c.services()...)
	all = append(all, c.traffic()...)
	all = append(all, c.admission()...)
	return append(all, c.datagrams()...)
}

// nodes are the members, as this node sees them.
func (c collector) nodes() []family {
	in := gauge("node_in", "1 where the node may own buckets.").by("node")
	leased := gauge("node_leased", "1 where the node said last that it has a lease.").by("node")
	heard := gauge("node_heard_seconds", "When the node was last heard, in seconds ago; -1 for never.").by("node")
	dead := gauge("node_dead", "1 where the node is taken for dead.").by("node")
	draining := gauge("node_draining", "1 where an operator has drained the node.").by("node")
	leader := gauge("node_leader", "1 where the node leads.").by("node")
	weight := gauge("node_weight", "The weight of the node, of which its load leaves a part.").by("node")
	buckets := gauge("buckets", "How many buckets of a table the node owns.").by("table", "node")
	drains := gauge("buckets_draining", "In how many buckets of a table the node may hold flows that it does not own.").by("table", "node")
	for i := range c.Nodes {
		n := &c.Nodes[i]
		in.values = append(in.values, is(n.In, n.Name))
		leased.values = append(leased.values, is(n.Leased, n.Name))
		heard.values = append(heard.values, value{max(n.Heard, -1), []string{n.Name}})
		dead.values = append(dead.values, is(n.Orphaned, n.Name))
		draining.values = append(draining.values, is(n.Draining, n.Name))
		leader.values = append(leader.values, is(n.Leader, n.Name))
		weight.values = append(weight.values, value{float64(n.Weight) * float64(n.Percent) / 100, []string{n.Name}})
		for table, k := range n.BucketsOf {
			buckets.values = append(buckets.values, count(k, admin.TableName(table), n.Name))
		}
		for table, k := range n.DrainsOf {
			drains.values = append(drains.values, count(k, admin.TableName(table), n.Name))
		}
	}
	return []family{in, leased, heard, dead, draining, leader, weight, buckets, drains}
}

// services are those of the file.
func (c collector) services() []family {
	up := gauge("service_up", "1 while the service's backend here accepts and its check is content.").by("service")
	flows := gauge("service_flows", "How many flows of the service run here.").by("service")
	for i := range c.Services {
		s := &c.Services[i]
		up.values = append(up.values, is(s.Up, s.Name))
		flows.values = append(flows.values, count(s.Flows, s.Name))
	}
	return []family{up, flows}
}

// traffic is what passed through this node's workers.
func (c collector) traffic() []family {
	verdicts := counter("verdicts_total", "Frames by what was decided about them.").by("verdict")
	for name, n := range c.Verdicts {
		verdicts.values = append(verdicts.values, count(n, name))
	}
	rulings := counter("direct_frames_total", "Frames of services with path = \"direct\", by what the kernel's programs decided about them.").by("ruling")
	for name, n := range c.Rulings {
		rulings.values = append(rulings.values, count(n, name))
	}
	f := &c.Flows
	ended := counter("flows_ended_total", "Flows that are over, by how.",
		count(f.Finished, "finished"), count(f.Broken, "broken"), count(f.Refused, "refused"), count(f.OverLimit, "over-limit")).by("how")
	return []family{
		verdicts, rulings,
		counter("filtered_total", "Frames that the kernel dropped before a worker saw them.",
			count(c.Filtered.Foreign, "socket-filter"), count(c.Filtered.ForHost, "tcx")).by("by"),
		gauge("flows", "How many flows run here.", count(f.Running)),
		gauge("flows_limit", "How many flows may run here.", count(f.Limit)),
		counter("flows_accepted_total", "Flows that were accepted.", count(f.Accepted)),
		ended,
		counter("bytes_total", "Bytes of flows, from clients (up) and to them (down).", count(f.BytesUp, "up"), count(f.BytesDown, "down")).by("direction"),
		counter("tcp_retransmitted_total", "Segments that were sent again.", count(f.Retransmitted)),
		counter("syn_cookies_total", "SYN cookies that were sent, and those that came back.", count(f.CookiesSent, "sent"), count(f.CookiesTaken, "taken")).by("what"),
		counter("frames_received_total", "Frames that a worker was given.", count(c.Device.ReceivedFrames)),
		counter("late_replies_total", "Answers that were ready only after the lease, and did not leave.", count(c.Loop.LateReplies)),
		counter("gaps_total", "Turns of the loop that began late.", count(c.Loop.Gaps)),
		gauge("longest_turn_seconds", "The longest time from one turn of a worker's loop to the next; all flows wait meanwhile. 0.02 where nothing is to do.", value{c.Loop.LongestTurn, nil}),
		gauge("descriptors", "Open descriptors of the control process.", count(c.Process.FDs)),
		gauge("workers", "Worker processes, those that only serve older flows among them.", count(len(c.Workers))),
	}
}
