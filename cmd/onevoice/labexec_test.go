package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// A command in the lab is like one outside: bytes, directory, environment,
// exit codes and signals go through.
func TestExecIsLikeARunOutside(t *testing.T) {
	ownStateDir(t)
	up(t)
	defer func() {
		if code, out := runProgram(t, labProgram(t, "down"), (*exec.Cmd).Start); code != 0 {
			t.Errorf("down: exit %d: %s", code, out)
		}
	}()
	t.Run("streams", execStreams)
	t.Run("surroundings", execSurroundings)
	t.Run("exit codes", execExitCodes)
	t.Run("signals", execSignals)
	t.Run("caller killed", execCallerKilled)
	t.Run("left running", execLeftRunning)
}

func execStreams(t *testing.T) {
	sent := bytes.Repeat([]byte("0123456789abcde\n"), 1<<16)
	cmd := labProgram(t, "exec", "ov-client1", "--", "sh", "-c", "cat; echo done >&2")
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(sent), &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(out.Bytes(), sent) || errs.String() != "done\n" {
		t.Errorf("%d of %d bytes came back, and on standard error %q", out.Len(), len(sent), errs.String())
	}
}

func execSurroundings(t *testing.T) {
	// More than a message between processes holds at once.
	t.Setenv("LAB_TEST_LONG", strings.Repeat("x", 100_000))
	cmd := labProgram(t, "exec", "ov-n1", "--", "sh", "-c", "pwd -P; echo ${#LAB_TEST_LONG}; echo $ONEVOICE_SOCKET; command -v onevoice; cat /proc/1/comm >&2")
	cmd.Dir = t.TempDir()
	cmd.Stderr = nil
	out, err := cmd.Output()
	want := cmd.Dir + "\n100000\n/run/onevoice/n1/onevoice.sock\n/run/onevoice/bin/onevoice\n"
	if err != nil || string(out) != want {
		t.Errorf("%v:\n%s\nwant\n%s", err, out, want)
	}
}

func execExitCodes(t *testing.T) {
	for _, c := range []struct {
		argv []string
		code int
		says string
	}{
		{[]string{"true"}, 0, ""},
		{[]string{"sh", "-c", "exit 42"}, 42, ""},
		{[]string{"sh", "-c", "kill -TERM $$"}, 128 + 15, ""},
		{[]string{"no-such-program"}, 1, "no-such-program"},
	} {
		code, out := runProgram(t, labProgram(t, append([]string{"exec", "ov-lan", "--"}, c.argv...)...), (*exec.Cmd).Start)
		if code != c.code || !strings.Contains(out, c.says) {
			t.Errorf("%v: exit %d, want %d with %q: %s", c.argv, code, c.code, c.says, out)
		}
	}
}

// started starts an exec and waits for its first line.
func started(t *testing.T, cmd *exec.Cmd) (string, io.Reader) {
	t.Helper()
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	out := bufio.NewReader(pipe)
	line, err := out.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line), out
}

func execSignals(t *testing.T) {
	// The shell waits for its input, which does not end: only the signal ends it.
	cmd := labProgram(t, "exec", "ov-client1", "--", "sh", "-c", `trap 'echo caught; exit 9' INT; echo ready; while :; do read line; done`)
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	_, out := started(t, cmd)
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(out)
	if err != nil || string(rest) != "caught\n" {
		t.Errorf("the command wrote %q: %v", rest, err)
	}
	var failed *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &failed) || failed.ExitCode() != 9 {
		t.Errorf("it ended with %v, want 9", err)
	}
}

func execCallerKilled(t *testing.T) {
	t.Setenv("LAB_TEST_MARK", "of-the-killed-caller")
	cmd := labProgram(t, "exec", "ov-client1", "--", "sh", "-c", "echo ready; exec sleep 1000")
	_, _ = started(t, cmd)
	var ended func()
	for _, p := range labProcesses(t, "LAB_TEST_MARK=of-the-killed-caller") {
		if p.pid != cmd.Process.Pid {
			ended = p.watch(t)
		}
	}
	if ended == nil {
		t.Fatal("the command is not found")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	ended()
}

func execLeftRunning(t *testing.T) {
	code, pid := runProgram(t, labProgram(t, "exec", "ov-client1", "--", "sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!"), (*exec.Cmd).Start)
	if code != 0 {
		t.Fatalf("exit %d: %s", code, pid)
	}
	if code, out := runProgram(t, labProgram(t, "exec", "ov-client1", "--", "kill", strings.TrimSpace(pid)), (*exec.Cmd).Start); code != 0 {
		t.Errorf("what the command left running was gone: %s", out)
	}
}

// anyUser is an ordinary user's id; nobody needs to have it.
const anyUser = 54321

// asAnyUser makes a command run as an ordinary user with a directory that is
// theirs.
func asAnyUser(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if os.Geteuid() != 0 {
		return
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: anyUser, Gid: anyUser}}
	cmd.Dir = "/"
}

// usersStateDir is a directory for the lab of an ordinary user.
func usersStateDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "onevoice-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if os.Geteuid() == 0 {
		if err := os.Chown(dir, anyUser, anyUser); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("XDG_RUNTIME_DIR", dir)
	return dir
}

// An ordinary user's lab needs no rights, where user namespaces are allowed.
func TestLabOfAnOrdinaryUser(t *testing.T) {
	mark := usersStateDir(t)
	call := func(want int, args ...string) string {
		t.Helper()
		cmd := labProgram(t, args...)
		asAnyUser(t, cmd)
		code, out := runProgram(t, cmd, (*exec.Cmd).Start)
		skipWithoutLab(t, out)
		if code != want {
			t.Errorf("lab %v: exit %d, want %d:\n%s", args, code, want, out)
		}
		return out
	}
	if out := call(2, "up", "--nodes=2", "--clients=1", "--addresses=2", "--path=direct"); !strings.Contains(out, "--path direct needs root") {
		t.Errorf("the direct path without rights:\n%s", out)
	}
	call(0, "up", "--nodes=2", "--clients=1", "--addresses=2")
	if out := call(0, "status"); !strings.Contains(out, "the built-in SSH server") {
		t.Errorf("status:\n%s", out)
	}
	if out := call(0, "exec", "ov-client1", "--", "sh", "-c", "id -u; cat /proc/self/setgroups"); out != "0\ndeny\n" {
		t.Errorf("in the lab: %q", out)
	}
	// Root of the machine may look in, and does not find its own lab there.
	if os.Geteuid() == 0 {
		if code, out := runProgram(t, labProgram(t, "status"), (*exec.Cmd).Start); code != 1 || !strings.Contains(out, "no lab of yours") {
			t.Errorf("root's status in the user's directory: exit %d: %s", code, out)
		}
	}
	call(0, "down")
	nothingIsLeft(t, mark)
	if testing.Short() {
		return
	}
	if out := call(0, "--nodes=2", "--clients=1", "--addresses=2"); !strings.Contains(out, "Every claim held.") {
		t.Errorf("the demonstration:\n%s", out)
	}
	nothingIsLeft(t, mark)
}

// forbiddenHelper, in the environment, makes TestForbiddenHelper run.
const forbiddenHelper = "ONEVOICE_TEST_FORBIDDEN"

// TestForbiddenHelper is a process of its own: in a user namespace whose users
// may make no other, it runs the program as one of them.
func TestForbiddenHelper(t *testing.T) {
	args := os.Getenv(forbiddenHelper)
	if args == "" {
		t.Skip("runs for TestWhereNamespacesAreForbidden only")
	}
	if err := os.WriteFile("/proc/sys/user/max_user_namespaces", []byte("0"), 0); err != nil {
		t.Fatal(err)
	}
	cmd := program(t, strings.Fields(args)...)
	asAnyUser(t, cmd)
	code, out := runProgram(t, cmd, (*exec.Cmd).Start)
	_, _ = os.Stdout.WriteString(out)
	os.Exit(code)
}

func TestWhereNamespacesAreForbidden(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root for a user namespace with two users (CAP_SETUID)")
	}
	dir := usersStateDir(t)
	for _, args := range []string{"lab", "lab up", "lab soak"} {
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestForbiddenHelper$")
		cmd.Env = append(os.Environ(), forbiddenHelper+"="+args)
		ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}, {ContainerID: anyUser, HostID: anyUser, Size: 1}}
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: ids, GidMappings: ids, GidMappingsEnableSetgroups: true}
		code, out := runProgram(t, cmd, (*exec.Cmd).Start)
		const want = "onevoice: this system does not let ordinary users make namespaces, which the lab is made of; run it as root, or let an administrator run: sysctl -w user.max_user_namespaces=15000 ("
		if code != 1 || !strings.HasPrefix(out, want) || strings.Count(out, "\n") != 1 {
			t.Errorf("onevoice %s: exit %d:\n%s", args, code, out)
		}
		if files, err := os.ReadDir(dir); err != nil || len(files) > 0 {
			t.Errorf("onevoice %s left %v %v", args, files, err)
		}
	}
}
