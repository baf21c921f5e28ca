package control

import "time"

// run is the goroutine `control.DirectPath.run`; it ends with Close.
func (d *DirectPath) run() {
	defer d.over.Done()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		due := false
		select {
		case <-d.done:
			return
		case <-d.lists.heard:
			d.Heard()
			continue
		case <-d.kick:
		case <-timer.C:
			due = true
		}
		began := time.Now()
		wait := d.Turn(due)
		timer.Reset(max(wait, d.rest(time.Since(began))))
	}
}

// rest is for how long it is not looked again after it took so long.
func (d *DirectPath) rest(took time.Duration) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.looked != d.settled || d.overMatters() {
		return directShare * took
	}
	return max(min(idleShare*took, idleLook), directShare*took)
}

// Turn brings programs and DirectPath up to date, and returns after how long it is due
// again. It is what the goroutine of Start does when something has changed, and when that
// time is over, which is due; who has a time of its own, as a simulation, calls it, and not
// Start.
func (d *DirectPath) Turn(due bool) time.Duration {
	d.takePlace()
	d.settle()
	if due {
		d.list()
	}
	d.look()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.draining || d.stopped {
		return directDrain
	}
	return directLook
}

// Heard is the same after SetFlowLists.
func (d *DirectPath) Heard() {
	d.settle()
	d.list()
}
