package lab

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// CPUUse is what processor time went to, in seconds of one processor.
type CPUUse struct {
	// The machine: programs, the kernel, nothing, and other machines on the same
	// hardware (proc_stat(5): user and nice, system and interrupts, idle, steal).
	User   float64 `json:"user"`
	System float64 `json:"system"`
	Idle   float64 `json:"idle"`
	Stolen float64 `json:"stolen"`
	// Daemons are the nodes', control and workers together. They are left out
	// where /proc is that of outside. Lab is this process: the clients.
	Daemons map[string]float64 `json:"daemons,omitempty"`
	Lab     float64            `json:"lab"`
}

// ticksPerSecond is USER_HZ, which is 100 on all of Linux's architectures but one.
const ticksPerSecond = 100

// cpu is the use since the machine's and the processes' start.
func (l *load) cpu() (CPUUse, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return CPUUse{}, err
	}
	u := machineCPU(string(text))
	var self unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &self); err != nil {
		return u, os.NewSyscallError("getrusage", err)
	}
	u.Lab = float64(self.Utime.Nano()+self.Stime.Nano()) / 1e9
	u.Daemons = map[string]float64{}
	if ours, err := ownProc(); err != nil || !ours {
		return u, err
	}
	for _, d := range l.Daemons {
		pids, err := d.Processes()
		if err != nil {
			return u, err
		}
		for _, pid := range pids {
			// It may have ended.
			stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			u.Daemons[d.Host.Name] += processCPU(string(stat))
		}
	}
	return u, nil
}

// machineCPU reads the first line of /proc/stat.
func machineCPU(stat string) (u CPUUse) {
	line, _, _ := strings.Cut(stat, "\n")
	f := strings.Fields(line)
	const fields = 9
	if len(f) < fields {
		return u
	}
	s := func(i int) float64 { return seconds(f[i]) }
	u.User, u.System, u.Idle, u.Stolen = s(1)+s(2), s(3)+s(6)+s(7), s(4)+s(5), s(8)
	return u
}

// processCPU reads utime and stime of /proc/PID/stat (proc_pid_stat(5)), which
// are fields 14 and 15. The second is a name that may have anything in it but
// ends with the last bracket.
func processCPU(stat string) float64 {
	f := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	const user, system = 14 - 3, 15 - 3
	if len(f) <= system {
		return 0
	}
	return seconds(f[user]) + seconds(f[system])
}

func seconds(ticks string) float64 {
	n, _ := strconv.ParseUint(ticks, 10, 64)
	return float64(n) / ticksPerSecond
}

// since is what was used after an earlier look.
func (u CPUUse) since(before CPUUse) CPUUse {
	out := CPUUse{u.User - before.User, u.System - before.System, u.Idle - before.Idle, u.Stolen - before.Stolen, map[string]float64{}, u.Lab - before.Lab}
	for name, n := range u.Daemons {
		out.Daemons[name] = n - before.Daemons[name]
	}
	return out
}

// String is for the report.
func (u CPUUse) String() string {
	all := max(u.User+u.System+u.Idle+u.Stolen, 0.01)
	percent := func(x float64) float64 { return 100 * x / all }
	return fmt.Sprintf("processors: %.0f %% programs, %.0f %% kernel, %.0f %% idle, %.0f %% stolen",
		percent(u.User), percent(u.System), percent(u.Idle), percent(u.Stolen))
}
