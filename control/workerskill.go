package control

import (
	"encoding/json"
	"net/netip"
)

// Kill is which running flows an operator wants ended.
type Kill struct {
	// Clients are those of this prefix, with Port unless that is 0.
	Clients netip.Prefix `json:"clients"`
	Port    uint16       `json:"port,omitempty"`
	// Service is the name of one service, "" for all.
	Service string `json:"service,omitempty"`
}

// Takes reports whether a flow is one of them.
func (k *Kill) Takes(client netip.AddrPort, service string) bool {
	return k.Clients.Contains(client.Addr()) && (k.Port == 0 || k.Port == client.Port()) && (k.Service == "" || k.Service == service)
}

// killed is the answer to askKill.
type killed struct{ Flows int }

// kill obeys askKill. It runs on the loop's goroutine.
func (g *Guest) kill(k *Kill) killed {
	n := g.parts.Stack.Kill(k.Takes)
	if g.parts.Datagrams != nil {
		n += g.parts.Datagrams.Kill(k.Takes)
	}
	return killed{n}
}

// Kill makes every worker end the flows that are meant, of TCP with resets to both
// sides, and reports how many there were.
func (w *Workers) Kill(k Kill) (n int, err error) {
	w.mu.Lock()
	all := append([]*worker(nil), w.all...)
	w.mu.Unlock()
	for _, one := range all {
		b, err := one.ask(askKill, k)
		if err != nil {
			return n, err
		}
		var done killed
		if err := json.Unmarshal(b, &done); err != nil {
			return n, garbage("kill: %v", err)
		}
		n += done.Flows
	}
	return n, nil
}
