package lab

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// InitCommand is the hidden command that Enter starts: its process is the first
// of the new process namespace, and calls Init.
const InitCommand = "init"

// RunDir is a private tmpfs inside the lab.
const RunDir = "/run/onevoice"

// program is where the lab finds this program: a copy, so that it stays what it
// is when somebody replaces or removes the file outside, as `go run` does.
const program = RunDir + "/bin/onevoice"

// Enter is the command that runs `onevoice lab ARGS…` inside namespaces of its
// own: mounts, processes and network, and without the rights of root a user
// namespace. Its network namespace has nothing in it, so that no mistake in the
// lab can touch the machine's.
//
// withCaller makes the lab end with the calling thread, which has to be locked
// (runtime.LockOSThread); else the lab lives on in a session of its own. The
// files are there inside as PassedFile.
func Enter(args []string, withCaller bool, files ...*os.File) *exec.Cmd {
	own := []string{"lab", InitCommand, "--files=" + strconv.Itoa(len(files)), "--"}
	cmd := exec.Command("/proc/self/exe", append(own, args...)...)
	cmd.ExtraFiles = files
	attr := &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET}
	if withCaller {
		attr.Pdeathsig = syscall.SIGKILL
	} else {
		attr.Setsid = true
		// It is not to keep a file system of the caller's busy.
		cmd.Dir = "/"
	}
	if !privileged() {
		asOneUser(attr)
	}
	cmd.SysProcAttr = attr
	return cmd
}

// Init prepares the namespaces and runs `onevoice lab ARGS…` in them with the
// files that were passed on. It waits for every process of the lab, as the
// first process of a namespace must, passes signals on, and reports the exit
// code of that command; its end ends all others.
func Init(files int, args []string) (int, error) {
	if os.Getpid() != 1 {
		return 1, errors.New("this command is for `onevoice lab` itself")
	}
	if err := prepareMounts(); err != nil {
		return 1, err
	}
	if err := copyProgram(); err != nil {
		return 1, err
	}
	cmd := exec.Command(program, append([]string{"lab"}, args...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	for i := range files {
		cmd.ExtraFiles = append(cmd.ExtraFiles, PassedFile(i))
	}
	cmd.Env = append(os.Environ(), "PATH="+searchPath())
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	err := cmd.Start()
	// The first, a listening socket, stays open here until everything has ended:
	// that is how WaitDown knows. Whoever waits for the end of the others waits
	// for the command's copies alone.
	for _, f := range cmd.ExtraFiles[min(1, len(cmd.ExtraFiles)):] {
		f.Close()
	}
	if err != nil {
		return 1, err
	}
	go passOn(signals, cmd.Process.Pid)
	code := reap(cmd.Process.Pid)
	// To the first process of a namespace, -1 means all others in it.
	_ = unix.Kill(-1, unix.SIGKILL)
	reap(0)
	return code, nil
}

// passOn is the goroutine `lab.passOn`; it ends with the lab.
func passOn(signals <-chan os.Signal, pid int) {
	for s := range signals {
		// The command may have ended.
		_ = unix.Kill(pid, s.(syscall.Signal))
	}
}

// searchPath is the PATH in the lab: this program first, and the places of
// administrators' tools, which not every user has.
func searchPath() string {
	return filepath.Dir(program) + ":" + os.Getenv("PATH") + ":/usr/sbin:/sbin"
}

// firstPassedFD is the first descriptor behind standard error.
const firstPassedFD = 3

// PassedFile is a file that was given to Enter, by its number from 0. No program
// of the lab inherits it.
func PassedFile(i int) *os.File {
	fd := firstPassedFD + i
	syscall.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), "passed")
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
			return signalExit + int(ws.Signal())
		}
		return ws.ExitStatus()
	}
}

// signalExit and the signal's number are the exit code of what a signal ended,
// as in a shell.
const signalExit = 128

// prepareMounts gives the lab a /run of its own, and a /proc of its own
// processes. What is mounted here is seen by nobody else and ends with the lab;
// what is taken away outside is taken away here as well.
func prepareMounts() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return ExplainEnter(os.NewSyscallError("make mounts private", err))
	}
	// In some containers a new /proc is forbidden; the old one does, with the
	// process numbers of outside.
	_ = unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	if err := unix.Mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
		return ExplainEnter(os.NewSyscallError("mount a private /run", err))
	}
	for _, dir := range []string{RunDir, filepath.Dir(program), "/run/sshd", "/run/netns"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	return nil
}

func copyProgram() error {
	from, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(program, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	return errors.Join(err, to.Close())
}

// bindFile makes a file appear at a path that does not exist yet.
func bindFile(file, at string) error {
	f, err := os.OpenFile(at, os.O_CREATE|os.O_EXCL, 0o444)
	if err != nil {
		return err
	}
	f.Close()
	if err := unix.Mount(file, at, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind %s: %w", at, err)
	}
	return nil
}
