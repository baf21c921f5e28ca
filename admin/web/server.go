package web

import (
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"golang.org/x/net/netutil"

	"onevoice/admin"
	"onevoice/control"
)

// Bounds of requests.
const (
	maxHeaderBytes = 16 << 10
	maxBodyBytes   = 4 << 10
	requestTimeout = 10 * time.Second
	idleTimeout    = time.Minute
	// MaxConnections is how many connections are open at a time; more wait.
	MaxConnections = 64
)

// The page's files, and the API's description.
//
//go:embed page openapi.json
var files embed.FS

// Config is what a Server needs.
type Config struct {
	Listener net.Listener
	// Token opens everything; without one nothing can be changed, and only those who
	// ask by an address see anything.
	Token  []byte
	Daemon admin.Daemon
	// Version is this daemon's: a page of another one is told to load itself anew.
	Version string
	Log     *slog.Logger
	// Before is what the Server of a process before this one has Remembered, nil for none.
	Before []byte
	// Now is the clock of sessions and of the history. Nil for the system's.
	Now func() time.Time
}

// Server serves page, API and metrics, and remembers the last hour.
type Server struct {
	cfg     Config
	access  *access
	history History
	http    *http.Server
	stop    chan struct{}
	done    chan struct{}
	watched chan struct{}
}

// Serve starts to serve, in the goroutine `web.Server.serve`, and to look at the
// daemon, in `web.Server.watch`.
func Serve(cfg Config) *Server {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &Server{
		cfg: cfg, access: newAccess(cfg.Token, cfg.Now),
		stop: make(chan struct{}), done: make(chan struct{}), watched: make(chan struct{}),
	}
	s.http = &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: requestTimeout,
		ReadTimeout:       requestTimeout,
		WriteTimeout:      requestTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
	}
	s.history.restore(cfg.Before, cfg.Now())
	go s.serve()
	go s.watch()
	return s
}

// Remembered is the last hour for the Server of a process that takes over.
func (s *Server) Remembered() []byte {
	// It consists of numbers and words.
	text, _ := json.Marshal(s.history.Recent())
	return text
}

func (s *Server) serve() {
	defer close(s.done)
	// It returns when Close shuts it down; an earlier end is seen by whoever asks.
	_ = s.http.Serve(netutil.LimitListener(pacedListener{s.cfg.Listener, newPace()}, MaxConnections))
}

// watch looks at the daemon every SampleInterval; it ends with Close.
func (s *Server) watch() {
	defer close(s.watched)
	tick := time.NewTicker(SampleInterval)
	defer tick.Stop()
	for {
		// A daemon that is stopping has nothing to tell.
		if status, err := s.cfg.Daemon.Status(admin.Wanted{}); err == nil {
			s.history.Observe(s.cfg.Now(), status)
		}
		select {
		case <-tick.C:
		case <-s.stop:
			return
		}
	}
}

// Close ends the server.
func (s *Server) Close() error {
	close(s.stop)
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	err := s.http.Shutdown(ctx)
	<-s.done
	<-s.watched
	return err
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	page, err := fs.Sub(files, "page")
	if err != nil {
		panic(err) // a mistake of ours: the folder is in the binary
	}
	mux.Handle("GET /", http.FileServerFS(page))
	mux.HandleFunc("GET /{$}", s.index)
	mux.HandleFunc("GET /index.html", s.index)
	for pattern, answer := range s.routes() {
		mux.HandleFunc(pattern, answer)
	}
	guard := http.NewCrossOriginProtection()
	return hardened(paced(newPace(), http.MaxBytesHandler(guard.Handler(mux), maxBodyBytes)))
}

// routes are the answers of the API, by pattern of http.ServeMux.
func (s *Server) routes() map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		"GET /v1/openapi.json": func(w http.ResponseWriter, r *http.Request) { http.ServeFileFS(w, r, files, "openapi.json") },
		"GET /v1/status":       s.allow(see, s.status),
		"GET /v1/history":      s.allow(see, s.recent),
		"GET /metrics":         s.allow(see, s.metrics),
		"POST /v1/wish":        s.allow(all, s.wish),
		"POST /v1/session":     s.login,
		"DELETE /v1/session":   s.logout,
	}
}

// hardened keeps other pages from using ours, and ours from loading anything from
// elsewhere.
func hardened(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// allow lets a request pass for those who may.
func (s *Server) allow(least rights, next func(w http.ResponseWriter, r *http.Request, may rights)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		may, limited := s.access.of(r)
		switch {
		case limited:
			tooMany(w)
		case may >= least:
			next(w, r, may)
		case s.access.open && may == nothing:
			http.Error(w, "ask by address, such as http://127.0.0.1, for without a token a name is not trusted; or write [admin] token_file", http.StatusForbidden)
		case s.access.open:
			http.Error(w, "nothing can be changed here, for there is no token; write [admin] token_file, or use the command on this host", http.StatusForbidden)
		default:
			w.Header().Set("WWW-Authenticate", `Bearer realm="onevoice"`)
			if _, came := bearer(r); came {
				s.wrongToken(w, r)
				return
			}
			http.Error(w, "a token is needed: the content of [admin] token_file, as a bearer token or on the page", http.StatusUnauthorized)
		}
	}
}

// wrongToken answers who has shown one.
func (s *Server) wrongToken(w http.ResponseWriter, r *http.Request) {
	s.cfg.Log.Warn("a wrong token", "from", addressOf(r))
	http.Error(w, "this is not the token", http.StatusUnauthorized)
}

func tooMany(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "2")
	http.Error(w, "too many wrong tokens came from this address; try again in 2 seconds", http.StatusTooManyRequests)
}

func (s *Server) status(w http.ResponseWriter, r *http.Request, may rights) {
	q := r.URL.Query()
	status, err := s.cfg.Daemon.Status(admin.Wanted{Table: q.Has("table"), Flows: q.Has("flows") && may == all})
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	status.Process = control.MeasureProcess(false)
	answer(w, struct {
		*admin.Status
		// MayChange: whoever asks may post wishes.
		MayChange bool `json:"may_change"`
	}{status, may == all})
}

func (s *Server) recent(w http.ResponseWriter, _ *http.Request, _ rights) {
	answer(w, s.history.Recent())
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	// A caller that went away is nobody's error.
	_ = json.NewEncoder(w).Encode(v)
}

// read reads the body of a request, which has to be JSON and nothing else.
func read(w http.ResponseWriter, r *http.Request, into any) bool {
	if kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); kind != "application/json" {
		http.Error(w, "send application/json", http.StatusUnsupportedMediaType)
		return false
	}
	return admin.ReadBody(w, r, into)
}

func (s *Server) wish(w http.ResponseWriter, r *http.Request, _ rights) {
	var wish admin.Wish
	if !read(w, r, &wish) {
		return
	}
	from := addressOf(r)
	// Who may all has shown the token, in this request or before.
	err := s.outdated(r)
	if err == nil {
		err = s.cfg.Daemon.Wish(wish)
	}
	s.cfg.Daemon.Audit(fmt.Sprintf("who has the token, at %s", from), err, wish.Fields()...)
	if err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	s.history.Note(s.cfg.Now(), Info, fmt.Sprintf("somebody at %s asked: %s %s", from, wish.Do, wish.Node))
	w.WriteHeader(http.StatusNoContent)
}

func (s *Server) login(w http.ResponseWriter, r *http.Request) {
	var given struct {
		Token string `json:"token"`
	}
	if !read(w, r, &given) {
		return
	}
	right, limited := s.access.right(addressOf(r), given.Token)
	switch {
	case limited:
		tooMany(w)
		return
	case !right || s.access.open:
		s.wrongToken(w, r)
		return
	}
	http.SetCookie(w, &http.Cookie{
		Name: cookieName, Value: s.access.begin(), Path: "/", MaxAge: int(SessionTime / time.Second),
		HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: r.TLS != nil,
	})
	w.WriteHeader(http.StatusNoContent)
}

func (s *Server) logout(w http.ResponseWriter, r *http.Request) {
	if c, err := r.Cookie(cookieName); err == nil {
		s.access.end(c.Value)
	}
	http.SetCookie(w, &http.Cookie{Name: cookieName, Path: "/", MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteStrictMode})
	w.WriteHeader(http.StatusNoContent)
}
