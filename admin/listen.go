package admin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// Listen opens the socket at path, for its owner only. A socket that a dead
// daemon has left is replaced; one that answers is an error, and so is whatever else
// is there.
func Listen(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("admin: %w", err)
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	// The kernel gives the socket's mode to the file (unix_bind_bsd of net/unix/af_unix.c),
	// so that there is no instant in which others could connect.
	c := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var inner error
		err := raw.Control(func(fd uintptr) { inner = unix.Fchmod(int(fd), 0o600) })
		return errors.Join(err, inner)
	}}
	l, err := c.Listen(context.Background(), "unix", path)
	if errors.Is(err, unix.EADDRINUSE) {
		return nil, inUse(path)
	}
	if err != nil {
		return nil, fmt.Errorf("admin: %w", err)
	}
	return l, nil
}

func inUse(path string) error {
	return fmt.Errorf("admin: another daemon answers on %s; set [admin] socket to another path, or stop it", path)
}

// removeStale removes a socket on which nobody answers, and nothing else, at path.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("admin: %w", err)
	}
	if info.Mode()&os.ModeSymlink != 0 {
		return fmt.Errorf("admin: %s is a symbolic link; set [admin] socket to where it leads, or remove it", path)
	}
	if info.Mode()&os.ModeSocket == 0 {
		return fmt.Errorf("admin: %s is there and is not a socket; set [admin] socket to another path, or move it away", path)
	}
	// Only of a socket that nobody has open does the kernel say so: of a daemon that is
	// stopped, and has no room for another connection, it says something else.
	conn, err := net.Dial("unix", path)
	if err == nil {
		conn.Close()
	}
	if !errors.Is(err, unix.ECONNREFUSED) {
		return inUse(path)
	}
	return os.Remove(path)
}
