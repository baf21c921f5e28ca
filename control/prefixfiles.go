package control

import (
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"

	"onevoice/config"
)

// PrefixList is what a file of prefixes says, by the file's name.
type PrefixList struct {
	File     string
	Prefixes []netip.Prefix
}

// PrefixFileStatus is how it stands with a file of prefixes.
type PrefixFileStatus struct {
	File string `json:"file"`
	// Prefixes is how many are in force, and Seconds how long ago they were read.
	Prefixes int     `json:"prefixes"`
	Seconds  float64 `json:"read_seconds_ago"`
	// Error is why what the file says now is not in force, "" when it is.
	Error string `json:"error,omitempty"`
}

// PrefixFiles are the files of prefixes that a configuration names, read anew when
// they change. What cannot be used leaves in force what was read before.
type PrefixFiles struct {
	clock func() time.Duration
	// pace is how much faster than the host's the clock runs: 1, but in tests.
	pace time.Duration
	// slow is how often a file is looked at unasked: slowLook, but in tests.
	slow time.Duration
	log  *slog.Logger
	tell func(PrefixList)
	// events is nil where the kernel tells of no changes.
	events     *fsnotify.Watcher
	stop, done chan struct{}

	mu    sync.Mutex
	files []*prefixFile
}

// prefixFile is one of them. What follows path belongs to run, but for list, readAt and
// trouble, which PrefixFiles.mu guards.
type prefixFile struct {
	path    string
	needed  bool
	look    look
	list    PrefixList
	readAt  time.Duration
	trouble string
}

// ReadPrefixFiles reads the files that a configuration names. The error is about one
// that cannot be used, for there is nothing yet that could stay in force.
func ReadPrefixFiles(c *config.Config, clock func() time.Duration, log *slog.Logger) (*PrefixFiles, error) {
	f := &PrefixFiles{clock: clock, pace: 1, slow: slowLook, log: log, stop: make(chan struct{}), done: make(chan struct{})}
	for _, path := range c.PrefixFiles() {
		one := &prefixFile{path: path, needed: c.NeedsPrefixes(path)}
		list, info, err := config.ReadPrefixes(path, one.needed)
		if err != nil {
			return nil, err
		}
		now := clock()
		one.list, one.readAt = PrefixList{path, list}, now
		one.look.read(now, stampOf(info), false)
		f.files = append(f.files, one)
	}
	return f, nil
}

// Lists are what is in force.
func (f *PrefixFiles) Lists() (out []PrefixList) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, one := range f.files {
		out = append(out, one.list)
	}
	return out
}

// Status is how it stands with each file.
func (f *PrefixFiles) Status() (out []PrefixFileStatus) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.clock()
	for _, one := range f.files {
		out = append(out, PrefixFileStatus{File: one.path, Prefixes: len(one.list.Prefixes), Seconds: (now - one.readAt).Seconds(), Error: one.trouble})
	}
	return out
}

// Watch tells of every list that is read anew, from the goroutine
// `control.PrefixFiles.run`, until Close.
func (f *PrefixFiles) Watch(tell func(PrefixList)) {
	f.tell = tell
	if len(f.files) == 0 {
		close(f.done)
		return
	}
	var err error
	if f.events, err = fsnotify.NewWatcher(); err != nil {
		f.log.Warn("the kernel tells of no changed file, so the files of prefixes are looked at now and then", "every", slowLook.String(), "error", err)
	}
	go f.run()
}

// Close ends the watch. It is for those who have called Watch.
func (f *PrefixFiles) Close() error {
	close(f.stop)
	<-f.done
	if f.events == nil {
		return nil
	}
	return f.events.Close()
}

// run looks at the files when their directories change, and now and then.
func (f *PrefixFiles) run() {
	defer close(f.done)
	var events chan fsnotify.Event
	var failures chan error
	if f.events != nil {
		events, failures = f.events.Events, f.events.Errors
	}
	wait := time.NewTimer(0)
	defer wait.Stop()
	// asked: an event has come, and the next look is soon.
	asked := false
	for {
		select {
		case <-f.stop:
			return
		case <-wait.C:
			asked = false
			f.listen()
			wait.Reset(f.lookAll() / f.pace)
		case <-events:
			if !asked {
				asked = true
				wait.Reset(settleTime / f.pace)
			}
		case <-failures:
			// An overflow of the kernel's queue: the next look finds what was missed.
			if !asked {
				asked = true
				wait.Reset(settleTime / f.pace)
			}
		}
	}
}

// listen has the kernel tell of changes in the directories of the files, and of those
// that they are links to; they may have been made since.
func (f *PrefixFiles) listen() {
	if f.events == nil {
		return
	}
	var wanted []string
	for _, one := range f.files {
		wanted = append(wanted, filepath.Dir(one.path))
		if target, err := filepath.EvalSymlinks(one.path); err == nil {
			wanted = append(wanted, filepath.Dir(target))
		}
	}
	for _, path := range f.events.WatchList() {
		if !slices.Contains(wanted, path) {
			// It may be gone by itself.
			_ = f.events.Remove(path)
		}
	}
	for _, path := range wanted {
		// One that is not there is tried again at the next look.
		_ = f.events.Add(path)
	}
}

// lookAll looks at every file, and returns how long it is until the next look.
func (f *PrefixFiles) lookAll() time.Duration {
	until := f.slow
	for _, one := range f.files {
		now := f.clock()
		// One that cannot be found has no stamp.
		info, _ := os.Stat(one.path)
		read, next := one.look.at(now, stampOf(info))
		if read {
			f.read(one, stampOf(info))
			if next = now + readInterval; !one.look.waiting {
				_, next = one.look.at(now, one.look.taken)
			}
		}
		until = min(until, next-now)
	}
	return max(until, time.Millisecond)
}

// read reads a file anew.
func (f *PrefixFiles) read(one *prefixFile, s stamp) {
	list, info, err := config.ReadPrefixes(one.path, one.needed)
	now := f.clock()
	if errors.Is(err, config.ErrChanging) {
		one.look.changing(now)
		return
	}
	if info != nil {
		s = stampOf(info)
	}
	one.look.read(now, s, err != nil)
	before := len(one.list.Prefixes)
	f.mu.Lock()
	was := one.trouble
	if err != nil {
		one.trouble = err.Error()
	} else {
		one.trouble, one.readAt, one.list = "", now, PrefixList{one.path, list}
	}
	f.mu.Unlock()
	if err == nil {
		f.log.Info("a file of prefixes was read anew", "file", one.path, "prefixes", len(list), "before", before)
		f.tell(one.list)
	} else if one.trouble != was {
		f.log.Warn("a file of prefixes cannot be used; what was read before stays in force", "error", err, "prefixes", before)
	}
}
