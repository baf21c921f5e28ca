package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Request is what the outside asks of a running lab, one for each connection.
type Request struct {
	// Verb is exec, kill, stop, start, status or down.
	Verb string   `json:"verb"`
	Host string   `json:"host,omitempty"`
	Argv []string `json:"argv,omitempty"`
}

// Response is the answer.
type Response struct {
	// Error is a sentence, empty when all went well.
	Error string `json:"error,omitempty"`
	// Exit is the exit code of an exec.
	Exit   int     `json:"exit"`
	Status *Status `json:"status,omitempty"`
}

// Status is `lab status`.
type Status struct {
	LAN   Kind         `json:"lan"`
	VIP   string       `json:"vip"`
	SSH   string       `json:"ssh"`
	Hosts []HostStatus `json:"hosts"`
}

// HostStatus is one host.
type HostStatus struct {
	Name      string        `json:"name"`
	Addresses []string      `json:"addresses"`
	MAC       string        `json:"mac"`
	Daemon    *DaemonStatus `json:"daemon,omitempty"`
	Log       string        `json:"log,omitempty"`
}

// maxRequestBytes bounds a request.
const maxRequestBytes = 64 << 10

// stdio is how many descriptors come with an exec.
const stdio = 3

// StateDir is where a user's lab has its socket: one lab for each user.
func StateDir() string {
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		return filepath.Join(dir, "onevoice-lab")
	}
	return filepath.Join(os.TempDir(), "onevoice-lab-"+strconv.Itoa(os.Geteuid()))
}

func socketPath() string { return filepath.Join(StateDir(), "lab.sock") }

// LogPath is the log of a lab that runs in the background.
func LogPath() string { return filepath.Join(StateDir(), "lab.log") }

// OpenStateDir makes the directory, or takes over that of a lab that has died.
// It is refused when it belongs to somebody else, or a lab answers there.
func OpenStateDir() (*net.UnixListener, error) {
	dir := StateDir()
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return nil, os.NewSyscallError("lstat "+dir, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || int(st.Uid) != os.Geteuid() || st.Mode&0o077 != 0 {
		return nil, fmt.Errorf("%s is not a directory that is yours alone, so no lab can be kept there; remove it", dir)
	}
	if c, err := dial(); err == nil {
		c.Close()
		return nil, errors.New("a lab of yours is already up; see `onevoice lab status`, or take it down with `onevoice lab down`")
	}
	if err := os.Remove(socketPath()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return net.ListenUnix("unix", &net.UnixAddr{Name: socketPath(), Net: "unix"})
}

// RemoveStateDir removes the directory of a lab that has ended.
func RemoveStateDir() error { return os.RemoveAll(StateDir()) }

// errNoLab says that none is up.
var errNoLab = errors.New("no lab of yours is up; start one with `onevoice lab up`")

func dial() (*net.UnixConn, error) {
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socketPath(), Net: "unix"})
	if err != nil {
		return nil, errNoLab
	}
	return c, nil
}

// Call asks a running lab. For an exec, files are its standard input, output
// and error.
func Call(req Request, files ...*os.File) (*Response, error) {
	c, err := dial()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	b, err := json.Marshal(req)
	if err != nil {
		return nil, err
	}
	if len(b) > maxRequestBytes {
		return nil, errors.New("the command is too long")
	}
	var rights []byte
	if len(files) > 0 {
		var fds []int
		for _, f := range files {
			fds = append(fds, int(f.Fd()))
		}
		rights = unix.UnixRights(fds...)
	}
	if _, _, err := c.WriteMsgUnix(b, rights, nil); err != nil {
		return nil, err
	}
	var resp Response
	if err := json.NewDecoder(c).Decode(&resp); err != nil {
		return nil, fmt.Errorf("the lab ended before it answered (%w)", err)
	}
	if resp.Error != "" {
		return &resp, errors.New(resp.Error)
	}
	return &resp, nil
}

// receive reads a request and the descriptors that came with it.
func receive(c *net.UnixConn) (*Request, []*os.File, error) {
	b, oob := make([]byte, maxRequestBytes), make([]byte, unix.CmsgSpace(stdio*4))
	n, oobn, _, _, err := c.ReadMsgUnix(b, oob)
	if err != nil {
		return nil, nil, err
	}
	var files []*os.File
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return nil, nil, err
	}
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			return nil, nil, err
		}
		for _, fd := range fds {
			syscall.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "passed"))
		}
	}
	var req Request
	return &req, files, json.Unmarshal(b[:n], &req)
}

// WaitDown waits until a lab that was told to go down has ended: a connection
// that nobody takes is closed when the last copy of its listener is.
func WaitDown() error {
	c, err := dial()
	if err != nil {
		return nil
	}
	defer c.Close()
	if err := c.SetReadDeadline(time.Now().Add(downTimeout)); err != nil {
		return err
	}
	if _, err := c.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("the lab has not ended within %v; see %s", downTimeout, LogPath())
	}
	return nil
}

// downTimeout bounds how long a lab may take to end: daemons give running flows
// their time.
const downTimeout = 30 * time.Second
