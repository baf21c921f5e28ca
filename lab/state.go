package lab

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// StateDir is where a user's lab has its socket: one lab for each user.
func StateDir() string {
	// A directory of somebody else's, as sudo may leave in the environment, is
	// not the place.
	var st unix.Stat_t
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" && unix.Stat(dir, &st) == nil && int(st.Uid) == os.Geteuid() {
		return filepath.Join(dir, "onevoice-lab")
	}
	return filepath.Join(os.TempDir(), "onevoice-lab-"+strconv.Itoa(os.Geteuid()))
}

func socketPath() string { return filepath.Join(StateDir(), "lab.sock") }

// LogPath is the log of a lab that runs in the background.
func LogPath() string { return filepath.Join(StateDir(), "lab.log") }

// errNoLab says that none is up.
var errNoLab = errors.New("no lab of yours is up; start one with `onevoice lab up`")

// errStarting says that two commands came at once.
var errStarting = errors.New("a lab of yours is just coming up or going down; try again when that is done")

// Place is a state directory that is held while a lab comes up.
type Place struct {
	// Listener is the lab's socket. It stays when the listener is closed.
	Listener *net.UnixListener
	dir      *os.File
}

// OpenStateDir makes the directory, or takes over that of a lab that has died.
// It is refused when it belongs to somebody else, a lab answers there, or
// another is just coming up.
func OpenStateDir() (*Place, error) {
	path := StateDir()
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	dir, err := holdStateDir(path)
	if err != nil {
		return nil, err
	}
	p := &Place{dir: dir}
	if p.Listener, err = listen(); err != nil {
		dir.Close()
		return nil, err
	}
	return p, nil
}

// Close lets go of the place. The lab in it stays.
func (p *Place) Close() error { return errors.Join(p.Listener.Close(), p.dir.Close()) }

// listen opens the socket, unless a lab answers there.
func listen() (*net.UnixListener, error) {
	if c, err := dial(); err == nil {
		c.Close()
		return nil, errors.New("a lab of yours is already up; see `onevoice lab status`, or take it down with `onevoice lab down`")
	}
	if err := os.Remove(socketPath()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socketPath(), Net: "unix"})
	if errors.Is(err, unix.EINVAL) {
		return nil, fmt.Errorf("%s is too long for the name of a socket; set XDG_RUNTIME_DIR to a shorter one", socketPath())
	}
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	return l, nil
}

// holdStateDir opens the directory and locks it against other commands, until
// it is closed.
func holdStateDir(path string) (*os.File, error) {
	dir, err := os.OpenFile(path, unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s is not a directory of yours, so no lab can be kept there; remove it (%w)", path, err)
	}
	if err != nil {
		return nil, err
	}
	if err := checkHeld(dir, path); err != nil {
		dir.Close()
		return nil, err
	}
	return dir, nil
}

func checkHeld(dir *os.File, path string) error {
	var held, named unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &held); err != nil {
		return os.NewSyscallError("fstat "+path, err)
	}
	if int(held.Uid) != os.Geteuid() || held.Mode&0o077 != 0 {
		return fmt.Errorf("%s is not a directory that is yours alone, so no lab can be kept there; remove it", path)
	}
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return errStarting
	}
	// It may have been removed before it was locked.
	if err := unix.Lstat(path, &named); err != nil || named.Ino != held.Ino || named.Dev != held.Dev {
		return errStarting
	}
	return nil
}

// Remove removes the directory of a lab that has not come up.
func (p *Place) Remove() error { return os.RemoveAll(p.dir.Name()) }

// RemoveStateDir removes the directory of a lab that has ended, and no other.
func RemoveStateDir() error {
	path := StateDir()
	dir, err := holdStateDir(path)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, errStarting) {
		return nil
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	if c, err := dial(); err == nil {
		return c.Close()
	}
	return os.RemoveAll(path)
}

// dial connects to the lab. A socket in somebody else's directory is none.
func dial() (*net.UnixConn, error) {
	var st unix.Stat_t
	if err := unix.Lstat(StateDir(), &st); err != nil || int(st.Uid) != os.Geteuid() || st.Mode&0o077 != 0 {
		return nil, errNoLab
	}
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socketPath(), Net: "unix"})
	if err != nil {
		return nil, errNoLab
	}
	return c, nil
}

// downTimeout bounds how long a lab may take to end: its daemons have
// stopTimeout.
const downTimeout = stopTimeout + 10*time.Second

// WaitDown waits until a lab that was told to go down has ended: a connection
// that nobody takes is closed when the last copy of its listener is. One that
// is still taken ends with the lab's main process, so there is another try.
func WaitDown() error {
	for deadline := time.Now().Add(downTimeout); ; {
		c, err := dial()
		if err != nil {
			return nil
		}
		// A lab that has ended is a closed connection, too.
		_ = c.SetReadDeadline(deadline)
		_, err = c.Read(make([]byte, 1))
		c.Close()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("the lab has not ended within %v; see %s", downTimeout, LogPath())
		}
	}
}
