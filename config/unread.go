package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os/user"
)

// unread says why the configuration cannot be read, and what to do.
func unread(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s: there is no such file; write it, docs/tutorial.md shows one, or name another with --config", path)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s may not be read by the user %s; run this as root, or as the user that the daemon has", path, whoReads())
	}
	return err
}

// unreadSecret says it of a key or token, which its owner alone may read.
func unreadSecret(path string, err error) error {
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return fmt.Errorf("%s may not be read by the user that the daemon has, %s; chown %[2]s: %[1]s", path, whoReads())
}

// whoReads is the user of this process, whose name not every system knows.
func whoReads() string {
	me, err := user.Current()
	if err != nil {
		return "the daemon's"
	}
	if me.Username == "" {
		return me.Uid
	}
	return me.Username
}
