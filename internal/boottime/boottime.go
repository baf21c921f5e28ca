// Package boottime reads CLOCK_BOOTTIME, the clock of leases: it does not go back, and
// goes on while the host is suspended.
//
// A system call for each reading costs a loop with little to do a twentieth of its time.
// What Go reads without one is CLOCK_REALTIME and CLOCK_MONOTONIC (time.Now). Boot time is
// monotonic time and all the time that the host was suspended, and a resume adds that to
// real time in the same step (__timekeeping_inject_sleeptime in kernel/time/timekeeping.c).
// So the difference of boot and monotonic time stands while that of real and monotonic
// time does, and is asked for again when that has moved: after a suspend, and also when
// somebody sets the host's clock, which changes nothing here.
package boottime

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// moved is by how much the difference of real and monotonic time may be read
	// otherwise before boot time is asked for: the two are read one after the other. No
	// host is suspended for less.
	moved = time.Millisecond
	// near is how long one reading of all clocks may take to be one at once, and by how
	// much the clock may be wrong. tries is how often it is repeated: the thread may be
	// kept from the processor.
	near  = 20 * time.Microsecond
	tries = 5
)

// Now asks the kernel, by a system call. It may be called from any goroutine.
func Now() time.Duration {
	var ts unix.Timespec
	// Raw, for it does not block. CLOCK_BOOTTIME exists on every kernel that this program
	// runs on.
	_, _, _ = unix.RawSyscall(unix.SYS_CLOCK_GETTIME, unix.CLOCK_BOOTTIME, uintptr(unsafe.Pointer(&ts)), 0)
	return time.Duration(ts.Nano())
}

// Clock is for one goroutine. The zero Clock is ready.
type Clock struct {
	source source
	// known: ahead is by how much boot time is ahead of monotonic time, and real by how
	// much real time was then.
	known       bool
	ahead, real time.Duration
	last        time.Duration
}

// source reads clocks, all of them from any beginning. The zero source reads the host's.
type source struct {
	boot func() time.Duration
	// both reads real time, and after that monotonic time.
	both func() (real, monotonic time.Duration)
}

// Now is the time since boot, within near, and never before what it was.
func (c *Clock) Now() time.Duration {
	if c.source.boot == nil {
		c.source = host()
	}
	real, monotonic := c.source.both()
	now := monotonic + c.ahead
	if d := real - monotonic - c.real; !c.known || d > moved || d < -moved {
		now = c.ask()
	}
	c.last = max(c.last, now)
	return c.last
}

// ask reads all clocks anew. What was not read at once says nothing of their difference,
// and the next Now asks again.
func (c *Clock) ask() (boot time.Duration) {
	for range tries {
		real, before := c.source.both()
		boot = c.source.boot()
		_, after := c.source.both()
		if c.known = after-before <= near; c.known {
			c.ahead, c.real = boot-before, real-before
			return after + c.ahead
		}
	}
	return boot
}

// host is the host's clocks.
func host() source {
	began := time.Now()
	beganReal := began.UnixNano()
	return source{boot: Now, both: func() (real, monotonic time.Duration) {
		now := time.Now()
		return time.Duration(now.UnixNano() - beganReal), now.Sub(began)
	}}
}
