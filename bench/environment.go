package bench

import (
	"context"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Environment is where a run took place.
type Environment struct {
	CPU        string `json:"cpu"`
	Processors int    `json:"processors"`
	MemoryMB   uint64 `json:"memory_mb"`
	Kernel     string `json:"kernel"`
	Arch       string `json:"arch"`
	Go         string `json:"go"`
	// Commit is ours, with "+" when the sources had changes beside it; empty where
	// the program was built without.
	Commit string `json:"commit,omitempty"`
	// CongestionControl is that of the kernel's TCP on all hosts.
	CongestionControl string `json:"congestion_control"`
	// BusyPercent is how much of the machine others used just before.
	BusyPercent float64 `json:"busy_percent"`
	// Tools are the versions of all programs, by their names.
	Tools map[string]string `json:"tools"`
}

// environment looks around.
func environment() Environment {
	e := Environment{Processors: runtime.NumCPU(), Arch: runtime.GOARCH, Go: runtime.Version(), Tools: map[string]string{}}
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		e.CPU = cpuModel(string(info))
	}
	var mem unix.Sysinfo_t
	if unix.Sysinfo(&mem) == nil {
		e.MemoryMB = mem.Totalram * uint64(mem.Unit) >> 20
	}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		e.Kernel = unix.ByteSliceToString(name.Release[:])
	}
	e.Commit = commit()
	return e
}

// cpuModel is the first model name in /proc/cpuinfo, where there is one.
func cpuModel(info string) string {
	m := regexp.MustCompile(`(?m)^model name\s*:\s*(.+)$`).FindStringSubmatch(info)
	if m == nil {
		return "unknown"
	}
	return m[1]
}

// commit is what the linker knows of the sources.
func commit() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	var revision, changed string
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			changed = "+"
		}
	}
	const shortHash = 12
	return revision[:min(len(revision), shortHash)] + changed
}

// versionOf asks a program for its version. Those that end with an error tell it
// all the same.
func versionOf(name string) string {
	arg := "--version"
	switch name {
	case "haproxy", "nginx", "wrk":
		arg = "-v"
	case "dnsperf":
		arg = "-h"
	}
	out, _ := exec.Command(name, arg).CombinedOutput()
	return parseVersion(string(out))
}

// parseVersion is the first number with a dot in what a program says: behind the
// word "version", or where there is none there, anywhere.
func parseVersion(text string) string {
	number := regexp.MustCompile(`\d+\.[0-9][0-9A-Za-z.+~-]*`)
	if i := strings.Index(text, "ersion"); i >= 0 {
		if v := number.FindString(text[i:]); v != "" {
			return v
		}
	}
	return number.FindString(text)
}

// versions are those of all programs, in order.
func (e *Environment) versions() string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(e.Tools)) {
		all = append(all, name+" "+e.Tools[name])
	}
	return strings.Join(all, ", ")
}

// lookTime is how long the machine is looked at before it is used.
const lookTime = 500 * time.Millisecond

// busyPercent is how much of all processors is in use while we do nothing.
func busyPercent(ctx context.Context) (float64, error) {
	began := time.Now()
	before, err := machineTime()
	if err != nil {
		return 0, err
	}
	if err := pause(ctx, lookTime); err != nil {
		return 0, err
	}
	after, err := machineTime()
	all := float64(time.Since(began)) * float64(runtime.NumCPU())
	return min(100, 100*(after-before)/all), err
}

// machineTime is what all processors have done, in nanoseconds.
func machineTime() (float64, error) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	return busy(string(stat))
}
