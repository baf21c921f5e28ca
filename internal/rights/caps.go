package rights

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"
)

// Capability is one of capabilities(7).
type Capability = cap.Value

// The capabilities that this program knows a use for.
const (
	NetRaw         = cap.NET_RAW
	NetAdmin       = cap.NET_ADMIN
	NetBindService = cap.NET_BIND_SERVICE
	BPF            = cap.BPF
	Perfmon        = cap.PERFMON
	SysNice        = cap.SYS_NICE
	SysResource    = cap.SYS_RESOURCE
	SetUID         = cap.SETUID
	SetGID         = cap.SETGID
	DACOverride    = cap.DAC_OVERRIDE
)

// Name is a capability's name as capabilities(7) and systemd write it.
func Name(c Capability) string { return strings.ToUpper(c.String()) }

// Names are Name of each, in their order.
func Names(all []Capability) []string {
	out := []string{}
	for _, c := range all {
		out = append(out, Name(c))
	}
	return out
}

// Missing are those that this process may not use.
func Missing(all []Capability) (out []Capability) {
	have := cap.GetProc()
	for _, c := range all {
		if ok, err := have.GetFlag(cap.Permitted, c); !ok || err != nil {
			out = append(out, c)
		}
	}
	return out
}

// Limit leaves this process the capabilities in use, and beside them those in reserve:
// these count for nothing until Use takes one up, or Pass hands them to a process that
// this one starts. What it does not have anyway is not an error. It never gets any
// other, nor does a process that it starts: they leave the bounding set, as far as this
// process may change that, and no_new_privs is set. Its memory, in which there are keys,
// is in no core dump and cannot be read by others of its user (PR_SET_DUMPABLE of
// prctl(2)).
func Limit(use, reserve []Capability) error {
	if err := bound(slices.Concat(use, reserve)); err != nil {
		return err
	}
	have, left := cap.GetProc(), cap.NewSet()
	for _, c := range slices.Concat(use, reserve) {
		if ok, _ := have.GetFlag(cap.Permitted, c); !ok {
			continue
		}
		if err := left.SetFlag(cap.Permitted, true, c); err != nil {
			return fmt.Errorf("rights: %s: %w", Name(c), err)
		}
		if slices.Contains(use, c) {
			if err := left.SetFlag(cap.Effective, true, c); err != nil {
				return fmt.Errorf("rights: %s: %w", Name(c), err)
			}
		}
	}
	// None is inheritable then, and so none ambient (cap_capset of security/commoncap.c).
	if err := left.SetProc(); err != nil {
		return fmt.Errorf("rights: set capabilities: %w", err)
	}
	if _, err := cap.Prctlw(unix.PR_SET_NO_NEW_PRIVS, 1); err != nil {
		return fmt.Errorf("rights: set no_new_privs: %w", err)
	}
	// This one is the process's.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("rights: forbid core dumps: %w", err)
	}
	return nil
}

// bound takes all but some out of the bounding set, and root's privilege from root's
// user id, so that a program that root starts has none either (SECBIT_NOROOT). Without
// CAP_SETPCAP both stay: then no_new_privs keeps others away.
func bound(keep []Capability) error {
	have := cap.GetProc()
	if ok, err := have.GetFlag(cap.Permitted, cap.SETPCAP); !ok || err != nil {
		return nil
	}
	if err := have.SetFlag(cap.Effective, true, cap.SETPCAP); err != nil {
		return fmt.Errorf("rights: %w", err)
	}
	if err := have.SetProc(); err != nil {
		return fmt.Errorf("rights: raise CAP_SETPCAP: %w", err)
	}
	for c := range cap.MaxBits() {
		if there, err := cap.GetBound(c); !slices.Contains(keep, c) && there && err == nil {
			if err := cap.DropBound(c); err != nil {
				return fmt.Errorf("rights: take %s out of the bounding set: %w", Name(c), err)
			}
		}
	}
	if err := (cap.GetSecbits() | cap.SecbitNoRoot | cap.SecbitNoRootLocked).Set(); err != nil {
		return fmt.Errorf("rights: set SECBIT_NOROOT: %w", err)
	}
	return nil
}

// Use takes a capability up that Limit has left in reserve.
func Use(c Capability) error {
	have := cap.GetProc()
	if err := have.SetFlag(cap.Effective, true, c); err != nil {
		return fmt.Errorf("rights: %s: %w", Name(c), err)
	}
	if err := have.SetProc(); err != nil {
		return fmt.Errorf("rights: take up %s: %w", Name(c), err)
	}
	return nil
}

// Pass hands capabilities to the process that cmd will start, those of them that this
// one has. Processes that are started without it get none.
func Pass(cmd *exec.Cmd, all []Capability) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.AmbientCaps = nil
	lacks := Missing(all)
	for _, c := range all {
		if !slices.Contains(lacks, c) {
			cmd.SysProcAttr.AmbientCaps = append(cmd.SysProcAttr.AmbientCaps, uintptr(c))
		}
	}
}
