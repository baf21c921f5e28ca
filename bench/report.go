package bench

import (
	"slices"
	"time"
)

// Report is the result of a run.
type Report struct {
	Began   time.Time `json:"began"`
	Seconds float64   `json:"seconds"`
	// Rounds that were wanted, and SecondsEach of a measurement.
	Rounds      int     `json:"rounds"`
	SecondsEach float64 `json:"seconds_each"`
	// MACMode is the mac_mode of ours, empty for the default.
	MACMode     string      `json:"mac_mode,omitempty"`
	Environment Environment `json:"environment"`
	// LatencyRate is the load of the latency rows in requests a second, half of what
	// the path named by LatencyReference can do. SocketBytes is what the kernel takes
	// for one end of an idle connection. Both are 0 when no row needed them.
	LatencyRate      float64 `json:"latency_rate,omitempty"`
	LatencyReference string  `json:"latency_reference,omitempty"`
	SocketBytes      float64 `json:"socket_bytes,omitempty"`
	// IdleMost is how many idle connections there were at most, fewer than wanted
	// where the machine allows too few open files.
	IdleMost int        `json:"idle_most,omitempty"`
	Paths    []PathInfo `json:"paths"`
	Rows     []Row      `json:"rows"`
	// Interrupted: the run ended before its last round.
	Interrupted bool `json:"interrupted"`
}

// PathInfo is one of the paths that were asked for.
type PathInfo struct {
	Name  string `json:"name"`
	Title string `json:"title"`
	// Version is that of its program, empty for what is in the kernel.
	Version string `json:"version,omitempty"`
	// Missing says why it was skipped, empty when it was not.
	Missing string `json:"missing,omitempty"`
}

// Row is one figure for every path.
type Row struct {
	figure
	// Test is what the row was measured by, some with others.
	Test string `json:"test"`
	// Missing says why it was skipped, empty when it was not.
	Missing string `json:"missing,omitempty"`
	// Cells are by the paths' names.
	Cells map[string]*Cell `json:"cells"`
}

// Cell is what a row says of a path.
type Cell struct {
	// Samples are one of each round that went well.
	Samples []float64 `json:"samples,omitempty"`
	// Spread is there when there are samples.
	*Spread
	// Failed says what went wrong, in the round that is named.
	Failed []string `json:"failed,omitempty"`
	// NotSupported: the path cannot do this.
	NotSupported bool `json:"not_supported,omitempty"`
}

// add takes in a sample.
func (c *Cell) add(sample float64) {
	c.Samples = append(c.Samples, sample)
	s := spreadOf(c.Samples)
	c.Spread = &s
}

// ratio is a path's median to a peer's. ok is false when one of them has no
// samples, or the peer's is nothing or less, as a difference may be.
func (r *Row) ratio(name, peer string) (times float64, ok bool) {
	a, b := r.Cells[name], r.Cells[peer]
	if a == nil || b == nil || a.Spread == nil || b.Spread == nil || b.Median <= 0 {
		return 0, false
	}
	return a.Median / b.Median, true
}

// Row finds a row by its name, nil when it was not asked for.
func (r *Report) Row(name string) *Row {
	i := slices.IndexFunc(r.Rows, func(row Row) bool { return row.Name == name })
	if i < 0 {
		return nil
	}
	return &r.Rows[i]
}

// Path finds a path by its name, nil when it was not asked for.
func (r *Report) Path(name string) *PathInfo {
	i := slices.IndexFunc(r.Paths, func(p PathInfo) bool { return p.Name == name })
	if i < 0 {
		return nil
	}
	return &r.Paths[i]
}
