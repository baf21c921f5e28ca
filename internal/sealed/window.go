package sealed

// WindowSize is how far a counter may lie behind the newest, in datagrams. A
// message of the largest size has 3,496 fragments, which a heartbeat overtakes
// on its own path.
const WindowSize = 8192

const (
	wordBits = 64
	// One word more than the window, so that the newest word can be cleared
	// while the window still lies in the others (RFC 6479 §3).
	windowWords = WindowSize/wordBits + 1
)

// window remembers which counters were taken. Nothing is new to the zero window
// but what lies above zero.
type window struct {
	newest uint64
	words  [windowWords]uint64
}

// startAfter takes counter and all before it.
func (w *window) startAfter(counter uint64) {
	w.newest = counter
	for i := range w.words {
		w.words[i] = ^uint64(0)
	}
	// Above counter, the rest of its own word is still to come.
	if rest := counter%wordBits + 1; rest < wordBits {
		w.words[counter/wordBits%windowWords] = 1<<rest - 1
	}
}

// isNew tells whether a counter can be taken.
func (w *window) isNew(counter uint64) bool {
	switch {
	case counter == 0:
		return false
	case counter > w.newest:
		return true
	case w.newest-counter >= WindowSize:
		return false
	}
	return w.words[counter/wordBits%windowWords]&(1<<(counter%wordBits)) == 0
}

// take marks a new counter as taken.
func (w *window) take(counter uint64) {
	if counter > w.newest {
		from, to := w.newest/wordBits, counter/wordBits
		for i := range min(to-from, windowWords) {
			w.words[(to-i)%windowWords] = 0
		}
		w.newest = counter
	}
	w.words[counter/wordBits%windowWords] |= 1 << (counter % wordBits)
}
