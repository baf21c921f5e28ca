package main

import (
	"bufio"
	"bytes"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/vishvananda/netlink"

	"onevoice/config"
	"onevoice/internal/netns"
)

// asProgram makes the test binary be the program: it, and the processes that it
// starts from its own file, find it in their environment.
const asProgram = "ONEVOICE_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		tryWhenAsked()
		os.Exit(execute(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// program is the program with arguments, ready to start.
func program(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), asProgram+"=1", "NO_COLOR=1")
	return cmd
}

// longestProgram is how long a program may run that is to end by itself.
const longestProgram = 5 * time.Minute

// runProgram runs it and reports exit code and output.
func runProgram(t *testing.T, cmd *exec.Cmd, start func(*exec.Cmd) error) (int, string) {
	t.Helper()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := start(cmd); err != nil {
		t.Fatal(err)
	}
	ends := time.AfterFunc(longestProgram, func() {
		t.Errorf("it has not ended by itself within %v", longestProgram)
		_ = cmd.Process.Signal(syscall.SIGTERM)
	})
	defer ends.Stop()
	var failed *exec.ExitError
	if err := cmd.Wait(); errors.As(err, &failed) {
		return failed.ExitCode(), out.String()
	} else if err != nil {
		t.Fatal(err)
	}
	return 0, out.String()
}

func TestExitCodes(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad.toml")
	if err := os.WriteFile(bad, []byte("[cluster]\nnam = 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"version", 0, "onevoice "},
		{"version --json", 0, `"arch": "` + runtime.GOARCH + `"`},
		{"", 0, "Available Commands"},
		{"check --config ../../config/testdata/reference.toml", 0, "campus-ssh on eth0, 4 nodes"},
		{"check --json --config ../../config/testdata/reference.toml", 0, `"mac": "01:00:5e:4d:00:02"`},
		{"check --config " + bad, 1, "bad.toml:2: cluster.nam: there is no such key; did you mean name?"},
		{"check --config /nonexistent", 1, "no such file"},
		{"check --config /nonexistent", 1, "/nonexistent: there is no such file; write it"},
		{"status --socket /nonexistent", 1, "no daemon answers on /nonexistent"},
		{"nosuch", 2, "unknown command"},
		{"run extra", 2, "onevoice run --help"},
		{"run --nosuch", 2, "unknown flag"},
		{"lab --nodes 99", 2, "--nodes is 99; write 1 to 32"},
		{"lab --lan star", 2, "write switch or hub"},
		{"move 7", 2, "write it as `onevoice move BUCKET NODE`; see `onevoice move --help`"},
		{"drain n1 --deadline=-5s", 2, "write a time to come"},
		{"pin 300 n1", 2, "write a number from 0 to 255"},
		{"lab exec ov-n1", 2, "onevoice lab exec --help"},
	} {
		code, out := runProgram(t, program(t, strings.Fields(c.args)...), (*exec.Cmd).Start)
		if code != c.code || !strings.Contains(out, c.says) {
			t.Errorf("onevoice %s: exit %d, want %d with %q:\n%s", c.args, code, c.code, c.says, out)
		}
	}
}

// Help fits on a terminal, and every command says more than its name.
func TestHelpFits(t *testing.T) {
	var look func(cmd *cobra.Command)
	look = func(cmd *cobra.Command) {
		// The words of completion are cobra's own.
		if cmd.Hidden || cmd.Name() == "completion" {
			return
		}
		var out bytes.Buffer
		cmd.SetOut(&out)
		if err := cmd.Help(); err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Split(out.String(), "\n") {
			if utf8.RuneCountInString(line) > columns {
				t.Errorf("%s --help: %d columns: %s", cmd.CommandPath(), utf8.RuneCountInString(line), line)
			}
		}
		if cmd.Short == "" {
			t.Errorf("%s says nothing of itself", cmd.CommandPath())
		}
		for _, c := range cmd.Commands() {
			look(c)
		}
	}
	look(newRootCommand())
}

func TestKeygenMakesAKeyAndNeverOverwritesOne(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cluster.key")
	if code, out := runProgram(t, program(t, "keygen", "--out", file), (*exec.Cmd).Start); code != 0 {
		t.Fatal(out)
	}
	key, err := config.ReadKey(file)
	if err != nil || len(key) != config.KeyBytes {
		t.Fatalf("%d bytes, %v", len(key), err)
	}
	if code, out := runProgram(t, program(t, "keygen", "--out", file), (*exec.Cmd).Start); code != 1 || !strings.Contains(out, "is there already") {
		t.Errorf("exit %d: %s", code, out)
	}
	nowhere := filepath.Join(filepath.Dir(file), "no", "cluster.key")
	if code, out := runProgram(t, program(t, "keygen", "--out", nowhere), (*exec.Cmd).Start); code != 1 || !strings.Contains(out, "mkdir -p ") {
		t.Errorf("exit %d: %s", code, out)
	}
	if again, err := config.ReadKey(file); err != nil || !bytes.Equal(again, key) {
		t.Error("the key was lost")
	}
}

// host is a network namespace with an interface eth0, and a configuration.
type host struct {
	*netns.NS
	t    *testing.T
	file string
}

func newHost(t *testing.T) *host {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for a network namespace of its own (CAP_SYS_ADMIN, CAP_NET_ADMIN)")
	}
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	h := &host{NS: ns, t: t, file: filepath.Join(t.TempDir(), "onevoice.toml")}
	key := filepath.Join(filepath.Dir(h.file), "key")
	if err := os.WriteFile(key, []byte(config.FormatKey(make([]byte, config.KeyBytes))), 0o600); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../../config/testdata/reference.toml")
	if err != nil {
		t.Fatal(err)
	}
	s := strings.Replace(string(text), "/etc/onevoice/cluster.key", key, 1)
	s = strings.Replace(s, `# socket = "/run/onevoice/onevoice.sock"`, `socket = "`+h.socket()+`"`, 1)
	if err := os.WriteFile(h.file, []byte(s), 0o644); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *host) socket() string { return filepath.Join(filepath.Dir(h.file), "sock") }

// plug gives the host its interface, with addresses.
func (h *host) plug(addresses ...string) {
	h.t.Helper()
	err := h.Do(func() error {
		if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "cable"}); err != nil {
			return err
		}
		for _, name := range []string{"lo", "eth0", "cable"} {
			l, err := netlink.LinkByName(name)
			if err != nil {
				return err
			}
			if err := netlink.LinkSetUp(l); err != nil {
				return err
			}
		}
		eth0, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		for _, a := range addresses {
			ip, network, err := net.ParseCIDR(a)
			if err != nil {
				return err
			}
			if err := netlink.AddrAdd(eth0, &netlink.Addr{IPNet: &net.IPNet{IP: ip, Mask: network.Mask}}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		h.t.Fatal(err)
	}
}

// Starting where it cannot work is one sentence each, and exit code 1.
func TestRunSaysWhyItCannotStart(t *testing.T) {
	for _, c := range []struct {
		name    string
		prepare func(h *host, cmd *exec.Cmd)
		says    string
	}{
		{"no interface", func(*host, *exec.Cmd) {}, "there is no interface eth0 on this host"},
		{"no peer", func(h *host, _ *exec.Cmd) { h.plug("10.77.0.99/24") }, "none of the addresses of eth0 (10.77.0.99"},
		{"VIP on the interface", func(h *host, _ *exec.Cmd) { h.plug("10.77.0.11/24", "10.77.0.2/24") }, "10.77.0.2 is configured on eth0"},
		{"key that others read", func(h *host, _ *exec.Cmd) {
			h.plug("10.77.0.11/24")
			if err := os.Chmod(filepath.Join(filepath.Dir(h.file), "key"), 0o644); err != nil {
				t.Fatal(err)
			}
		}, "chmod 600"},
		{"key that others could replace", func(h *host, _ *exec.Cmd) {
			h.plug("10.77.0.11/24")
			if err := os.Chmod(filepath.Dir(h.file), 0o777); err != nil {
				t.Fatal(err)
			}
		}, "chmod go-w"},
		{"no rights", func(h *host, cmd *exec.Cmd) {
			h.plug("10.77.0.11/24")
			for p := filepath.Dir(h.file); len(p) > len(os.TempDir()); p = filepath.Dir(p) {
				if err := errors.Join(os.Chmod(p, 0o755), os.Chown(p, 65534, 65534)); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Chown(filepath.Join(filepath.Dir(h.file), "key"), 65534, 65534); err != nil {
				t.Fatal(err)
			}
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		}, "this process lacks CAP_NET_RAW and CAP_NET_ADMIN"},
	} {
		h := newHost(t)
		cmd := program(t, "run", "--config", h.file)
		if c.name == "no rights" {
			// Another user may not read the test binary where it lies.
			exe := filepath.Join(filepath.Dir(h.file), "onevoice")
			copyProgram(t, exe)
			cmd.Path = exe
		}
		c.prepare(h, cmd)
		code, out := runProgram(t, cmd, h.Start)
		if code != 1 || !strings.Contains(out, c.says) || strings.Count(out, "\n") != 1 {
			t.Errorf("%s: exit %d, want one line with %q:\n%s", c.name, code, c.says, out)
		}
	}
}

func copyProgram(t *testing.T, to string) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o755); err != nil {
		t.Fatal(err)
	}
}

func TestOneDaemonForAVIPOnAHost(t *testing.T) {
	h := newHost(t)
	h.plug("10.77.0.11/24")
	h.ownState()
	first := program(t, "run", "--config", h.file)
	log, err := first.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Start(first); err != nil {
		t.Fatal(err)
	}
	defer first.Wait()
	defer first.Process.Signal(syscall.SIGTERM)
	lines := bufio.NewScanner(log)
	for started := false; !started; {
		if !lines.Scan() {
			t.Fatal("the log ended before the daemon had started")
		}
		started = strings.Contains(lines.Text(), "msg=started")
	}
	if code, out := runProgram(t, program(t, "run", "--config", h.file), h.Start); code != 1 || !strings.Contains(out, "another onevoice on this host already answers for 10.77.0.2") {
		t.Errorf("exit %d: %s", code, out)
	}
	for _, args := range [][]string{{"status"}, {"status", "--json"}, {"status", "--json", "--gc"}} {
		cmd := program(t, append(args, "--socket", h.socket())...)
		if code, out := runProgram(t, cmd, (*exec.Cmd).Start); code != 0 || !strings.Contains(out, "10.77.0.2:22") {
			t.Errorf("%v: exit %d: %s", args, code, out)
		}
	}
}
