package ingress

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// MaxListed bounds the flows of drainers that are wanted in the programs' map at a time. It
// has room for as many again, as one set follows the other.
const MaxListed = 1 << 16

// newListed is the map of them. It takes memory for what is in it alone.
func newListed() (*ebpf.Map, error) {
	m, err := ebpf.NewMap(&ebpf.MapSpec{Name: "onevoice_listed", Type: ebpf.Hash, KeySize: 8, ValueSize: 1, MaxEntries: 2 * MaxListed, Flags: unix.BPF_F_NO_PREALLOC})
	if err != nil {
		return nil, fmt.Errorf("map of drainers' flows: %w", err)
	}
	return m, nil
}

// List puts flows of drainers into the programs' map. A bucket may be listed when all of its
// flows are there and Settle has returned since.
func (d *Direct) List(hashes []uint64) error {
	if len(hashes) == 0 {
		return nil
	}
	if _, err := d.listed.BatchUpdate(hashes, make([]uint8, len(hashes)), nil); err != nil {
		return fmt.Errorf("ingress: drainers' flows: %w", err)
	}
	return nil
}

// Unlist takes flows out again. No program may run under rows any more that list their
// buckets; one that is not there is no error.
func (d *Direct) Unlist(hashes []uint64) error {
	for len(hashes) > 0 {
		n, err := d.listed.BatchDelete(hashes, nil)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, ebpf.ErrKeyNotExist) || n >= len(hashes):
			return fmt.Errorf("ingress: drainers' flows: %w", err)
		}
		hashes = hashes[n+1:]
	}
	return nil
}
