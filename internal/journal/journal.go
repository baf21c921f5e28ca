package journal

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Loaded is what a state directory held.
type Loaded struct {
	// Snapshot is empty where there was none.
	Snapshot []byte
	// Records in the order in which they were appended.
	Records [][]byte
	// Cut is how many bytes of an unacknowledged write were cut off, from CutAt.
	Cut, CutAt int64
}

// Note tells for a log what was cut off, or nothing.
func (l Loaded) Note() string {
	if l.Cut == 0 {
		return ""
	}
	return fmt.Sprintf("a write that was never finished was cut off: %d bytes from byte %d", l.Cut, l.CutAt)
}

// Journal is a state directory that this process holds. It is for one goroutine.
type Journal struct {
	dir   *directory
	store *store
}

// Open locks a state directory, made if there is none, and loads it. It must be
// ours, with mode 0700, as ssh wants it. Errors are for the operator.
func Open(path string) (*Journal, Loaded, error) {
	d, err := openDirectory(path)
	if err != nil {
		return nil, Loaded{}, err
	}
	return load(d)
}

// Adopt is Open for the successor of a process that holds the lock: lock is the
// file of its Pass, inherited. Adopt owns it, also when it fails.
func Adopt(path string, lock *os.File) (*Journal, Loaded, error) {
	d, err := adoptDirectory(path, lock)
	if err != nil {
		lock.Close()
		return nil, Loaded{}, err
	}
	return load(d)
}

func load(d *directory) (*Journal, Loaded, error) {
	s, l, err := openStore(d, newID)
	if err != nil {
		d.lock.Close()
		var damage *Damage
		if name := filepath.Join(d.path, journalName); errors.As(err, &damage) {
			damage.File = name
		} else {
			err = fmt.Errorf("%s: %w", name, err)
		}
		return nil, Loaded{}, err
	}
	return &Journal{d, s}, l, nil
}

func newID() (id [16]byte) {
	rand.Read(id[:])
	return id
}

// Append makes records durable, all of them or none. After an error none of them
// counts, though a restart may find them; after one that Broken knows, nothing
// more can be written until a restart.
func (j *Journal) Append(records [][]byte) error { return j.wrap(j.store.append(records)) }

// Replace makes a snapshot, and records after it, take the place of all before,
// all of it or nothing. Errors are as Append's.
func (j *Journal) Replace(snapshot []byte, records [][]byte) error {
	return j.wrap(j.store.replace(snapshot, records))
}

func (j *Journal) wrap(err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", j.dir.path, err)
	}
	return nil
}

// Broken is why nothing can be written any more, or nil.
func (j *Journal) Broken() error { return j.store.broken }

// Size is the length of the file in bytes; whoever appends decides by it when to
// replace.
func (j *Journal) Size() int64 { return j.store.tail.end }

// Generation counts the snapshots.
func (j *Journal) Generation() uint64 { return j.store.generation }

// Pass ends the writing of this process and returns the lock for a successor's
// ExtraFiles. The lock is held until the file and all its copies are closed; if
// there is no successor after all, Adopt takes it back.
func (j *Journal) Pass() (*os.File, error) {
	if err := j.store.stop(errPassed); err != nil {
		return nil, j.wrap(err)
	}
	lock := j.dir.lock
	if lock == nil {
		return nil, j.wrap(errClosed)
	}
	j.dir.lock = nil
	return lock, nil
}

// Close ends the writing and frees the lock.
func (j *Journal) Close() error {
	err := j.store.stop(errClosed)
	if j.dir.lock != nil {
		err = errors.Join(err, j.dir.lock.Close())
		j.dir.lock = nil
	}
	return err
}
