package control

import (
	"os"
	"runtime"
)

// MeasureProcess measures this process; collect runs the garbage collector
// first, twice: pools keep what is in them over one collection (sync.Pool), as
// netstack's buffers, and those are not in use.
func MeasureProcess(collect bool) ProcessStatus {
	var m runtime.MemStats
	p := ProcessStatus{PID: os.Getpid(), Goroutines: runtime.NumGoroutine()}
	if collect {
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		p.HeapBytesAfterGC = m.HeapAlloc
	}
	runtime.ReadMemStats(&m)
	p.HeapBytes = m.HeapAlloc
	if dir, err := os.ReadDir("/proc/self/fd"); err == nil {
		// The directory itself was open while it was read.
		p.FDs = len(dir) - 1
	}
	return p
}
