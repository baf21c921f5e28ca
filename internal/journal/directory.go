package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// holderName is a file that names the process with the lock, for people only.
const holderName = "holder"

// directory is a state directory with the lock held. It is a folder.
type directory struct {
	path string
	lock *os.File
}

func openDirectory(path string) (*directory, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := checkParents(filepath.Dir(path)); err != nil {
		return nil, err
	}
	if err := makeDirectory(path); err != nil {
		return nil, err
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil, fmt.Errorf("state directory %s: it is a symbolic link or no directory; name the directory itself", path)
	}
	if err != nil {
		return nil, fmt.Errorf("state directory: %w", &os.PathError{Op: "open", Path: path, Err: err})
	}
	d := &directory{path, os.NewFile(uintptr(fd), path)}
	if err := d.take(); err != nil {
		d.lock.Close()
		return nil, err
	}
	return d, nil
}

func adoptDirectory(path string, lock *os.File) (*directory, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := checkParents(filepath.Dir(path)); err != nil {
		return nil, err
	}
	unix.CloseOnExec(int(lock.Fd()))
	d := &directory{path, lock}
	return d, d.take()
}

// makeDirectory makes it durably, if it is not there.
func makeDirectory(path string) error {
	if err := os.Mkdir(path, 0o700); errors.Is(err, os.ErrExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	parent, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	defer parent.Close()
	return parent.Sync()
}

// checkParents: nobody but root and us may put another directory in the place of
// ours (sshd(8), StrictModes). In a sticky directory nobody else can.
func checkParents(dir string) error {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return fmt.Errorf("state directory: %w; make that directory first", err)
	}
	for {
		var st unix.Stat_t
		if err := unix.Stat(dir, &st); err != nil {
			return fmt.Errorf("state directory: %w", &os.PathError{Op: "stat", Path: dir, Err: err})
		}
		if st.Uid != 0 && int(st.Uid) != os.Geteuid() && !unmapped(st.Uid) {
			return fmt.Errorf("state directory: %s above it belongs to user %d, who could replace it; use a path of root's or our own", dir, st.Uid)
		}
		if st.Mode&0o022 != 0 && st.Mode&unix.S_ISVTX == 0 {
			return fmt.Errorf("state directory: others may write to %s above it (mode %04o); run chmod go-w %s", dir, st.Mode&0o7777, dir)
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
		dir = filepath.Dir(dir)
	}
}

// unmapped reports the user as whom all those appear that a user namespace has no
// number for (user_namespaces(7)): there the host's root is one of them. Who made
// the namespace trusts them.
func unmapped(uid uint32) bool {
	overflow, err := os.ReadFile("/proc/sys/kernel/overflowuid")
	if err != nil || strings.TrimSpace(string(overflow)) != strconv.FormatUint(uint64(uid), 10) {
		return false
	}
	ids, err := os.ReadFile("/proc/self/uid_map")
	all := len(strings.Fields(string(ids))) == 3 && strings.Fields(string(ids))[2] == "4294967295"
	return err == nil && !all
}

// take checks the directory's rights and takes its lock, which it may have
// already.
func (d *directory) take() error {
	var opened, named unix.Stat_t
	if err := unix.Fstat(int(d.lock.Fd()), &opened); err != nil {
		return fmt.Errorf("state directory %s: %w", d.path, err)
	}
	if opened.Mode&unix.S_IFMT != unix.S_IFDIR {
		return fmt.Errorf("state directory %s: what was passed is no directory", d.path)
	}
	if int(opened.Uid) != os.Geteuid() {
		return fmt.Errorf("state directory %s belongs to user %d and we are %d; run chown %d %s", d.path, opened.Uid, os.Geteuid(), os.Geteuid(), d.path)
	}
	if opened.Mode&0o7777 != 0o700 {
		return fmt.Errorf("state directory %s has mode %04o; run chmod 0700 %s", d.path, opened.Mode&0o7777, d.path)
	}
	if err := unix.Flock(int(d.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("state directory %s is in use by %s; stop that process first", d.path, d.holder())
	} else if err != nil {
		return fmt.Errorf("lock state directory %s: %w", d.path, err)
	}
	// Another may have taken its place between open and lock.
	if err := unix.Lstat(d.path, &named); err != nil || named.Dev != opened.Dev || named.Ino != opened.Ino {
		return fmt.Errorf("state directory %s: another directory has taken its place; start again", d.path)
	}
	d.nameHolder()
	return nil
}

// holder names the process with the lock, as far as it is known.
func (d *directory) holder() string {
	b, _ := d.read(holderName)
	pid, err := strconv.Atoi(string(bytes.TrimSpace(b)))
	if err != nil {
		return "another process"
	}
	name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if name = bytes.TrimSpace(name); len(name) == 0 {
		return fmt.Sprintf("process %d or a successor of it", pid)
	}
	return fmt.Sprintf("process %d (%s)", pid, name)
}

// nameHolder is for a clearer word to others. Where it fails, writing what counts
// fails too and is told.
func (d *directory) nameHolder() {
	f, err := d.create(holderName)
	if err != nil {
		return
	}
	defer f.Close()
	f.WriteAt(fmt.Appendln(nil, os.Getpid()), 0)
}

func (d *directory) at(name string, flags int) (*os.File, error) {
	fd, err := unix.Openat(int(d.lock.Fd()), name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	f := os.NewFile(uintptr(fd), name)
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", name)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (d *directory) read(name string) ([]byte, error) {
	f, err := d.at(name, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, MaxFileBytes+1))
	if err == nil && len(b) > MaxFileBytes {
		err = fmt.Errorf("more than %d bytes", MaxFileBytes)
	}
	return b, err
}

func (d *directory) open(name string) (file, error) {
	f, err := d.at(name, unix.O_WRONLY)
	if err != nil {
		return nil, err
	}
	return diskFile{f}, nil
}

func (d *directory) create(name string) (file, error) {
	if err := d.remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	f, err := d.at(name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL)
	if err != nil {
		return nil, err
	}
	return diskFile{f}, nil
}

func (d *directory) rename(from, to string) error {
	fd := int(d.lock.Fd())
	if err := unix.Renameat(fd, from, fd, to); err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

func (d *directory) remove(name string) error {
	if err := unix.Unlinkat(int(d.lock.Fd()), name, 0); err != nil {
		return &os.PathError{Op: "remove", Path: name, Err: err}
	}
	return nil
}

func (d *directory) sync() error { return d.lock.Sync() }

// diskFile syncs with fdatasync(2), which brings the length along and leaves the
// times.
type diskFile struct{ *os.File }

func (f diskFile) Sync() error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if err != unix.EINTR {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}
