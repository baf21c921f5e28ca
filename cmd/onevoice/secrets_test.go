package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Where root makes a key, it belongs to the directory's owner: the package gives
// /etc/onevoice to the daemon's user, who has to read the key.
func TestKeygenByRootServesTheDaemonsUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, who can give a file away (CAP_CHOWN)")
	}
	dir := t.TempDir()
	if err := os.Chown(dir, anyUser, anyUser); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"keygen"}, {"keygen", "--token"}} {
		file := filepath.Join(dir, "key"+strings.Join(args, ""))
		if code, out := runProgram(t, program(t, append(args, "--out", file)...), (*exec.Cmd).Start); code != 0 {
			t.Fatal(out)
		}
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if s := info.Sys().(*syscall.Stat_t); s.Uid != anyUser || s.Gid != anyUser || info.Mode().Perm() != 0o600 {
			t.Errorf("%s belongs to %d:%d with mode %v", file, s.Uid, s.Gid, info.Mode())
		}
	}
}

// A key that the daemon's user may not read is one sentence with the mend.
func TestKeyOfAnotherUser(t *testing.T) {
	h := newHost(t)
	h.plug("10.77.0.11/24")
	for p := filepath.Dir(h.file); len(p) > len(os.TempDir()); p = filepath.Dir(p) {
		if err := os.Chmod(p, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	exe := filepath.Join(filepath.Dir(h.file), "onevoice")
	copyProgram(t, exe)
	cmd := program(t, "run", "--config", h.file)
	cmd.Path = exe
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}, AmbientCaps: []uintptr{unix.CAP_NET_RAW, unix.CAP_NET_ADMIN}}
	code, out := runProgram(t, cmd, h.Start)
	if code != 1 || !strings.Contains(out, "may not be read by the user that the daemon has, ") || !strings.Contains(out, "; chown ") || strings.Count(out, "\n") != 1 {
		t.Errorf("exit %d: %s", code, out)
	}
}
