package sealed

import "fmt"

// Verdict is what was decided about a datagram. Each is counted.
type Verdict uint8

// The verdicts. Below Alien the datagram was authentic, new and in order.
const (
	// OK: the message is the caller's to use.
	OK Verdict = iota
	// OtherKey: as OK, sealed with the keyring's other key.
	OtherKey
	// Partial: a fragment was kept; its message is not complete.
	Partial
	// Proved: the sender's boot is known from now on; nothing to use.
	Proved
	// Challenged: a receiver asked for a proof; Reply has it.
	Challenged

	// Alien: not of this protocol.
	Alien
	// Short: the end is missing.
	Short
	// Long: more than MaxDatagram.
	Long
	// WrongVersion: Message.Version is the other's.
	WrongVersion
	// BadForm: a form that this version has not.
	BadForm
	// WrongCluster: Message.UUID is the other's; nothing of it is proved.
	WrongCluster
	// WrongKey: sealed with a key that is not in the keyring.
	WrongKey
	// Forged: the key's name is right and the seal is not.
	Forged
	// Own: our own datagram came back.
	Own
	// SameID: another living boot uses our id.
	SameID
	// Replayed: taken before, or older than the window.
	Replayed
	// Unproved: authentic, but perhaps recorded; Reply asks the sender to prove
	// that it lives, and what it sends after that is taken.
	Unproved
	// StaleEcho: an echo of a challenge that is not ours, or no longer.
	StaleEcho
	// Busy: too many datagrams of unknown boots in this second.
	Busy
	// TooManySenders: the table is full of senders heard just now.
	TooManySenders
	// FragmentBad: the fragment contradicts itself or its message.
	FragmentBad
	// FragmentBounds: no room for another unfinished message.
	FragmentBounds

	// Verdicts is their number.
	Verdicts
)

// Accepted tells whether Message.Payload is the caller's to use.
func (v Verdict) Accepted() bool { return v == OK || v == OtherKey }

// Refused tells whether the datagram changed nothing but a counter.
func (v Verdict) Refused() bool { return v >= Alien }

func (v Verdict) String() string {
	names := [Verdicts]string{
		"ok", "other-key", "partial", "proved", "challenged",
		"alien", "short", "long", "wrong-version", "bad-form", "wrong-cluster", "wrong-key", "forged", "own", "same-id",
		"replayed", "unproved", "stale-echo", "busy", "too-many-senders", "fragment-bad", "fragment-bounds",
	}
	if v >= Verdicts {
		return fmt.Sprintf("verdict-%d", uint8(v))
	}
	return names[v]
}

// Sentence says for a user what a refusal means and what to do, or nothing where
// a counter is enough. It goes on after the sender's address. What is not authenticated is told as a claim.
func Sentence(m Message, v Verdict) string {
	switch v {
	case WrongVersion:
		return fmt.Sprintf("speaks version %d of the control messages and this program version %d; run the same release on all nodes", m.Version, Version)
	case WrongCluster:
		return fmt.Sprintf("claims the cluster %x, which is not ours: two clusters share an address, or a node's state directory comes from another cluster", m.UUID)
	case WrongKey:
		return "claims another cluster key; give all nodes the same key file"
	case SameID:
		return fmt.Sprintf("uses our id %x: a state directory was copied; stop one of the two, remove its state directory and let it join anew", m.From)
	case TooManySenders:
		return fmt.Sprintf("is one of more than %d who use the cluster key; make a new key, for this one is known elsewhere", MaxSenders)
	}
	return ""
}
