// Package flowstate names the states of a flow in a TCP as far as the gate tells
// them apart, so that the TCP and its gate can speak of them without knowing each
// other.
package flowstate

// State is where a flow stands in its TCP.
type State uint8

// States, with those of RFC 9293 §3.3.2 that they stand for.
const (
	// None: the TCP has nothing of the flow.
	None State = iota
	// HalfOpen: SYN-RECEIVED.
	HalfOpen
	// Open: ESTABLISHED, and those in which one side goes on sending or may:
	// FIN-WAIT-1, FIN-WAIT-2, CLOSE-WAIT.
	Open
	// Closing: both sides have finished, and the last acknowledgment is awaited:
	// CLOSING, LAST-ACK.
	Closing
	// TimeWait: TIME-WAIT.
	TimeWait

	count
)

// String is the state's name in lower case, words joined by hyphens.
func (s State) String() string {
	names := [count]string{"none", "half-open", "open", "closing", "time-wait"}
	if s < count {
		return names[s]
	}
	return "unknown"
}
