package control

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"onevoice/cluster"
	"onevoice/internal/journal"
)

// LookRecover tells what Recover would make of a state directory, and changes
// nothing. No daemon may run on it.
func LookRecover(dir string) (cluster.Recovered, error) {
	return recoverState(dir, [16]byte{1}, false)
}

// Recover makes the state of a host that has lost its cluster for good the state
// of a cluster of its own, with that UUID; see cluster.Recover for what the
// operator must vouch for.
func Recover(dir string, uuid [16]byte) (cluster.Recovered, error) {
	return recoverState(dir, uuid, true)
}

func recoverState(dir string, uuid [16]byte, write bool) (r cluster.Recovered, err error) {
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return r, fmt.Errorf("state directory: %w", err) // Open would make it
	}
	j, l, err := journal.Open(dir)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, j.Close()) }()
	saved, r, err := cluster.Recover(cluster.Saved{Image: l.Snapshot, Records: l.Records}, uuid)
	if err != nil {
		return r, fmt.Errorf("%s: %w", dir, err)
	}
	if write {
		err = j.Replace(saved.Image, saved.Records)
	}
	return r, err
}
