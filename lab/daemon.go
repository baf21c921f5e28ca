package lab

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Daemon is `onevoice run` on a node, and what became of it.
type Daemon struct {
	Host *Host
	// Dir holds the node's files.
	Dir string

	mu      sync.Mutex
	cmd     *exec.Cmd
	done    chan struct{}
	started time.Time
	ended   string
}

// Socket is the daemon's admin socket.
func (d *Daemon) Socket() string { return filepath.Join(d.Dir, "onevoice.sock") }

// Config is the daemon's configuration file, and Log its log.
func (d *Daemon) Config() string { return filepath.Join(d.Dir, "onevoice.toml") }

// Log is the daemon's log.
func (d *Daemon) Log() string { return filepath.Join(d.Dir, "onevoice.log") }

// KeyFile is the cluster key.
func (d *Daemon) KeyFile() string { return filepath.Join(d.Dir, "cluster.key") }

// newDaemon writes the node's files.
func newDaemon(l *LAN, h *Host, key string) (*Daemon, error) {
	d := &Daemon{Host: h, Dir: filepath.Join(RunDir, h.Name)}
	return d, d.write(key, settings(l, d, d.KeyFile()))
}

// NewDaemon prepares a daemon that belongs to no Lab. Its files are in dir, and
// config is its configuration, which has to name KeyFile and Socket.
func NewDaemon(h *Host, dir, key, config string) (*Daemon, error) {
	d := &Daemon{Host: h, Dir: dir}
	return d, d.write(key, config)
}

func (d *Daemon) write(key, config string) error {
	if err := os.MkdirAll(d.Dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(d.KeyFile(), []byte(key+"\n"), 0o600); err != nil {
		return err
	}
	return os.WriteFile(d.Config(), []byte(config), 0o644)
}

// NewKey makes a cluster key for one lab.
func NewKey() string {
	b := make([]byte, 32)
	// crypto/rand does not fail: it ends the program instead.
	_, _ = rand.Read(b)
	return hex.EncodeToString(b)
}

// settings is the configuration file of a node.
func settings(l *LAN, d *Daemon, keyFile string) string {
	var peers []string
	for _, n := range l.Nodes() {
		peers = append(peers, fmt.Sprintf("%q", n.Addrs[0]))
	}
	two := ""
	switch {
	case l.Spec.Witness:
		two = fmt.Sprintf("witness = %q\n", witnessAddress())
		if len(peers) == 2 {
			two += "two_nodes = \"witness\"\n"
		}
	case len(peers) == 2:
		two = "two_nodes = \"preferred\"\n"
	}
	if l.Spec.Timing != "" {
		two += fmt.Sprintf("timing = %q\n", l.Spec.Timing)
	}
	mode := ""
	if l.Spec.MACMode != "" {
		mode = fmt.Sprintf("mac_mode = %q\n", l.Spec.MACMode)
	}
	beat := ""
	if l.Spec.Beat {
		beat = fmt.Sprintf("\n[[service]]\nname = \"beat\"\nlisten = %q\n%s\n", beatService(), l.Spec.behind(beatPort))
	}
	return fmt.Sprintf(`[cluster]
name = "lab"
interface = %q
key_file = %q
peers = [%s]
%s
[node]
name = %q
state_dir = "%s/state"
user = "root"

[admin]
socket = %q
listen = "127.0.0.1:7177"

[[vip]]
address = "%s/%d"
%s
[[service]]
name = "ssh"
listen = "%s:22"
%s
%s`, hostDevice, keyFile, strings.Join(peers, ", "), two, d.Host.Name, d.Dir, d.Socket(), VIP(), prefixBits, mode, VIP(), l.Spec.behind(22), beat+l.Spec.settings6(mode)+l.Spec.settingsNames())
}

// Paths of a service.
const (
	pathNetstack = "netstack"
	pathDirect   = "direct"
)

// behind is what the file says of who is behind a service.
func (s *Spec) behind(port uint16) string {
	if s.Path == pathDirect {
		return "path = \"direct\""
	}
	return fmt.Sprintf("backend = \"127.0.0.1:%d\"", port)
}

// listenAt is where those programs listen.
func (s *Spec) listenAt(port uint16) string {
	if s.Path == pathDirect {
		return fmt.Sprintf("0.0.0.0:%d", port)
	}
	return fmt.Sprintf("127.0.0.1:%d", port)
}

// Start starts the daemon and waits until it answers on its socket.
func (d *Daemon) Start() error {
	if err := d.launch(); err != nil {
		return err
	}
	return d.untilItAnswers()
}

func (d *Daemon) launch() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.running() {
		return fmt.Errorf("the daemon of %s is running already", d.Host.Name)
	}
	log, err := os.OpenFile(d.Log(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := d.command()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := d.Host.Start(cmd); err != nil {
		return err
	}
	d.cmd, d.done, d.started, d.ended = cmd, make(chan struct{}), time.Now(), ""
	go d.wait(cmd, d.done)
	return nil
}

// wait is the goroutine `lab.Daemon.wait`; it ends with the daemon.
func (d *Daemon) wait(cmd *exec.Cmd, done chan struct{}) {
	ended := "exit 0"
	if err := cmd.Wait(); err != nil {
		ended = err.Error()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cmd == cmd {
		d.ended = ended
	}
	close(done)
}

// running is for callers that hold the lock.
func (d *Daemon) running() bool { return d.done != nil && !ended(d.done) }

func ended(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}

// startTimeout bounds how long a daemon may take to answer.
const startTimeout = 10 * time.Second

// untilItAnswers watches the node's directory for the socket.
func (d *Daemon) untilItAnswers() error {
	d.mu.Lock()
	done := d.done
	d.mu.Unlock()
	watch, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("inotify_init1", err)
	}
	defer unix.Close(watch)
	if _, err := unix.InotifyAddWatch(watch, d.Dir, unix.IN_CREATE|unix.IN_ATTRIB|unix.IN_MODIFY); err != nil {
		return os.NewSyscallError("inotify_add_watch", err)
	}
	const step = 100 // milliseconds, to notice an end that touches no file
	for deadline := time.Now().Add(startTimeout); time.Now().Before(deadline); {
		if d.answers() {
			return nil
		}
		if ended(done) {
			break
		}
		if n, err := unix.Poll([]unix.PollFd{{Fd: int32(watch), Events: unix.POLLIN}}, step); err == nil && n > 0 {
			var events [4096]byte
			_, _ = unix.Read(watch, events[:])
		}
	}
	log, _ := os.ReadFile(d.Log())
	return fmt.Errorf("the daemon of %s does not answer; its log:\n%s", d.Host.Name, log)
}

// Signal sends the daemon a signal and waits for its end.
func (d *Daemon) Signal(s syscall.Signal) error {
	done, err := d.send(s)
	if err != nil {
		return err
	}
	<-done
	return nil
}

// send sends the daemon a signal. The channel is closed when it has ended.
func (d *Daemon) send(s syscall.Signal) (<-chan struct{}, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.running() {
		return nil, fmt.Errorf("the daemon of %s is not running", d.Host.Name)
	}
	return d.done, d.cmd.Process.Signal(s)
}

// DaemonStatus is a node in `lab status`.
type DaemonStatus struct {
	Running bool    `json:"running"`
	PID     int     `json:"pid,omitempty"`
	Seconds float64 `json:"seconds,omitempty"`
	// Ended says how the last run ended.
	Ended string `json:"ended,omitempty"`
}

// Status tells how the daemon is.
func (d *Daemon) Status() DaemonStatus {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := DaemonStatus{Running: d.running(), Ended: d.ended}
	if s.Running {
		s.PID, s.Seconds = d.cmd.Process.Pid, time.Since(d.started).Seconds()
	}
	return s
}
