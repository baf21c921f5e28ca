package web

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"onevoice/admin"
	"onevoice/admission"
	"onevoice/control"
	"onevoice/stack"
)

const secret = "0123456789abcdef0123456789abcdef"

// daemon is a cluster of two, as the page sees it.
type daemon struct {
	mu     sync.Mutex
	now    time.Time
	wishes []admin.Wish
	refuse error
	drains bool
}

func (d *daemon) status(want admin.Wanted) (*admin.Status, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := looks()[0]
	s.Version, s.Warnings = "1.0", []string{}
	s.Verdicts = map[string]uint64{"deliver-syn": 3, "not-owner": 400}
	s.PrefixFiles = []control.PrefixFileStatus{{File: "/l/deny", Prefixes: 7, Seconds: 3, Error: "/l/deny:1: bad"}}
	s.Services[0].TurnedAway = &admission.Counts{Denied: 5}
	s.Flows.Running, s.Flows.Limit, s.Flows.Accepted = 2, 100, 9
	s.Nodes[0].BucketsOf = map[string]int{"ssh": 128, "vip 10.0.0.9": 128}
	s.Nodes[0].Leased, s.Nodes[1].Leased, s.Nodes[0].Percent, s.Nodes[1].Percent = true, true, 100, 100
	first := 128
	if d.drains {
		first = 256
		s.Nodes[1].Draining, s.Nodes[1].Buckets, s.Nodes[0].Buckets = true, 0, 256
	}
	for i := range s.Nodes {
		s.Nodes[i].State = admin.StateOf(&s.Nodes[i])
	}
	if want.Table {
		row := make([]string, 256)
		for i := range row {
			row[i] = "10.0.0.1"
			if i >= first {
				row[i] = "10.0.0.2"
			}
		}
		s.Table = map[string][]string{"ssh": row, "vip": row, "vip/10.0.0.9": row}
	}
	if want.Flows {
		s.Running = []stack.FlowStatus{{Client: "192.0.2.77:4711", Service: "ssh", State: "open"}}
	}
	return s, nil
}

func (d *daemon) wish(w admin.Wish) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.refuse != nil {
		return d.refuse
	}
	d.wishes = append(d.wishes, w)
	if w.Node == "n2" {
		d.drains = w.Do == admin.DoDrain
	}
	return nil
}

func (d *daemon) clock() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.now
}

func (d *daemon) asked() []admin.Wish {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.wishes)
}

// handler is a server without its goroutines.
func handler(d *daemon, token string) (http.Handler, *Server) {
	s := &Server{cfg: Config{Version: "1.0", Daemon: admin.Daemon{Status: d.status, Wish: d.wish}, Log: slog.New(slog.DiscardHandler), Now: d.clock}}
	s.access = newAccess([]byte(token), d.clock)
	return s.handler(), s
}

type asking struct {
	method, path, body string
	host, from         string
	headers            map[string]string
}

func ask(h http.Handler, a asking) *httptest.ResponseRecorder {
	r := httptest.NewRequest(a.method, a.path, strings.NewReader(a.body))
	r.Host, r.RemoteAddr = "127.0.0.1:7177", "127.0.0.1:40000"
	if a.host != "" {
		r.Host = a.host
	}
	if a.from != "" {
		r.RemoteAddr = a.from
	}
	if a.method == "POST" {
		r.Header.Set("Content-Type", "application/json")
	}
	for k, v := range a.headers {
		r.Header.Set(k, v)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

const drainBody = `{"do":"drain","node":"n2"}`

// Without a token, those on this host see how things are, but no client, and change
// nothing; a page that reached us by a name of its own sees nothing.
func TestWithoutAToken(t *testing.T) {
	d := &daemon{now: epoch()}
	h, _ := handler(d, "")
	for _, tt := range []struct {
		asking
		want int
	}{
		{asking{method: "GET", path: "/v1/status?table=1&flows=1"}, 200},
		{asking{method: "GET", path: "/v1/history"}, 200},
		{asking{method: "GET", path: "/metrics", host: "localhost:7177"}, 200},
		{asking{method: "GET", path: "/metrics", host: "[::1]:7177"}, 200},
		{asking{method: "GET", path: "/v1/status", host: "evil.example:7177"}, 403},
		{asking{method: "GET", path: "/metrics", host: "evil.example"}, 403},
		{asking{method: "POST", path: "/v1/wish", body: drainBody}, 403},
		{asking{method: "POST", path: "/v1/session", body: `{"token":""}`}, 401},
		{asking{method: "GET", path: "/"}, 200},
		{asking{method: "GET", path: "/nowhere"}, 404},
		{asking{method: "GET", path: "/server.go"}, 404},
	} {
		w := ask(h, tt.asking)
		if w.Code != tt.want {
			t.Errorf("%+v: %d, want %d: %s", tt.asking, w.Code, tt.want, w.Body)
		}
		if strings.Contains(w.Body.String(), "192.0.2.77") {
			t.Errorf("%+v: it names a client", tt.asking)
		}
		if !strings.Contains(w.Header().Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("%+v: no policy", tt.asking)
		}
	}
	if len(d.asked()) != 0 {
		t.Errorf("something was changed: %v", d.asked())
	}
}

// With a token nobody sees anything without it; with it, all.
func TestWithAToken(t *testing.T) {
	d := &daemon{now: epoch()}
	h, _ := handler(d, secret)
	for _, path := range []string{"/v1/status", "/v1/history", "/metrics"} {
		for _, bearer := range []string{"", "Bearer ", "Bearer wrong", "bearer " + secret, "Basic " + secret} {
			if w := ask(h, asking{method: "GET", path: path, headers: map[string]string{"Authorization": bearer}, from: "192.0.2.1:" + "99"}); w.Code != 401 && w.Code != 429 {
				t.Errorf("%s with %q: %d", path, bearer, w.Code)
			}
		}
		w := ask(h, asking{method: "GET", path: path, headers: map[string]string{"Authorization": "Bearer " + secret}, host: "unix1.example"})
		if w.Code != 200 {
			t.Errorf("%s with the token: %d", path, w.Code)
		}
	}
	w := ask(h, asking{method: "POST", path: "/v1/session", body: `{"token":"` + secret + `"}`})
	if w.Code != 204 {
		t.Fatalf("login: %d %s", w.Code, w.Body)
	}
	c := w.Result().Cookies()[0]
	if !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || strings.Contains(c.Value, secret) {
		t.Errorf("the cookie is %v", c)
	}
	cookie := map[string]string{"Cookie": c.Name + "=" + c.Value}
	if w := ask(h, asking{method: "GET", path: "/v1/status?flows=1", headers: cookie}); w.Code != 200 || !strings.Contains(w.Body.String(), "192.0.2.77") {
		t.Errorf("with a cookie: %d %s", w.Code, w.Body)
	}
	if w := ask(h, asking{method: "POST", path: "/v1/wish", body: drainBody, headers: cookie}); w.Code != 204 {
		t.Errorf("a wish: %d %s", w.Code, w.Body)
	}
	if got := d.asked(); len(got) != 1 || got[0] != (admin.Wish{Do: "drain", Node: "n2"}) {
		t.Errorf("asked for %v", got)
	}
	cookie[pageHeader] = "0.9"
	if w := ask(h, asking{method: "POST", path: "/v1/wish", body: drainBody, headers: cookie}); w.Code != 409 || !strings.Contains(w.Body.String(), "nothing was done: this page is of another version than the daemon, which is onevoice 1.0; load the page anew") {
		t.Errorf("from a page of another version: %d %s", w.Code, w.Body)
	}
	if got := d.asked(); len(got) != 1 {
		t.Errorf("a page of another version has asked for %v", got)
	}
	cookie[pageHeader] = "1.0"
	for _, path := range []string{"/", "/index.html"} {
		if w := ask(h, asking{method: "GET", path: path}); w.Code != 200 || !strings.Contains(w.Body.String(), `<meta name="version" content="1.0">`) {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	d.refuse = errors.New("the last node cannot be drained")
	if w := ask(h, asking{method: "POST", path: "/v1/wish", body: drainBody, headers: cookie}); w.Code != 409 || !strings.Contains(w.Body.String(), "last node") {
		t.Errorf("a refused wish: %d %s", w.Code, w.Body)
	}
	ask(h, asking{method: "DELETE", path: "/v1/session", headers: cookie})
	if w := ask(h, asking{method: "GET", path: "/v1/status", headers: cookie}); w.Code != 401 {
		t.Errorf("after logging out: %d", w.Code)
	}
}

// A wrong token is told to whoever sent it, and in the log, by whichever way it came; what
// was not judged is not.
func TestWrongTokensAreTold(t *testing.T) {
	h, s := handler(&daemon{now: epoch()}, secret)
	var log bytes.Buffer
	s.cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
	for i, a := range []asking{
		{method: "GET", path: "/metrics", headers: map[string]string{"Authorization": "Bearer wrong"}},
		{method: "POST", path: "/v1/session", body: `{"token":"wrong"}`},
	} {
		a.from = "192.0.2.7:99"
		if w := ask(h, a); w.Code != 401 || w.Body.String() != "this is not the token\n" {
			t.Errorf("%s %s: %d %s", a.method, a.path, w.Code, w.Body)
		}
		if n := strings.Count(log.String(), `msg="a wrong token" from=192.0.2.7`); n != i+1 || strings.Contains(log.String(), "=wrong") {
			t.Errorf("after %d the log is\n%s", i+1, &log)
		}
	}
	if w := ask(h, asking{method: "GET", path: "/metrics"}); w.Code != 401 || !strings.Contains(w.Body.String(), "a token is needed") || strings.Count(log.String(), "\n") != 2 {
		t.Errorf("without one: %d %s\n%s", w.Code, w.Body, &log)
	}
}

// A session ends by itself, and there are no more of them than MaxSessions.
func TestSessionsEnd(t *testing.T) {
	d := &daemon{now: epoch()}
	h, _ := handler(d, secret)
	begin := func() map[string]string {
		c := ask(h, asking{method: "POST", path: "/v1/session", body: `{"token":"` + secret + `"}`}).Result().Cookies()[0]
		return map[string]string{"Cookie": c.Name + "=" + c.Value}
	}
	code := func(cookie map[string]string) int {
		return ask(h, asking{method: "GET", path: "/v1/history", headers: cookie}).Code
	}
	first := begin()
	d.now = d.now.Add(SessionTime - time.Second)
	if c := code(first); c != 200 {
		t.Errorf("within its time: %d", c)
	}
	d.now = d.now.Add(time.Second)
	if c := code(first); c != 401 {
		t.Errorf("after its time: %d", c)
	}
	first = begin()
	for range MaxSessions - 1 {
		begin()
	}
	if c := code(first); c != 200 {
		t.Errorf("one of %d: %d", MaxSessions, c)
	}
	begin()
	if c := code(first); c != 401 {
		t.Errorf("one too many: %d", c)
	}
}

// Whoever guesses is slowed down, and nobody else is.
func TestGuessesAreLimited(t *testing.T) {
	d := &daemon{now: epoch()}
	h, s := handler(d, secret)
	guess := func(from, token string) int {
		return ask(h, asking{method: "POST", path: "/v1/session", body: `{"token":"` + token + `"}`, from: from + ":1"}).Code
	}
	for i := range wrongBurst {
		if c := guess("192.0.2.1", "no"); c != 401 {
			t.Fatalf("guess %d: %d", i, c)
		}
	}
	if c := guess("192.0.2.1", "no"); c != 429 {
		t.Errorf("one too many: %d", c)
	}
	if c := guess("192.0.2.1", secret); c != 429 {
		t.Errorf("the right one, at the limit, tells: %d", c)
	}
	if c := guess("192.0.2.2", secret); c != 204 {
		t.Errorf("another address: %d", c)
	}
	d.now = d.now.Add(wrongInterval)
	if c := guess("192.0.2.1", secret); c != 204 {
		t.Errorf("after a while: %d", c)
	}
	for i := range 2 * maxWrong {
		s.access.right(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), "no")
	}
	if n := len(s.access.judged); n > maxWrong {
		t.Errorf("%d addresses are remembered", n)
	}
	if c := guess("198.51.100.1", secret); c != 429 {
		t.Errorf("while too many guess: %d", c)
	}
	d.now = d.now.Add(time.Minute)
	if c := guess("198.51.100.1", secret); c != 204 {
		t.Errorf("after they have stopped: %d", c)
	}
}

// What another site's page would send is refused, and so is what is too long or is
// no wish.
func TestBadRequests(t *testing.T) {
	d := &daemon{now: epoch()}
	h, _ := handler(d, secret)
	bearer := func(more ...string) map[string]string {
		m := map[string]string{"Authorization": "Bearer " + secret}
		for i := 0; i < len(more); i += 2 {
			m[more[i]] = more[i+1]
		}
		return m
	}
	for name, tt := range map[string]struct {
		asking
		want int
	}{
		"another site":    {asking{method: "POST", path: "/v1/wish", body: drainBody, headers: bearer("Sec-Fetch-Site", "cross-site")}, 403},
		"another origin":  {asking{method: "POST", path: "/v1/wish", body: drainBody, headers: bearer("Origin", "http://evil.example")}, 403},
		"its form":        {asking{method: "POST", path: "/v1/wish", body: drainBody, headers: bearer("Content-Type", "text/plain")}, 415},
		"its login":       {asking{method: "POST", path: "/v1/session", body: `{"token":"` + secret + `"}`, headers: map[string]string{"Sec-Fetch-Site": "cross-site"}}, 403},
		"no JSON":         {asking{method: "POST", path: "/v1/wish", body: "drain", headers: bearer()}, 400},
		"an unknown key":  {asking{method: "POST", path: "/v1/wish", body: `{"do":"drain","nod":"n2"}`, headers: bearer()}, 400},
		"very long":       {asking{method: "POST", path: "/v1/wish", body: `{"do":"` + strings.Repeat("x", 1<<20) + `"}`, headers: bearer()}, 413},
		"another method":  {asking{method: "PUT", path: "/v1/wish", body: drainBody, headers: bearer()}, 405},
		"a wish as a GET": {asking{method: "GET", path: "/v1/wish", headers: bearer()}, 404},
	} {
		if w := ask(h, tt.asking); w.Code != tt.want {
			t.Errorf("%s: %d, want %d: %s", name, w.Code, tt.want, w.Body)
		}
	}
	if len(d.asked()) != 0 {
		t.Errorf("something was changed: %v", d.asked())
	}
}

// The metrics are what Prometheus' own linter has nothing against, and a second
// look counts on.
func TestMetrics(t *testing.T) {
	d := &daemon{now: epoch()}
	h, _ := handler(d, "")
	body := ask(h, asking{method: "GET", path: "/metrics"}).Body.String()
	for _, want := range []string{
		`onevoice_verdicts_total{verdict="not-owner"} 400`, `onevoice_node_in{node="n2"} 1`, `onevoice_leased 1`,
		`onevoice_turned_away_total{service="ssh",why="denied"} 5`, `onevoice_prefix_file_usable{file="/l/deny"} 0`, `onevoice_prefix_file_prefixes{file="/l/deny"} 7`,
		`onevoice_buckets{node="n1",table="ssh"} 128`, `onevoice_buckets{node="n1",table="vip/10.0.0.9"} 128`, `onevoice_service_up{service="ssh"} 1`, `onevoice_flows_ended_total{how="broken"} 0`,
	} {
		if !strings.Contains(body, want+"\n") {
			t.Errorf("no %s in\n%s", want, body)
		}
	}
	problems, err := promlint.New(strings.NewReader(body)).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
	s, _ := d.status(admin.Wanted{})
	if n := testutil.CollectAndCount(collector{s}); n < 40 {
		t.Errorf("%d metrics", n)
	}
}

// A server serves at its address, remembers, and ends with all it started.
func TestServeAndClose(t *testing.T) {
	d := &daemon{now: epoch()}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := Serve(Config{Listener: l, Daemon: admin.Daemon{Status: d.status, Wish: d.wish}, Log: slog.New(slog.DiscardHandler), Now: d.clock})
	resp, err := http.Get("http://" + l.Addr().String() + "/")
	if err != nil {
		t.Fatal(err)
	}
	page, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if !strings.Contains(string(page), `<script src="page.js"`) {
		t.Errorf("the page is %q", page)
	}
	http.DefaultClient.CloseIdleConnections()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if n := len(s.history.Recent().Samples); n != 1 {
		t.Errorf("%d samples", n)
	}
	if _, err := http.Get("http://" + l.Addr().String() + "/"); err == nil {
		t.Error("it still answers")
	}
}

// Close returns when nobody looks at the daemon any more, for that is closed next.
func TestCloseWaitsForTheLook(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	looks, goOn := make(chan struct{}, 1), make(chan struct{})
	s := Serve(Config{Listener: l, Log: slog.New(slog.DiscardHandler), Daemon: admin.Daemon{Status: func(admin.Wanted) (*admin.Status, error) {
		looks <- struct{}{}
		<-goOn
		return nil, errors.New("it is closed")
	}}})
	<-looks
	closed := make(chan error)
	go func() { closed <- s.Close() }()
	select {
	case err := <-closed:
		t.Errorf("it was closed while it looked: %v", err)
		close(goOn)
		return
	case <-time.After(100 * time.Millisecond):
	}
	close(goOn)
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

// Of a body of a gigabyte no more is read than of any, whatever it is sent to, and who
// sends it has his answer before he has sent it.
func TestARequestOfAGigabyte(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{now: epoch()}
	s := Serve(Config{Listener: l, Token: []byte(secret), Daemon: admin.Daemon{Status: d.status, Wish: d.wish}, Log: slog.New(slog.DiscardHandler), Now: d.clock})
	defer s.Close()
	for _, c := range []struct{ request, want string }{
		{"POST /v1/wish", "413 "}, {"POST /v1/session", "413 "}, {"GET /metrics", "200 "}, {"GET /v1/status", "200 "}, {"GET /", "200 "},
	} {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Type: application/json\r\nAuthorization: Bearer %s\r\nContent-Length: 1073741824\r\n\r\n%s",
			c.request, secret, strings.Repeat(" ", maxBodyBytes+1))
		// That the connection is then broken off is no matter.
		said, err := io.ReadAll(conn)
		conn.Close()
		if !strings.Contains(string(said[:min(len(said), 20)]), c.want) || c.want == "413 " && !strings.Contains(string(said), "more than 4096 bytes") {
			t.Errorf("%s: %.300q, %v", c.request, said, err)
		}
	}
	if len(d.asked()) != 0 {
		t.Errorf("something was changed: %v", d.asked())
	}
}
