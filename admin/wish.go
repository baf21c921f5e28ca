package admin

import (
	"errors"
	"fmt"

	"onevoice/cluster"
)

// What a Wish may ask to Do.
const (
	DoDrain    = "drain"
	DoUndrain  = "undrain"
	DoEndFlows = "end-flows"
	DoWeight   = "weight"
	DoPin      = "pin"
	DoUnpin    = "unpin"
	DoMove     = "move"
	DoForget   = "forget"
	DoTakeover = "takeover"
	// DoRemap is for the daemon, whose file has what it needs.
	DoRemap = "remap"
)

// Wish is the body of POST /v1/wish: what an operator wants of the cluster. Nodes
// are named by name, address or id.
type Wish struct {
	Do      string `json:"do"`
	Node    string `json:"node,omitempty"`
	Service string `json:"service,omitempty"`
	Bucket  *uint8 `json:"bucket,omitempty"`
	Weight  uint32 `json:"weight,omitempty"`
	// To is who takes over what Node has, "" for those whom it belongs to.
	To string `json:"to,omitempty"`
}

// Cluster is the wish in the core's terms. first is the service that is meant
// when none is named.
func (w Wish) Cluster(first string) (cluster.Wish, error) {
	service := w.Service
	if service == "" {
		service = first
	}
	bucket := uint8(0)
	switch w.Do {
	case DoPin, DoUnpin, DoMove:
		if w.Bucket == nil {
			return nil, errors.New("a bucket is missing; name one from 0 to 255")
		}
		bucket = *w.Bucket
	}
	switch w.Do {
	case DoDrain:
		return cluster.Drain{Node: w.Node}, nil
	case DoUndrain:
		return cluster.Drain{Node: w.Node, Undo: true}, nil
	case DoEndFlows:
		return cluster.EndFlows{Node: w.Node}, nil
	case DoForget:
		return cluster.Forget{Node: w.Node}, nil
	case DoTakeover:
		return cluster.Takeover{Node: w.Node, To: w.To}, nil
	case DoWeight:
		return cluster.Weigh{Node: w.Node, Weight: w.Weight}, nil
	case DoPin:
		return cluster.Pin{Service: service, Bucket: bucket, Node: w.Node}, nil
	case DoUnpin:
		return cluster.Pin{Service: service, Bucket: bucket}, nil
	case DoMove:
		return cluster.Move{Service: service, Bucket: bucket, Node: w.Node}, nil
	}
	return nil, fmt.Errorf("%q is nothing that a cluster does", w.Do)
}
