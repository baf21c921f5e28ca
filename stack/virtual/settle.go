package virtual

import (
	"encoding/binary"
	"io"
	"math/rand/v2"
	"runtime"
	"runtime/metrics"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/log"
)

// Take takes the process for virtual time. It runs one goroutine at a time, without
// which Settle knows nothing and netstack deals its flows out to several of its
// goroutines; and netstack's warnings, which go to the standard error with the
// wall clock's time, go nowhere. The result gives both back.
func Take() (restore func()) {
	before, target := runtime.GOMAXPROCS(1), log.Log().Emitter
	log.SetTarget(silent{})
	return func() {
		log.SetTarget(target)
		runtime.GOMAXPROCS(before)
	}
}

// silent is where netstack's warnings go.
type silent struct{}

// Emit implements log.Emitter.
func (silent) Emit(int, log.Level, time.Time, string, ...any) {}

// maxYields bounds how often Settle yields: goroutines that are no netstack's,
// such as the collector's, may always have something to do.
const maxYields = 10_000

// Settler waits for netstack's goroutines. It belongs to one goroutine.
type Settler struct{ runnable []metrics.Sample }

// NewSettler makes a settler.
func NewSettler() *Settler {
	return &Settler{[]metrics.Sample{{Name: "/sched/goroutines/runnable:goroutines"}}}
}

// Settle lets the other goroutines run until none of them is runnable, or
// maxYields is reached. Timers of a Clock do not run meanwhile.
func (s *Settler) Settle() {
	for range maxYields {
		runtime.Gosched()
		metrics.Read(s.runnable)
		if s.runnable[0].Value.Uint64() == 0 {
			return
		}
	}
}

// Random is chance from a seed, for netstack, which takes it from any goroutine.
type Random struct {
	mu sync.Mutex
	r  *rand.ChaCha8
}

var _ io.Reader = (*Random)(nil)

// NewRandom makes a source of chance.
func NewRandom(seed uint64) *Random {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	return &Random{r: rand.NewChaCha8(key)}
}

// Read implements io.Reader. It never fails.
func (r *Random) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.r.Read(p)
}
