package control

import (
	"encoding/json"
	"fmt"
	"time"
)

// Card is what a host tells the others of itself, for `onevoice doctor` to compare. It
// decides nothing. A host that does not know a field has it empty, and one of an
// older version sends no card at all.
type Card struct {
	Version string `json:"version,omitempty"`
	// File are digests of what has to be the same in all nodes' files, by table.
	File map[string]string `json:"file,omitempty"`
	// MTU of each interface that has VIPs, in bytes.
	MTU map[string]int `json:"mtu,omitempty"`
	// HostKeys are those that the SSH servers behind services show: "ssh-ed25519
	// SHA256:…", by service.
	HostKeys map[string][]string `json:"host_keys,omitempty"`
	// Sysctls are settings of the kernel that ought to be the same, by name.
	Sysctls map[string]string `json:"sysctls,omitempty"`
	// Hears are the ids of the nodes that it has lately heard, on the shared MAC of any
	// path.
	Hears []uint64 `json:"hears,omitempty"`
	// Flows are those that it serves now; nil from one that serves none, or does not
	// tell.
	Flows *int `json:"flows,omitempty"`
	// Wall is CLOCK_REALTIME and Boot CLOCK_BOOTTIME when the card was sent, in
	// nanoseconds.
	Wall int64 `json:"wall_ns,omitempty"`
	Boot int64 `json:"boot_ns,omitempty"`
}

// HeardCard is another host's card, and when it came.
type HeardCard struct {
	// ID is the host's, as in NodeStatus.
	ID   string `json:"id"`
	Card Card   `json:"card"`
	// Seconds ago it came.
	Seconds float64 `json:"seconds_ago"`
	// Ahead is by how many seconds its wall clock is ahead of ours; what the card was
	// under way counts as behind.
	Ahead float64 `json:"ahead_seconds"`
	// Faster is by how many millionths its CLOCK_BOOTTIME runs faster than ours, over
	// the last Over seconds.
	Faster float64 `json:"faster_ppm"`
	Over   float64 `json:"over_seconds"`
}

// Bounds of a card.
const (
	// MaxCardBytes is the longest message with a card.
	MaxCardBytes = 8 << 10
	// maxCardEntries is how many entries each of its lists has at most.
	maxCardEntries = 64
)

// cardMessage is a datagram of kindCards.
type cardMessage struct {
	Card *Card `json:"card,omitempty"`
	// Hello: the sender has no card of whom this is for.
	Hello bool `json:"hello,omitempty"`
	// Ask, not 0, wants the card of now and probes; Answer is the Ask that this is
	// the answer to, and Sent the probes that left for it, by path.
	Ask    uint64      `json:"ask,omitempty"`
	Answer uint64      `json:"answer,omitempty"`
	Sent   []sentProbe `json:"sent,omitempty"`
}

// encode is the message's bytes.
func (m *cardMessage) encode() ([]byte, error) {
	b, err := json.Marshal(m)
	if err == nil && len(b) > MaxCardBytes {
		err = fmt.Errorf("control: a card of %d bytes, at most %d", len(b), MaxCardBytes)
	}
	return b, err
}

// readCardMessage reads what a member sent. Fields that a newer version has are left
// out.
func readCardMessage(b []byte) (m cardMessage, ok bool) {
	if len(b) > MaxCardBytes || json.Unmarshal(b, &m) != nil || len(m.Sent) > maxCardEntries {
		return cardMessage{}, false
	}
	c := m.Card
	return m, c == nil || max(len(c.File), len(c.MTU), len(c.HostKeys), len(c.Sysctls), len(c.Hears)) <= maxCardEntries
}

// rateOver is how long two clocks are looked at before their rates are compared: a
// delay of a quarter of a second is then less than half a thousandth.
const rateOver = 10 * time.Minute

// heardCard is a card in the book.
type heardCard struct {
	card Card
	at   time.Duration
	// wall is ours, when it came.
	wall time.Duration
	// first is the pair of boot times, the other's and ours, that rates count from.
	first [2]time.Duration
}

// follow is the entry after another one of the same host.
func (h heardCard) follow(before *heardCard) heardCard {
	h.first = [2]time.Duration{time.Duration(h.card.Boot), h.at}
	// A clock that goes back is that of another boot.
	if before != nil && before.card.Boot <= h.card.Boot {
		h.first = before.first
	}
	return h
}

// status is the entry for those who ask.
func (h *heardCard) status(id uint64, now time.Duration) HeardCard {
	out := HeardCard{ID: fmt.Sprintf("%x", id), Card: h.card, Seconds: (now - h.at).Seconds(), Ahead: (time.Duration(h.card.Wall) - h.wall).Seconds()}
	ours, other := h.at-h.first[1], time.Duration(h.card.Boot)-h.first[0]
	if ours >= rateOver {
		out.Over, out.Faster = ours.Seconds(), 1e6*(float64(other)/float64(ours)-1)
	}
	return out
}
