package lab

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// SSH is the service behind the cluster: the machine's sshd where there is one
// and the lab is real root, which sshd needs to take other users' ids; else a
// small server of our own.
type SSH struct {
	// sshd is the path of the machine's, or "".
	sshd   string
	signer ssh.Signer
	// hostKey is the same on all nodes, for the client knows one name.
	hostKey ssh.PublicKey
	dir     string
	servers []*exec.Cmd
	// ipv6: it listens on ::1 too. servers6 are built-in ones that do.
	ipv6 bool
	// at is where it listens for IPv4.
	at       string
	servers6 []*exec.Cmd
}

// NewSSH makes the keys of a lab.
func NewSSH(spec *Spec) (*SSH, error) {
	s := &SSH{dir: filepath.Join(RunDir, "ssh"), ipv6: spec.IPv6, at: spec.listenAt(22)}
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return nil, err
	}
	host, err := writeKeyPair(s.hostKeyFile())
	if err != nil {
		return nil, err
	}
	s.hostKey = host.PublicKey()
	if s.signer, err = writeKeyPair(s.ClientKeyFile()); err != nil {
		return nil, err
	}
	if err := os.WriteFile(s.authorizedFile(), ssh.MarshalAuthorizedKey(s.signer.PublicKey()), 0o644); err != nil {
		return nil, err
	}
	known := "* " + string(ssh.MarshalAuthorizedKey(s.hostKey))
	if err := os.WriteFile(s.KnownHostsFile(), []byte(known), 0o644); err != nil {
		return nil, err
	}
	if path, err := exec.LookPath("sshd"); err == nil && RealRoot() {
		s.sshd = path
	}
	return s, nil
}

func (s *SSH) hostKeyFile() string    { return filepath.Join(s.dir, "host") }
func (s *SSH) authorizedFile() string { return filepath.Join(s.dir, "authorized_keys") }

// ClientKeyFile is the private key that clients log in with, and KnownHostsFile
// what they know the service by.
func (s *SSH) ClientKeyFile() string { return filepath.Join(s.dir, "client") }

// KnownHostsFile names the service's host key.
func (s *SSH) KnownHostsFile() string { return filepath.Join(s.dir, "known_hosts") }

func writeKeyPair(path string) (ssh.Signer, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(private, "onevoice lab")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		return nil, err
	}
	return ssh.NewSignerFromKey(private)
}

// Kind names the server for the narration.
func (s *SSH) Kind() string {
	if s.sshd != "" {
		return "sshd"
	}
	return "the built-in SSH server"
}

// Start starts the service on a node. dir is the node's.
func (s *SSH) Start(h *Host, dir string) error {
	cmd := s.builtIn(h, s.at)
	if s.sshd != "" {
		file := filepath.Join(dir, "sshd_config")
		if err := os.WriteFile(file, []byte(s.sshdConfig(h)), 0o644); err != nil {
			return err
		}
		cmd = exec.Command(s.sshd, "-D", "-e", "-f", file)
	}
	log, err := os.OpenFile(SSHLog(dir), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := h.Start(cmd); err != nil {
		return fmt.Errorf("lab: start %s on %s: %w", s.Kind(), h.Name, err)
	}
	s.servers = append(s.servers, cmd)
	return s.start6(h)
}

// sshStartTimeout bounds how long a server may take to listen.
const sshStartTimeout = 10 * time.Second

// UntilListening waits until the servers that were started on hosts listen. A
// daemon that dialled one earlier would take it for down and refuse its client.
func (s *SSH) UntilListening(hosts []*Host, dirs []string) error {
	const step = 5 * time.Millisecond
	ticker := time.NewTicker(step)
	defer ticker.Stop()
	deadline := time.Now().Add(sshStartTimeout)
	for i, h := range hosts {
		for {
			listening, err := listens(h, 22)
			if err != nil {
				return err
			}
			if listening {
				break
			}
			if hasEnded(s.servers[i]) || time.Now().After(deadline) {
				log, _ := os.ReadFile(SSHLog(dirs[i]))
				return fmt.Errorf("%s on %s does not listen; its log:\n%s", s.Kind(), h.Name, log)
			}
			<-ticker.C
		}
	}
	return nil
}

// listens reports whether a port of 127.0.0.1 or of all addresses is listened on, by the kernel's
// list of sockets: to connect would leave a line in the server's log.
func listens(h *Host, port uint16) (bool, error) {
	const listenState = "0A"
	everywhere := fmt.Sprintf("%08X:%04X", 0, port)
	loopback := fmt.Sprintf("%08X:%04X", binary.NativeEndian.Uint32([]byte{127, 0, 0, 1}), port)
	var table []byte
	err := h.Do(func() (err error) { table, err = os.ReadFile("/proc/thread-self/net/tcp"); return err })
	if err != nil {
		return false, err
	}
	for line := range strings.Lines(string(table)) {
		// "sl local_address rem_address st …", the address in host order.
		if f := strings.Fields(line); len(f) > 3 && (f[1] == loopback || f[1] == everywhere) && f[3] == listenState {
			return true, nil
		}
	}
	return false, nil
}

// hasEnded reports whether a program that nobody has waited for has ended.
func hasEnded(cmd *exec.Cmd) bool {
	var info unix.Siginfo
	err := unix.Waitid(unix.P_PID, cmd.Process.Pid, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	return err != nil || info.Signo != 0
}

// SSHLog is the service's log in a node's directory.
func SSHLog(dir string) string { return filepath.Join(dir, "sshd.log") }

// sshdConfig gives logins a home of the lab's own: what the dotfiles of the one who
// runs the lab do is no part of it, and may take a minute (a lock of theirs did).
func (s *SSH) sshdConfig(h *Host) string {
	listen := "ListenAddress " + s.at
	if s.ipv6 {
		listen += "\nListenAddress [::1]:22"
	}
	return listen + fmt.Sprintf(`
HostKey %s
AuthorizedKeysFile %s
StrictModes no
UsePAM no
PidFile none
LogLevel VERBOSE
MaxStartups 1000
SetEnv ONEVOICE_NODE=%s HOME=%s
Subsystem sftp internal-sftp
`, s.hostKeyFile(), s.authorizedFile(), h.Name, s.dir)
}

// Close ends the services.
func (s *SSH) Close() error {
	for _, c := range slices.Concat(s.servers, s.servers6) {
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL)
		// It was killed, which is what Wait will say.
		_ = c.Wait()
	}
	s.servers = nil
	return nil
}

// loginTimeout bounds one login with all it does.
const loginTimeout = 20 * time.Second

// Dial logs in through the VIP from an address of a client.
func (s *SSH) Dial(h *Host, addr netip.Addr) (*ssh.Client, error) {
	conn, err := dialVIP(from{h, addr}, 22, loginTimeout)
	if err != nil {
		return nil, err
	}
	return s.logIn(conn)
}

// logIn makes a connection one of SSH, or closes it.
func (s *SSH) logIn(conn net.Conn) (*ssh.Client, error) {
	if err := conn.SetDeadline(time.Now().Add(loginTimeout)); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	c, channels, requests, err := ssh.NewClientConn(conn, VIP().String(), &ssh.ClientConfig{
		User: "root", Auth: []ssh.AuthMethod{ssh.PublicKeys(s.signer)},
		HostKeyCallback: ssh.FixedHostKey(s.hostKey),
	})
	if err != nil {
		conn.Close()
		return nil, err
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return ssh.NewClient(c, channels, requests), nil
}

// Reached is what a client is told after it has logged in.
type Reached struct {
	// Node is the one that answered, and Saw the client's address as it sees it.
	Node string
	Saw  netip.Addr
	// Connected is how long the handshake of TCP took, Took all.
	Connected, Took time.Duration
}

// Login logs in, asks where it is, and logs out.
func (s *SSH) Login(h *Host, addr netip.Addr) (Reached, error) {
	began := time.Now()
	conn, err := dialVIP(from{h, addr}, 22, loginTimeout)
	if err != nil {
		return Reached{}, err
	}
	connected := time.Since(began)
	c, err := s.logIn(conn)
	if err != nil {
		return Reached{}, err
	}
	defer c.Close()
	session, err := c.NewSession()
	if err != nil {
		return Reached{}, err
	}
	out, err := session.Output(`echo "$ONEVOICE_NODE $SSH_CONNECTION"`)
	if err != nil {
		return Reached{}, err
	}
	words := strings.Fields(string(out))
	if len(words) < 2 {
		return Reached{}, fmt.Errorf("lab: the service told %q", out)
	}
	saw, err := netip.ParseAddr(words[1])
	return Reached{Node: words[0], Saw: saw, Connected: connected, Took: time.Since(began)}, err
}

// Copy sends data through a new connection, has it stored and sent back, and
// reports how long each way took. stored is the file on the node.
func (s *SSH) Copy(h *Host, from netip.Addr, stored string, data io.Reader, back io.Writer) (up, down time.Duration, err error) {
	c, err := s.Dial(h, from)
	if err != nil {
		return 0, 0, err
	}
	defer c.Close()
	began := time.Now()
	if err := runSession(c, "cat > "+stored, data, io.Discard); err != nil {
		return 0, 0, err
	}
	up = time.Since(began)
	began = time.Now()
	err = runSession(c, "cat "+stored+" && rm "+stored, nil, back)
	return up, time.Since(began), err
}

func runSession(c *ssh.Client, command string, in io.Reader, out io.Writer) error {
	session, err := c.NewSession()
	if err != nil {
		return err
	}
	session.Stdin, session.Stdout = in, out
	return errors.Join(session.Run(command), ignoreEOF(session.Close()))
}

// ignoreEOF drops the error of closing a session that has ended.
func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
