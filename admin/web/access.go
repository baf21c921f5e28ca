package web

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// Bounds of who is let in.
const (
	// MaxSessions is how many browsers are known at a time; one more ends the oldest.
	MaxSessions = 64
	// SessionTime is how long a browser is known after it gave the token.
	SessionTime = 12 * time.Hour
	// wrongBurst wrong tokens of one address are judged at once, and then one each
	// wrongInterval; the rest is refused unseen.
	wrongBurst    = 8
	wrongInterval = 2 * time.Second
	// maxWrong is how many addresses are remembered for that; while there are more,
	// those that are not among them wait.
	maxWrong = 1024
)

// cookieName is the session's.
const cookieName = "onevoice_session"

// rights are what somebody may do.
type rights uint8

const (
	// nothing but the page without what is in it.
	nothing rights = iota
	// see: how the cluster is, without its clients.
	see
	// all: see clients, and change what operators change.
	all
)

// access decides who may do what.
type access struct {
	token [sha256.Size]byte
	// open: there is no token.
	open bool
	now  func() time.Time

	mu       sync.Mutex
	sessions []session // oldest first
	// judged is when the wrong tokens of an address are paid for, at one each
	// wrongInterval.
	judged map[netip.Addr]time.Time
}

type session struct {
	id   [sha256.Size]byte // a digest, so that comparing tells nothing
	till time.Time
}

func newAccess(token []byte, now func() time.Time) *access {
	return &access{token: sha256.Sum256(token), open: len(token) == 0, now: now, judged: map[netip.Addr]time.Time{}}
}

// of are the rights of whoever sent a request. limited: a token came, and was not
// looked at.
func (a *access) of(r *http.Request) (may rights, limited bool) {
	if a.open {
		// A name of somebody's own that leads to 127.0.0.1 would let his page see ours.
		if isAddress(r.Host) {
			return see, false
		}
		return nothing, false
	}
	if c, err := r.Cookie(cookieName); err == nil && a.known(c.Value) {
		return all, false
	}
	if token, ok := bearer(r); ok {
		right, limited := a.right(addressOf(r), token)
		if right {
			return all, false
		}
		return nothing, limited
	}
	return nothing, false
}

// bearer is the token that a request shows by itself (RFC 6750 §2.1).
func bearer(r *http.Request) (token string, ok bool) {
	return strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
}

// isAddress reports a Host header that no name server has a say in.
func isAddress(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if host == "localhost" {
		return true
	}
	_, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil
}

// addressOf is where a request came from.
func addressOf(r *http.Request) netip.Addr {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return at.Addr().Unmap().WithZone("")
}

// right compares a token, in a time that tells nothing. A wrong one costs those at
// its address some of their rate.
func (a *access) right(from netip.Addr, token string) (right, limited bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	paid, known := a.judged[from]
	if paid.Sub(now) > (wrongBurst-1)*wrongInterval || !known && a.crowded(now) {
		return false, true
	}
	digest := sha256.Sum256([]byte(token))
	if subtle.ConstantTimeCompare(digest[:], a.token[:]) == 1 {
		return true, false
	}
	if paid.Before(now) {
		paid = now
	}
	a.judged[from] = paid.Add(wrongInterval)
	return false, false
}

// crowded forgets the addresses that have paid, where there are many, and reports
// whether there are too many still. It is called under the lock.
func (a *access) crowded(now time.Time) bool {
	if len(a.judged) >= maxWrong {
		maps.DeleteFunc(a.judged, func(_ netip.Addr, paid time.Time) bool { return paid.Before(now) })
	}
	return len(a.judged) >= maxWrong
}

// begin makes a session and returns what its cookie says.
func (a *access) begin() string {
	var id [16]byte
	// It does not fail: it ends the program instead.
	_, _ = rand.Read(id[:])
	text := hex.EncodeToString(id[:])
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sessions = newest(append(a.sessions, session{sha256.Sum256([]byte(text)), a.now().Add(SessionTime)}), MaxSessions)
	return text
}

// known reports whether a cookie is a session's.
func (a *access) known(cookie string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.find(cookie) >= 0
}

// end ends a session.
func (a *access) end(cookie string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if i := a.find(cookie); i >= 0 {
		a.sessions = slices.Delete(a.sessions, i, i+1)
	}
}

// find is a cookie's session, -1 when there is none. It is called under the lock.
func (a *access) find(cookie string) int {
	digest, now := sha256.Sum256([]byte(cookie)), a.now()
	return slices.IndexFunc(a.sessions, func(s session) bool { return s.id == digest && now.Before(s.till) })
}
