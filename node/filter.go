package node

import (
	"net/netip"

	"onevoice/hashing"
	"onevoice/link/ingress"
)

// Filter is a program in the kernel that passes to this node only what it must
// see: frames of the buckets that it was told to pass, and of the flows that it
// was told to hold. Its methods are called between frames.
type Filter interface {
	// Hold passes the frames of a service's flow from now on, also where its bucket
	// does not pass. False when the map is full.
	Hold(service int, f *hashing.Flow) bool
	// Release ends that.
	Release(service int, f *hashing.Flow)
	// Pass says which buckets of a service pass.
	Pass(service int, buckets *Bitmap)
	// SetKey changes the key by which the program finds a service's buckets. It is
	// called while all of them pass.
	SetKey(service int, key hashing.Key)
}

// KernelFilter is an ingress.Filter as a Filter, for a node with the services that
// FilteredServices made it for.
func KernelFilter(f *ingress.Filter) Filter { return kernelFilter{f} }

// FilteredServices are services as a filter in the kernel needs them.
func FilteredServices(services []Service) []ingress.Service {
	var out []ingress.Service
	for _, s := range services {
		h := ingress.Hashed{
			Network:    s.Affinity == hashing.SourceNet,
			SourcePort: s.Affinity == hashing.SourceIPPort || s.Affinity == hashing.SourceIPPortDestPort,
			DestPort:   s.Affinity == hashing.SourceIPPortDestPort,
		}
		if s.Compatible != nil {
			h = otherHash(s.Compatible)
		}
		out = append(out, ingress.Service{Listen: s.Listen, UDP: s.Proto == protoUDP, LastPort: s.LastPort, Hashed: h, Direct: s.Direct, Pins: filteredPins(s.Pins)})
	}
	return out
}

type kernelFilter struct{ *ingress.Filter }

func (k kernelFilter) Hold(service int, f *hashing.Flow) bool {
	return k.Filter.Hold(ingressFlow(service, f))
}

func (k kernelFilter) Release(service int, f *hashing.Flow) {
	k.Filter.Release(ingressFlow(service, f))
}

func (k kernelFilter) Pass(service int, buckets *Bitmap) {
	k.Filter.Pass(service, (*[4]uint64)(buckets))
}

func (k kernelFilter) SetKey(service int, key hashing.Key) { k.Filter.SetKey(service, key) }

// KernelAnswerer is an ingress.Filter as an Answerer, as KernelFilter.
func KernelAnswerer(f *ingress.Filter) Answerer { return kernelAnswerer{f} }

type kernelAnswerer struct{ *ingress.Filter }

func (k kernelAnswerer) AnswerSYNs(service int, buckets *Bitmap) {
	k.Filter.AnswerSYNs(service, (*[4]uint64)(buckets))
}

func (k kernelAnswerer) CountTuple(f *hashing.Flow)   { k.Filter.CountTuple(ingressFlow(0, f)) }
func (k kernelAnswerer) UncountTuple(f *hashing.Flow) { k.Filter.UncountTuple(ingressFlow(0, f)) }

func (k kernelAnswerer) AnsweredSYNs() (taken, answered, lost uint64) {
	s := k.Filter.Stats()
	return s.TakenSYNs, s.AnsweredSYNs, s.LostSYNs
}

func ingressFlow(service int, f *hashing.Flow) ingress.Flow {
	return ingress.Flow{Service: service, Client: netip.AddrPortFrom(f.Src, f.SrcPort), Port: f.DstPort}
}
