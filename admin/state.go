package admin

import (
	"strings"
	"time"
)

// SilentAfter is how long a host may not be heard until people are told.
const SilentAfter = time.Second

// StateOf is a node's state in a word; those in capitals are none to leave alone.
func StateOf(n *NodeStatus) string {
	silent := !n.Self && (n.Heard < 0 || n.Heard > SilentAfter.Seconds())
	switch {
	case n.Witness && silent:
		return "SILENT"
	case n.Witness:
		return "witness"
	case !n.In && n.Orphaned:
		return "DEAD"
	case !n.In:
		return "OUT"
	case silent:
		return "SILENT"
	case !n.Leased:
		return "NO LEASE"
	case n.Draining && Most(n.BucketsOf)+Most(n.DrainsOf) == 0:
		return "drained"
	case n.Draining:
		return "draining"
	case n.Slow:
		return "coming"
	}
	return "serving"
}

// TableName is the name of a service's table for people and programs: a VIP's own is
// vip/ADDRESS.
func TableName(service string) string { return strings.Replace(service, " ", "/", 1) }

// Most is the largest count over all tables.
func Most(of map[string]int) int {
	n := 0
	for _, k := range of {
		n = max(n, k)
	}
	return n
}
