package lab

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// neededRights are what making namespaces and the hosts in them takes.
func neededRights() []int {
	return []int{unix.CAP_SYS_ADMIN, unix.CAP_NET_ADMIN, unix.CAP_NET_RAW, unix.CAP_NET_BIND_SERVICE}
}

// privileged reports whether this process has the rights itself. Root in a
// container often has not.
func privileged() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return false
	}
	for _, c := range neededRights() {
		if data[c/32].Effective&(1<<(c%32)) == 0 {
			return false
		}
	}
	return true
}

// asOneUser makes a process root of a user namespace that has no other user.
// Go writes "deny" to setgroups then, as the kernel demands of the unprivileged
// (user_namespaces(7)).
func asOneUser(attr *syscall.SysProcAttr) {
	attr.Cloneflags |= unix.CLONE_NEWUSER
	attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
	attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
}

// RealRoot reports whether the lab may take other users' ids, as sshd does, and load
// programs into the kernel: not so in a user namespace that has only one.
func RealRoot() bool {
	b, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return false
	}
	var inside, outside, size uint32
	if _, err := fmt.Sscan(string(b), &inside, &outside, &size); err != nil {
		return false
	}
	return os.Geteuid() == 0 && size > 1
}

// ExplainEnter turns an error of making the namespaces into a sentence with its
// mend. Other errors are returned as they are.
func ExplainEnter(err error) error {
	if !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.ENOSPC) &&
		!errors.Is(err, unix.EUSERS) && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS) {
		return err
	}
	return fmt.Errorf("%s (%w)", forbidden(err, os.Geteuid(), setting), err)
}

// setting is what a file under /proc/sys says, "" when there is none.
func setting(name string) string {
	b, err := os.ReadFile("/proc/sys/" + strings.ReplaceAll(name, ".", "/"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// forbidden says why the namespaces could not be made, and what to do.
func forbidden(err error, uid int, setting func(string) string) string {
	const users = "this system does not let ordinary users make namespaces, which the lab is made of"
	for _, s := range []struct{ name, bad, good string }{
		{"user.max_user_namespaces", "0", "15000"},
		{"kernel.unprivileged_userns_clone", "0", "1"},
		{"kernel.apparmor_restrict_unprivileged_userns", "1", "0"},
	} {
		if uid != 0 && setting(s.name) == s.bad {
			return fmt.Sprintf("%s; run it as root, or let an administrator run: sysctl -w %s=%s", users, s.name, s.good)
		}
	}
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EUSERS):
		return "this system has no more room for namespaces, which the lab is made of; end what has made so many, or raise the limits user.max_*_namespaces with sysctl"
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS):
		return "this kernel lacks namespaces, which the lab is made of; use one with CONFIG_USER_NS, CONFIG_PID_NS and CONFIG_NET_NS"
	case uid == 0:
		return "root may not make namespaces here, which the lab is made of, as is usual in a container; give the container the right (docker run --privileged), or run it on the host"
	}
	return users + "; run it as root, or, in a container, give the container the right (docker run --privileged)"
}
