package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// InitCommand is the hidden command that Enter starts: its process is the first
// of the new process namespace, and calls Init.
const InitCommand = "init"

// RunDir is a private tmpfs inside the lab.
const RunDir = "/run/onevoice"

// Enter is the command that runs `onevoice lab ARGS…` inside namespaces of its
// own: mounts and processes, and as an ordinary user a user namespace. Whoever
// starts it has to lock its thread (runtime.LockOSThread) if the lab is to end
// with it.
func Enter(args []string, withCaller bool) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", append([]string{"lab", InitCommand, "--"}, args...)...)
	attr := &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID}
	if withCaller {
		attr.Pdeathsig = syscall.SIGKILL
	} else {
		attr.Setsid = true
	}
	if uid, gid := os.Geteuid(), os.Getegid(); uid != 0 {
		attr.Cloneflags |= unix.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: gid, Size: 1}}
	}
	cmd.SysProcAttr = attr
	return cmd
}

// ExplainEnter turns the error of starting Enter's command into a sentence.
func ExplainEnter(err error) error {
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("this system does not let ordinary users make namespaces, which the lab is made of; run it as root, or allow user namespaces (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns) (%w)", err)
	}
	return err
}

// RealRoot reports whether the lab may take other users' ids, as sshd does: not
// so in a user namespace that has only one.
func RealRoot() bool { return os.Getenv(oneUser) == "" }

// oneUser is set in the environment of a lab in a user namespace.
const oneUser = "ONEVOICE_LAB_ONE_USER"

// Init prepares the namespaces and runs `onevoice lab ARGS…` in them. It waits
// for every process of the lab, as the first process of a namespace must, and
// reports the exit code of that command; its end ends all others.
func Init(args []string) (int, error) {
	if os.Getpid() != 1 {
		return 1, errors.New("this command is for `onevoice lab` itself")
	}
	exe, err := os.Executable()
	if err != nil {
		return 1, err
	}
	if err := prepareMounts(exe); err != nil {
		return 1, err
	}
	runtime.LockOSThread()
	cmd := exec.Command(exe, append([]string{"lab"}, args...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	for fd := firstPassedFD; fd < firstPassedFD+passedFDs(); fd++ {
		cmd.ExtraFiles = append(cmd.ExtraFiles, os.NewFile(uintptr(fd), "passed"))
	}
	cmd.Env = append(os.Environ(), "PATH="+filepath.Join(RunDir, "bin")+":"+os.Getenv("PATH")+":/usr/sbin:/sbin")
	if oneUserNamespace() {
		cmd.Env = append(cmd.Env, oneUser+"=1")
	}
	err = cmd.Start()
	// The first, a listening socket, stays open here until everything has ended:
	// that is how WaitDown knows. Whoever waits for the end of the others waits
	// for the command's copies alone.
	for _, f := range cmd.ExtraFiles[min(1, len(cmd.ExtraFiles)):] {
		f.Close()
	}
	if err != nil {
		return 1, err
	}
	code := reap(cmd.Process.Pid)
	// To the first process of a namespace, -1 means all others in it.
	_ = unix.Kill(-1, unix.SIGKILL)
	reap(0)
	return code, nil
}

// firstPassedFD is the first descriptor behind standard error.
const firstPassedFD = 3

// PassedFile is a file that was passed on to the command that Init runs, by its
// number from 0. No program of the lab inherits it.
func PassedFile(i int) *os.File {
	fd := firstPassedFD + i
	syscall.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), "passed")
}

// passedFDsVariable says how many descriptors Enter's caller passes on.
const passedFDsVariable = "ONEVOICE_LAB_FDS"

func passedFDs() int {
	n, err := strconv.Atoi(os.Getenv(passedFDsVariable))
	if err != nil {
		return 0
	}
	return n
}

// reap waits for children until the one named has ended, and reports its exit
// code; 0 names all of them.
func reap(first int) int {
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, 0, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return 1
		}
		if pid != first {
			continue
		}
		if ws.Signaled() {
			return 128 + int(ws.Signal())
		}
		return ws.ExitStatus()
	}
}

// oneUserNamespace reports whether only one user id exists here.
func oneUserNamespace() bool {
	b, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return true
	}
	var inside, outside, size uint32
	if _, err := fmt.Sscan(string(b), &inside, &outside, &size); err != nil {
		return true
	}
	return size == 1
}

// prepareMounts gives the lab a /run of its own, and a /proc of its own
// processes. What is mounted here is seen by nobody else and ends with the lab.
func prepareMounts(exe string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return os.NewSyscallError("make mounts private", err)
	}
	// In some containers a new /proc is forbidden; the old one does, with the
	// process numbers of outside.
	_ = unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	if err := unix.Mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
		return os.NewSyscallError("mount a private /run", err)
	}
	for _, dir := range []string{RunDir, filepath.Join(RunDir, "bin"), "/run/sshd", "/run/netns"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	return os.Symlink(exe, filepath.Join(RunDir, "bin", "onevoice"))
}
