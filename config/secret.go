package config

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// readSecret reads a file that only its owner may know, of at most so many bytes. As
// sshd does (sshd(8), StrictModes), it refuses one that others may read, or could put
// another in the place of. gain is what whoever reads it can do, and is what it is.
func readSecret(path string, most int64, gain, is string) ([]byte, error) {
	// It may be a pipe by mistake, whose open would wait for a writer.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file; name the file itself", path)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("%s may be read by others (mode %04o), and whoever reads it can %s; chmod 600 %s", path, mode, gain, path)
	}
	if err := replaceable(path, info); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(data)) > most {
		return nil, fmt.Errorf("%s has more than %d bytes, which is no %s", path, most, is)
	}
	return data, err
}

// replaceable reports who could put another file in the place of this one: its owner,
// when that is neither root, nor we, nor whose the folder is; and everybody, when the
// folder that the file really lies in may be written by others.
func replaceable(path string, info fs.FileInfo) error {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	dir := filepath.Dir(real)
	folder, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if mode := folder.Mode(); mode&0o022 != 0 && mode&fs.ModeSticky == 0 {
		return fmt.Errorf("%s lies in %s, which others may write to (mode %04o), so that they could put another in its place; chmod go-w %s", path, dir, mode.Perm(), dir)
	}
	owner := info.Sys().(*syscall.Stat_t).Uid
	if owner != 0 && int(owner) != os.Geteuid() && owner != folder.Sys().(*syscall.Stat_t).Uid {
		return fmt.Errorf("%s belongs to user %d, who could change it; chown %d %s", path, owner, os.Geteuid(), path)
	}
	return nil
}
