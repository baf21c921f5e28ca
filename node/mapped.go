package node

import (
	"time"

	"onevoice/hashing"
)

// SetFilter gives the node a filter to keep, which passes every bucket now.
func (n *Node) SetFilter(f Filter) {
	n.filter = f
	n.passing = make([]Bitmap, len(n.services))
	for i := range n.passing {
		n.rekeyFilter(i)
	}
	n.refilter()
}

// rekeyFilter brings the filter to the key of a service's mapping. While it changes
// every bucket passes, and goes on to until refilter: a frame whose bucket was found
// under one key would else be judged by the bits of another.
func (n *Node) rekeyFilter(service int) {
	if n.filter == nil {
		return
	}
	n.passing[service] = everyBucket()
	n.filter.Pass(service, &n.passing[service])
	n.filter.SetKey(service, n.mappings[service].hasher.Key())
}

func everyBucket() Bitmap {
	var b Bitmap
	for i := range b {
		b[i] = ^uint64(0)
	}
	return b
}

// maxHolds bounds the flows that are put into the filter's map at once, a system
// call each. The buckets of the others pass until the next turn.
const maxHolds = 2048

// retry takes up again the buckets that pass only because there was no room or no
// time, or because of cookies.
func (n *Node) retry(now time.Duration) {
	if n.filter == nil || now < n.retryBy {
		return
	}
	n.retryBy = now + sweepTime
	for i := range n.services {
		if n.passing[i] != n.ownership.Services[i].Accept {
			n.refilterService(i)
		}
	}
}

// refilter brings the filter up to the ownership. The order matters: held flows
// are in its map before their bucket's bit is cleared, and a bucket whose flows
// found no room keeps its bit (OWNERSHIP.md R16). So does one whose SYN cookies
// may still come back, since nothing tells their flows.
func (n *Node) refilter() {
	if n.filter == nil {
		return
	}
	for i := range n.services {
		n.refilterService(i)
	}
}

func (n *Node) refilterService(service int) {
	pass := n.ownership.Services[service].Accept
	holds := 0
	for _, e := range n.table.order {
		if e.service != service || pass.Has(e.bucket) || e.muted || e.mapped {
			continue
		}
		if holds == maxHolds {
			pass.Set(e.bucket)
			n.retryBy = n.last
			continue
		}
		holds++
		if e.mapped = n.filter.Hold(service, &e.flow); !e.mapped {
			pass.Set(e.bucket)
		}
	}
	for b := range hashing.Buckets {
		if n.last-n.cookiesOf[service][b] < unprovenTime {
			pass.Set(uint8(b))
		}
	}
	if pass != n.passing[service] {
		n.passing[service] = pass
		n.filter.Pass(service, &n.passing[service])
	}
}

// mapHeld puts a flow that has just been found into the filter's map, where its
// bucket does not pass.
func (n *Node) mapHeld(e *tracked) {
	if n.filter == nil || n.passing[e.service].Has(e.bucket) {
		return
	}
	if e.mapped = n.filter.Hold(e.service, &e.flow); !e.mapped {
		n.passing[e.service].Set(e.bucket)
		n.filter.Pass(e.service, &n.passing[e.service])
	}
}

// unmap takes a flow out of the filter's map.
func (n *Node) unmap(e *tracked) {
	if e.mapped {
		n.filter.Release(e.service, &e.flow)
		e.mapped = false
	}
}

// Unmapped counts the flows of the buckets that this node holds and the filter
// keeps from it: 0, always, and what a node makes sure of before it says that it
// has released a bucket (OWNERSHIP.md R16).
func (n *Node) Unmapped(service int, buckets *Bitmap) (count int) {
	if n.filter == nil {
		return 0
	}
	n.each(service, buckets, func(e *tracked) {
		if !e.mapped && !n.passing[service].Has(e.bucket) {
			count++
		}
	})
	return count
}
