package rights

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
)

// Files are those that a process may open, each a file, or a folder with all below it.
// Those that are not there are left out.
type Files struct {
	Read    []string `json:"read"`
	Write   []string `json:"write"` // and read, make and remove
	Execute []string `json:"execute"`
	// Alone: no signal leaves this process, nor a connection to an abstract socket of
	// another one.
	Alone bool `json:"-"`
}

// Confinement is what landlock(7) has been told, for a process and all that it starts.
type Confinement struct {
	// ABI is what the kernel can, as far as this program knows it; 0 where it cannot, or
	// may not.
	ABI int `json:"abi"`
	Files
	// Inherited: it is that of the process before this one.
	Inherited bool `json:"-"`
}

// confinementVariable tells the processes that a confined one starts what they cannot
// ask the kernel for. One that is not there, or that is not true, only makes them
// confine themselves once more.
const confinementVariable = "ONEVOICE_CONFINEMENT"

// most is the newest ABI that the library knows by a name of its own here.
const most = 8

// ABI is what the kernel can.
func ABI() int {
	v, err := ll.LandlockGetABIVersion()
	if err != nil {
		return 0
	}
	return min(v, most)
}

// Confine gives up all files but some, for good, for this process and all that it
// starts. What is open stays open. A kernel that cannot is not an error.
//
// There may be 16 of these one in another. A process that runs for months and was
// begun anew at each change of its file would come to that: so one that has inherited a
// confinement which lets it do all that it needs keeps that, and one that needs more is
// refused.
func Confine(f Files) (Confinement, error) {
	f = f.resolved()
	if c, ok := inherited(); ok {
		if path := f.beyond(&c.Files); path != "" {
			return c, fmt.Errorf("this daemon has given up the right to %s when it was started; restart it, or keep such files where they were", path)
		}
		return c, nil
	}
	c := Confinement{ABI: ABI(), Files: f}
	if err := f.restrict(); err != nil {
		return Confinement{}, fmt.Errorf("rights: confine: %w", err)
	}
	if f.Alone {
		// The last of its line.
		return c, nil
	}
	text, err := json.Marshal(c)
	if err != nil {
		return c, fmt.Errorf("rights: %w", err)
	}
	return c, os.Setenv(confinementVariable, string(text))
}

// ConfineMore gives up all files but some, whatever was inherited.
func ConfineMore(f Files) (Confinement, error) {
	if err := os.Unsetenv(confinementVariable); err != nil {
		return Confinement{}, fmt.Errorf("rights: %w", err)
	}
	return Confine(f)
}

// inherited is the confinement that this process was started in. That there is one at
// all is tried: no confinement of ours lets a process write to its own /proc.
func inherited() (c Confinement, ok bool) {
	text, ok := os.LookupEnv(confinementVariable)
	if !ok || json.Unmarshal([]byte(text), &c) != nil {
		return c, false
	}
	c.Inherited = true
	if c.ABI == 0 {
		return c, ABI() == 0
	}
	own, err := os.OpenFile("/proc/self/comm", os.O_WRONLY, 0)
	if err == nil {
		own.Close()
	}
	return c, errors.Is(err, unix.EACCES)
}

// resolved are the files that are there, without symbolic links.
func (f Files) resolved() Files {
	out := Files{Alone: f.Alone}
	for _, each := range []struct {
		from []string
		to   *[]string
	}{{f.Read, &out.Read}, {f.Write, &out.Write}, {f.Execute, &out.Execute}} {
		for _, path := range each.from {
			if real, err := filepath.EvalSymlinks(path); err == nil && !slices.Contains(*each.to, real) {
				*each.to = append(*each.to, real)
			}
		}
	}
	return out
}

// beyond is what of f another does not allow, in words, "" for nothing.
func (f *Files) beyond(other *Files) string {
	for _, each := range []struct {
		do         string
		want, have []string
	}{
		{"write to", f.Write, other.Write},
		{"execute", f.Execute, other.Execute},
		{"read", f.Read, slices.Concat(other.Read, other.Write, other.Execute)},
	} {
		for _, path := range each.want {
			if !slices.ContainsFunc(each.have, func(dir string) bool { return below(path, dir) }) {
				return each.do + " " + path
			}
		}
	}
	return ""
}

// below reports a path that is dir, or in it.
func below(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

// Rights of landlock(7), by what is done with a file.
const (
	mayRead    = ll.AccessFSReadFile | ll.AccessFSReadDir
	mayExecute = mayRead | ll.AccessFSExecute
	mayWrite   = mayRead | ll.AccessFSWriteFile | ll.AccessFSTruncate | ll.AccessFSRemoveFile | ll.AccessFSRemoveDir |
		ll.AccessFSMakeReg | ll.AccessFSMakeDir | ll.AccessFSMakeSock | ll.AccessFSMakeSym | ll.AccessFSMakeFifo
	ofFiles = ll.AccessFSReadFile | ll.AccessFSExecute | ll.AccessFSWriteFile | ll.AccessFSTruncate
	all     = mayExecute | mayWrite | ll.AccessFSMakeChar | ll.AccessFSMakeBlock | ll.AccessFSRefer | ll.AccessFSIoctlDev
	// scopes are both of ABI 6: signals, and abstract sockets.
	scopes = 1<<2 - 1
)

func (f *Files) restrict() error {
	parts := []any{landlock.AccessFSSet(all)}
	if f.Alone {
		parts = append(parts, landlock.ScopedSet(scopes))
	}
	cfg, err := landlock.NewConfig(parts...)
	if err != nil {
		return err
	}
	var rules []landlock.Rule
	for _, each := range []struct {
		paths []string
		may   uint64
	}{{f.Read, mayRead}, {f.Write, mayWrite}, {f.Execute, mayExecute}} {
		for _, path := range each.paths {
			info, err := os.Stat(path)
			if err != nil {
				continue
			}
			may := each.may
			if !info.IsDir() {
				may &= ofFiles
			}
			rules = append(rules, landlock.PathAccess(landlock.AccessFSSet(may), path))
		}
	}
	return cfg.BestEffort().Restrict(rules...)
}
