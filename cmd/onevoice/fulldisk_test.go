package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A disk without room is told of in a sentence with what to do, and leaves no half of a
// file.
func TestFullDiskAtACommand(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root for a file system of its own (CAP_SYS_ADMIN)")
	}
	p := newPair(t)
	full := filepath.Join(filepath.Dir(p.file), "full")
	if err := os.Mkdir(full, 0o700); err != nil {
		t.Fatal(err)
	}
	read, err := os.ReadFile(p.file)
	if err != nil {
		t.Fatal(err)
	}
	p.rewrite(strings.Replace(string(read), filepath.Dir(p.file)+"/state", full+"/state", 1))
	for _, c := range []struct {
		name, command string
	}{
		{"a key", `"$0" keygen --out "$1/key"`},
		{"output", `"$0" version >/dev/full`},
		{"the state directory", `"$0" run --config "$2"`},
	} {
		cmd := program(t)
		cmd.Args = []string{"sh", "-c", `mount -t tmpfs -o size=16k tmpfs "$1" && mkdir "$1/state" && chmod 700 "$1/state" && head -c 64k /dev/zero >"$1/filler"; ` +
			c.command + `; code=$?; find "$1" -type f -name key; exit $code`, installed(t), full, p.file}
		cmd.Path = "/bin/sh"
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
		code, out := runProgram(t, cmd, func(cmd *exec.Cmd) error { return p.Start(cmd) })
		if code != 1 || !strings.Contains(out, "no space left on device; make room there, and try again") || strings.Contains(out, "/key\n") {
			t.Errorf("%s: exit %d: %s", c.name, code, out)
		}
	}
}
