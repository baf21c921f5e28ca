package responder

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"
)

// Membership makes this host a member of groups of one family, so that a switch
// that snoops (RFC 4541) sends what is for their MACs out of this host's port: by
// IGMPv3 (RFC 3376) or MLDv2 (RFC 3810), and by older versions while a querier of
// an older version is there. Every source is wanted, so that all its records have
// an empty list of sources.
//
// It answers each query for itself and never keeps a report back because it has
// heard another host's, as IGMPv2 and MLDv1 hosts otherwise do: a switch wants to
// know of each port, and drops the port that has not reported.
type Membership struct {
	own    MAC
	addr   netip.Addr
	groups []membershipGroup
	random *rand.Rand

	// robustness is how often a change is told (RFC 3376 §8.1).
	robustness int
	// older is until when queriers of version 1 and 2 count as present. MLDv1 is
	// here as version 2, and MLDv2 as version 3.
	older   [versions]time.Duration
	version int
	limit   *Limit

	querier Querier
	counts  MembershipCounts
}

// Querier is who asked last.
type Querier struct {
	// Address is the zero Addr when nobody ever asked. A switch may ask from
	// 0.0.0.0.
	Address netip.Addr
	// Version of IGMP or MLD that it speaks.
	Version int
	At      time.Duration
}

// MembershipCounts count what was sent and heard.
type MembershipCounts struct {
	Queries uint64 `json:"queries"`
	Reports uint64 `json:"reports"`
}

// membershipGroup is a group and what is to be said of it.
type membershipGroup struct {
	addr netip.Addr
	// answer is when to answer a query, and change when to tell again that the
	// group was joined, if changes are left.
	answer, change time.Duration
	asked          bool
	changes        int
}

const (
	version1 = 1
	version2 = 2
	version3 = 3
	versions = version2 + 1
)

// Times and counts of the protocols, the same for both families where only RFC
// 3376 is named.
const (
	// defaultRobustness is RFC 3376 §8.1's.
	defaultRobustness = 2
	// unsolicitedInterval is RFC 3376 §8.11's, and oldUnsolicitedInterval that of
	// RFC 2236 §8.10.
	unsolicitedInterval    = time.Second
	oldUnsolicitedInterval = 10 * time.Second
	// olderPresent is RFC 3376 §8.12's: robustness times the query interval of 125
	// s, which older queries do not tell, and the response interval of 10 s.
	olderPresent = defaultRobustness*125*time.Second + 10*time.Second
	// version1Response is what a query of IGMPv1 means (RFC 2236 §4).
	version1Response = 10 * time.Second
)

// Bounds of a Membership.
const (
	// MaxGroups fit into one report of 1,280 bytes in either family.
	MaxGroups = 32
	// Queries beyond these set no new answer: nobody asks so often but who wants
	// to be answered at somebody else's cost.
	queriesPerSecond = 10
	queryBurst       = 20
)

// NewMembership makes a member of groups that are all of the family of addr: this
// host's address, of IPv6 the link-local one. An IPv6 host without may say ::.
// The first reports are due at once.
func NewMembership(own MAC, addr netip.Addr, groups []netip.Addr, random *rand.Rand) (*Membership, error) {
	switch {
	case !own.isStation():
		return nil, fmt.Errorf("the interface's MAC %v cannot be a source address; give the interface a unicast MAC", own)
	case len(groups) == 0 || len(groups) > MaxGroups:
		return nil, fmt.Errorf("%d groups to join; 1 to %d are possible", len(groups), MaxGroups)
	case addr.Is6() && !addr.IsUnspecified() && !addr.IsLinkLocalUnicast():
		return nil, fmt.Errorf("reports of IPv6 groups come from a link-local address, and %v is none", addr)
	case !addr.IsValid():
		return nil, errors.New("there is no address to report groups from")
	}
	m := &Membership{own: own, addr: addr, random: random, robustness: defaultRobustness, version: version3, limit: NewLimit(queriesPerSecond, queryBurst)}
	for _, g := range groups {
		if !g.IsMulticast() || g.Is4() != addr.Is4() {
			return nil, fmt.Errorf("%v is no group that %v can join", g, addr)
		}
		if !slices.ContainsFunc(m.groups, func(o membershipGroup) bool { return o.addr == g }) {
			m.groups = append(m.groups, membershipGroup{addr: g, changes: defaultRobustness})
		}
	}
	return m, nil
}

// SetVersion has it speak an older version of IGMP, for switches that do not know
// a newer one and would not take its first reports.
func (m *Membership) SetVersion(version int) {
	if version >= version1 && version < version3 {
		m.version, m.older[version] = version, Forever
	}
}

// Announce tells anew that the groups were joined, for a switch that may have
// forgotten it: it was started anew, or the cable was out.
func (m *Membership) Announce(now time.Duration) {
	for i := range m.groups {
		if g := &m.groups[i]; g.changes == 0 {
			g.changes, g.change = m.robustness, now
		}
	}
}

// Forever is a time that never comes.
const Forever = time.Duration(1<<63 - 1)

// Querier is who asked last.
func (m *Membership) Querier() Querier { return m.querier }

// Groups are those that it is a member of.
func (m *Membership) Groups() []netip.Addr {
	var out []netip.Addr
	for i := range m.groups {
		out = append(out, m.groups[i].addr)
	}
	return out
}

// Counts are what was sent and heard.
func (m *Membership) Counts() MembershipCounts { return m.counts }

// Version is that of IGMP in which it speaks now: 3, or less beside an older
// querier. MLDv2 is 3 here, and MLDv1 is 2.
func (m *Membership) Version() int { return m.version }

// Handle judges a whole frame that carries IGMP or MLD, and sets when to answer a
// query. The frame is not kept.
func (m *Membership) Handle(now time.Duration, frame []byte) MembershipOutcome {
	q, outcome := m.readQuery(frame)
	if outcome != MembershipAsked {
		return outcome
	}
	m.counts.Queries++
	m.querier = Querier{q.from, q.version, now}
	if m.addr.Is6() {
		m.querier.Version--
	}
	if q.version < version3 {
		m.older[q.version] = max(m.older[q.version], now+olderPresent)
	} else if q.robustness > 0 {
		m.robustness = q.robustness
	}
	m.mode(now)
	return m.schedule(now, &q)
}

// mode chooses the version by which queriers are there. A change gives up the
// answers that wait (RFC 3376 §7.2.1): whoever changed it asks, and is answered. A
// join that was not told often enough is told on in the new version, where the RFC
// would give it up: the querier may not have understood what it was told before,
// and its next question to all may be two minutes away.
func (m *Membership) mode(now time.Duration) {
	version := version3
	for v := version2; v >= version1; v-- {
		if now < m.older[v] {
			version = v
		}
	}
	if version == m.version {
		return
	}
	m.version = version
	for i := range m.groups {
		m.groups[i].asked = false
	}
}

// schedule sets a random time for the answer to a query, within the time that it
// gives (RFC 3376 §5.2). An earlier answer that waits already will do. All groups
// that a query is for are answered at the same time, in version 3 by one report.
func (m *Membership) schedule(now time.Duration, q *query) MembershipOutcome {
	concerned, waits := false, true
	for i := range m.groups {
		g := &m.groups[i]
		if q.concerns(g.addr) {
			concerned = true
			waits = waits && g.asked && g.answer <= now+q.response
		}
	}
	switch {
	case !concerned:
		return MembershipNotOurs
	case waits:
		return MembershipAsked
	case !m.limit.Allow(now):
		return MembershipLimited
	}
	at := m.within(now, q.response)
	for i := range m.groups {
		g := &m.groups[i]
		if q.concerns(g.addr) && (!g.asked || g.answer > at) {
			if m.version < version3 {
				at = m.within(now, q.response)
			}
			g.asked, g.answer = true, at
		}
	}
	return MembershipAsked
}

// within is a random time up to d after now, and never now.
func (m *Membership) within(now, d time.Duration) time.Duration {
	return now + 1 + time.Duration(m.random.Int64N(max(int64(d), 1)))
}

// Next is when Due has something to say; false when nothing waits.
func (m *Membership) Next() (at time.Duration, ok bool) {
	at = Forever
	for i := range m.groups {
		g := &m.groups[i]
		if g.changes > 0 {
			at = min(at, g.change)
		}
		if g.asked {
			at = min(at, g.answer)
		}
	}
	return at, at < Forever
}

// Due are the frames to send now. They are the caller's.
func (m *Membership) Due(now time.Duration) (frames [][]byte) {
	m.mode(now)
	var records []record
	for i := range m.groups {
		g := &m.groups[i]
		change := g.changes > 0 && now >= g.change
		if !change && !(g.asked && now >= g.answer) {
			continue
		}
		kind := recordIsExclude
		if change {
			kind = recordToExclude
			g.changes--
			g.change = m.within(now, m.interval())
		}
		// The report of a change answers a query as well.
		g.asked = false
		records = append(records, record{kind, g.addr})
	}
	return m.reports(records)
}

// interval is how long the next report of a change may wait.
func (m *Membership) interval() time.Duration {
	if m.version < version3 {
		return oldUnsolicitedInterval
	}
	return unsolicitedInterval
}

// Leave are the frames that leave all groups. A stop does not wait, so that they
// go out as often as a change is told, at once. IGMPv1 has no such message.
func (m *Membership) Leave(now time.Duration) (frames [][]byte) {
	m.mode(now)
	var records []record
	for i := range m.groups {
		g := &m.groups[i]
		g.asked, g.changes = false, 0
		records = append(records, record{recordToInclude, g.addr})
	}
	for range m.robustness {
		frames = append(frames, m.reports(records)...)
	}
	return frames
}

// reports are the frames of records: one in version 3, one for each group before.
func (m *Membership) reports(records []record) (frames [][]byte) {
	if len(records) == 0 {
		return nil
	}
	if m.version == version3 {
		frames = append(frames, m.reportFrame(records))
	} else {
		for _, r := range records {
			if f := m.oldFrame(r); f != nil {
				frames = append(frames, f)
			}
		}
	}
	m.counts.Reports += uint64(len(frames))
	return frames
}
