package admin

import (
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
	// Warnings are sentences about what is wrong now, worst first.
	Warnings []string            `json:"warnings"`
	VIPs     []VIPStatus         `json:"vips"`
	Services []ServiceStatus     `json:"services"`
	Nodes    []NodeStatus        `json:"nodes"`
	Verdicts map[string]uint64   `json:"verdicts"`
	Flows    FlowsStatus         `json:"flows"`
	Device   link.Stats          `json:"device"`
	Loop     node.LoopStats      `json:"loop"`
	Process  ProcessStatus       `json:"process"`
	Table    map[string][]string `json:"table,omitempty"`
	Running  []stack.FlowStatus  `json:"running,omitempty"`
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
	// Buckets of this node's share.
	Buckets int `json:"buckets"`
}

// NodeStatus is one member of the cluster.
type NodeStatus struct {
	Address string `json:"address"`
	Self    bool   `json:"self"`
	// Buckets is its share of the VIP's table.
	Buckets int `json:"buckets"`
}

// FlowsStatus are the running flows and what became of the others.
type FlowsStatus struct {
	Running int `json:"running"`
	Limit   int `json:"limit"`
	stack.Counters
}

// ProcessStatus is what the daemon takes of its host.
type ProcessStatus struct {
	PID        int    `json:"pid"`
	FDs        int    `json:"fds"`
	Goroutines int    `json:"goroutines"`
	HeapBytes  uint64 `json:"heap_bytes"`
	// HeapBytesAfterGC is set when the request asked for a collection.
	HeapBytesAfterGC uint64 `json:"heap_bytes_after_gc,omitempty"`
}
