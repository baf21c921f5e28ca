package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"time"

	"onevoice/control"
)

// Wanted is what a request asks for beside the rest.
type Wanted struct {
	// Table is who owns each bucket.
	Table bool
	// Flows are the running flows, for which a worker stops to list them.
	Flows bool
	// Collect is what is left in memory after garbage was collected.
	Collect bool
}

// Daemon is who answers.
type Daemon struct {
	Status func(Wanted) (*Status, error)
	// Wish asks the cluster for what an operator wants, and returns when the log has
	// decided.
	Wish func(Wish) error
	// Kill ends running flows of this host, and reports how many there were. Nil for
	// a host that has none.
	Kill func(control.Kill) (int, error)
	// Explain tells who answers whom. Nil for a host that does not know.
	Explain Explainer
	// Change begins a change of the running process, and Changed tells of the last one.
	// Nil for a host that knows none.
	Change  func(Change) (ChangeStatus, error)
	Changed func() ChangeStatus
	// Version is this daemon's.
	Version string
	// Log is where it is written down what operators have asked for, nil for nowhere.
	Log *slog.Logger
	// Examine asks the other nodes of themselves, until its context is done. Nil for
	// a host that does not.
	Examine func(context.Context) (control.Examined, error)
}

// Server serves the admin socket.
type Server struct {
	listener net.Listener
	http     *http.Server
	done     chan struct{}
}

// Bounds of a request.
const (
	maxHeaderBytes = 8 << 10
	requestTimeout = 10 * time.Second
	maxWishBytes   = 4 << 10
)

// Serve starts to serve on l, in the goroutine `admin.serve`.
func Serve(l net.Listener, d Daemon) *Server {
	s := &Server{
		listener: l,
		http: &http.Server{
			Handler:        handlerOf(&d),
			ConnContext:    withPeer,
			ReadTimeout:    requestTimeout,
			WriteTimeout:   requestTimeout,
			MaxHeaderBytes: maxHeaderBytes,
		},
		done: make(chan struct{}),
	}
	go s.serve()
	return s
}

// Routes are what the socket of a daemon answers that knows everything: patterns of
// http.ServeMux, sorted.
func Routes() []string {
	return slices.Sorted(maps.Keys(routesOf(&Daemon{
		Kill:    func(control.Kill) (int, error) { return 0, nil },
		Explain: func(string, string) (*Explanation, error) { return nil, nil },
		Change:  func(Change) (ChangeStatus, error) { return ChangeStatus{}, nil },
		Examine: func(context.Context) (control.Examined, error) { return control.Examined{}, nil },
	})))
}

// routesOf are the answers of d by pattern.
func routesOf(d *Daemon) map[string]http.HandlerFunc {
	out := map[string]http.HandlerFunc{
		"GET /v1/status": func(w http.ResponseWriter, r *http.Request) { answerStatus(w, r, d) },
		"POST /v1/wish":  func(w http.ResponseWriter, r *http.Request) { answerWish(w, r, d) },
	}
	if d.Explain != nil {
		out["GET /v1/explain"] = func(w http.ResponseWriter, r *http.Request) { answerWhy(w, r, d.Explain) }
	}
	if d.Change != nil {
		out["GET /v1/change"] = func(w http.ResponseWriter, _ *http.Request) { answerChange(w, d.Changed()) }
		out["POST /v1/change"] = func(w http.ResponseWriter, r *http.Request) { beginChange(w, r, d) }
	}
	if d.Examine != nil {
		out["POST /v1/examine"] = func(w http.ResponseWriter, r *http.Request) { answerExamine(w, r, d) }
	}
	if d.Kill != nil {
		out["POST /v1/kill"] = func(w http.ResponseWriter, r *http.Request) { answerKill(w, r, d) }
	}
	return out
}

// handlerOf answers requests, of which no body is longer than a wish's.
func handlerOf(d *Daemon) http.Handler {
	mux := http.NewServeMux()
	for pattern, answer := range routesOf(d) {
		mux.HandleFunc(pattern, answer)
	}
	return versioned(d.Version, http.MaxBytesHandler(mux, maxWishBytes))
}

func (s *Server) serve() {
	defer close(s.done)
	// It returns when Close shuts it down; an earlier end takes the socket
	// with it, and that is what a caller then sees.
	_ = s.http.Serve(s.listener)
}

// Close ends the server and removes the socket.
func (s *Server) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	err := s.http.Shutdown(ctx)
	<-s.done
	return err
}

// VersionHeader of an answer is the version of the daemon that gave it.
const VersionHeader = "Onevoice-Version"

// versioned says in every answer of which version it is.
func versioned(version string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if version != "" {
			w.Header().Set(VersionHeader, version)
		}
		next.ServeHTTP(w, r)
	})
}

func answerStatus(w http.ResponseWriter, r *http.Request, d *Daemon) {
	q := r.URL.Query()
	want := Wanted{Table: q.Has("table"), Flows: q.Has("flows"), Collect: q.Has("gc")}
	status, err := d.Status(want)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	status.Process = control.MeasureProcess(want.Collect)
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	// A caller that went away is nobody's error.
	_ = enc.Encode(status)
}

func answerWish(w http.ResponseWriter, r *http.Request, d *Daemon) {
	var wish Wish
	if !ReadBody(w, r, &wish) {
		return
	}
	err := d.Wish(wish)
	d.Audit(by(r), err, wish.Fields()...)
	if err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// Killed is the answer to POST /v1/kill.
type Killed struct {
	Flows int `json:"flows"`
}

func answerKill(w http.ResponseWriter, r *http.Request, d *Daemon) {
	var k control.Kill
	if !ReadBody(w, r, &k) {
		return
	}
	n, err := d.Kill(k)
	d.Audit(by(r), err, "for", "kill", "clients", k.Clients, "port", k.Port, "service", k.Service, "flows", n)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(Killed{n})
}

// ReadBody reads the JSON of a request, whose length is bounded by whoever serves it,
// or answers why it cannot.
func ReadBody(w http.ResponseWriter, r *http.Request, into any) bool {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	err := d.Decode(into)
	if long := (*http.MaxBytesError)(nil); errors.As(err, &long) {
		http.Error(w, fmt.Sprintf("the request has more than %d bytes", long.Limit), http.StatusRequestEntityTooLarge)
		return false
	}
	if err != nil {
		http.Error(w, "the request cannot be read: "+err.Error(), http.StatusBadRequest)
		return false
	}
	return true
}
