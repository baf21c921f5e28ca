package web

import (
	"context"
	"net"
	"net/http"

	"golang.org/x/time/rate"
)

// How much strangers may have this process do. It renews the node's lease besides, at a
// priority before that of the services, and has one processor: as many requests as a
// processor can answer would cost both. A page asks 42 times a minute, a browser that loads
// it ten times at once.
const (
	// RequestsPerSecond are answered of all clients together, and RequestBurst at once
	// after a while without; the others wait their turn. The same of new connections.
	RequestsPerSecond = 100
	RequestBurst      = 200
)

func newPace() *rate.Limiter { return rate.NewLimiter(RequestsPerSecond, RequestBurst) }

// paced answers no more requests than a pace allows. Who waits holds his connection, of
// which there are MaxConnections, so that nobody waits for longer than those take.
func paced(pace *rate.Limiter, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if pace.Wait(r.Context()) == nil {
			next.ServeHTTP(w, r)
		}
		// Else the client is gone.
	})
}

// pacedListener takes no more connections than a pace allows; the kernel keeps as many
// others as a listener's queue takes.
type pacedListener struct {
	net.Listener
	pace *rate.Limiter
}

func (l pacedListener) Accept() (net.Conn, error) {
	// It fails for a burst of none alone.
	_ = l.pace.Wait(context.Background())
	return l.Listener.Accept()
}
