package journal

import (
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// measuredBytes is a write as long as a usual record.
const measuredBytes = 256

// Sync is how long a disk takes to make a small write durable.
type Sync struct{ P50, P99, Max time.Duration }

// MeasureSync appends n small writes to a file of its own in dir, each synced as
// Append does, and removes it. The directory may be in use.
func MeasureSync(dir string, n int) (Sync, error) {
	if n < 1 {
		return Sync{}, fmt.Errorf("measure %d writes: at least 1", n)
	}
	f, err := os.CreateTemp(dir, "measure-")
	if err != nil {
		return Sync{}, fmt.Errorf("measure the disk: %w", err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	took := make([]time.Duration, n)
	b := make([]byte, measuredBytes)
	for i := range took {
		began := time.Now()
		if _, err := f.WriteAt(b, int64(i*len(b))); err != nil {
			return Sync{}, fmt.Errorf("measure the disk: %w", err)
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return Sync{}, fmt.Errorf("measure the disk: %w", os.NewSyscallError("fdatasync", err))
		}
		took[i] = time.Since(began)
	}
	slices.Sort(took)
	return Sync{P50: took[(n-1)/2], P99: took[(n-1)*99/100], Max: took[n-1]}, nil
}
