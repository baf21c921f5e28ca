package lab

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Request is what the outside asks of a running lab, one for each connection:
// its length in 4 bytes, big endian, with the descriptors of an exec, and JSON.
// After an exec's come the signals for the command, each one byte.
type Request struct {
	// Verb is exec, kill, stop, start, deafen, mute, stall, split, heal, status
	// or down.
	Verb string `json:"verb"`
	// Host is one by its name; for kill, stop and start also AllNodes, and for
	// split the sides.
	Host string   `json:"host,omitempty"`
	Argv []string `json:"argv,omitempty"`
	// Dir and Env are the caller's, for an exec.
	Dir string   `json:"dir,omitempty"`
	Env []string `json:"env,omitempty"`
	// For is how long a fault lasts, 0 until heal. The answer comes when it is
	// over.
	For time.Duration `json:"for,omitempty"`
	// Control: kill ends the control process alone.
	Control bool `json:"control,omitempty"`
}

// AllNodes stands for all of them.
const AllNodes = "all"

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

// Bounds of a request.
const (
	maxRequestBytes = 1 << 20
	requestTimeout  = 5 * time.Second
)

// stdio is how many descriptors come with an exec.
const stdio = 3

// lengthBytes is the size of a request's length.
const lengthBytes = 4

// Call asks a running lab for anything but an exec.
func Call(req Request) (*Response, error) {
	c, err := dial()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if err := send(c, &req, nil); err != nil {
		return nil, err
	}
	return answer(c)
}

// Exec runs a command on a host of the lab with the caller's directory,
// environment and files, which are standard input, output and error. Signals
// are passed on to the command. It reports the command's exit code.
func Exec(host string, argv []string, files [stdio]*os.File, signals <-chan os.Signal) (int, error) {
	c, err := dial()
	if err != nil {
		return 0, err
	}
	defer c.Close()
	req := Request{Verb: "exec", Host: host, Argv: argv, Env: os.Environ()}
	// A directory that has been removed has no name; / does instead.
	req.Dir, _ = os.Getwd()
	if err := send(c, &req, files[:]); err != nil {
		return 0, err
	}
	done := make(chan struct{})
	defer close(done)
	go sendSignals(c, signals, done)
	resp, err := answer(c)
	if err != nil {
		return 0, err
	}
	return resp.Exit, nil
}

// sendSignals is the goroutine `lab.sendSignals`; it ends with the command.
func sendSignals(c *net.UnixConn, signals <-chan os.Signal, done <-chan struct{}) {
	for {
		select {
		case s := <-signals:
			// The command may have ended.
			_, _ = c.Write([]byte{byte(s.(syscall.Signal))})
		case <-done:
			return
		}
	}
}

// send sends a request and the files that belong to it.
func send(c *net.UnixConn, req *Request, files []*os.File) error {
	b, err := json.Marshal(req)
	if err != nil {
		return err
	}
	if len(b) > maxRequestBytes {
		return fmt.Errorf("command and environment are too long: %d bytes, and %d is the most", len(b), maxRequestBytes)
	}
	var rights []byte
	if len(files) > 0 {
		var fds []int
		for _, f := range files {
			fds = append(fds, int(f.Fd()))
		}
		rights = unix.UnixRights(fds...)
	}
	if _, _, err := c.WriteMsgUnix(binary.BigEndian.AppendUint32(nil, uint32(len(b))), rights, nil); err != nil {
		return err
	}
	_, err = c.Write(b)
	return err
}

// answer reads the response.
func answer(c *net.UnixConn) (*Response, error) {
	var resp Response
	if err := json.NewDecoder(c).Decode(&resp); err != nil {
		return nil, errors.New("the lab ended before it answered")
	}
	if resp.Error != "" {
		return nil, errors.New(resp.Error)
	}
	return &resp, nil
}

// receive reads a request and the files that came with it, which are the
// caller's to close, also beside an error.
func receive(c *net.UnixConn) (*Request, []*os.File, error) {
	if err := c.SetReadDeadline(time.Now().Add(requestTimeout)); err != nil {
		return nil, nil, err
	}
	length, rights := make([]byte, lengthBytes), make([]byte, unix.CmsgSpace(stdio*4))
	n, rightsn, _, _, err := c.ReadMsgUnix(length, rights)
	if err != nil {
		return nil, nil, err
	}
	files, err := passedFiles(rights[:rightsn])
	if err != nil {
		return nil, files, err
	}
	if _, err := io.ReadFull(c, length[n:]); err != nil {
		return nil, files, err
	}
	size := binary.BigEndian.Uint32(length)
	if size > maxRequestBytes {
		return nil, files, fmt.Errorf("a request of %d bytes; %d is the most", size, maxRequestBytes)
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(c, b); err != nil {
		return nil, files, err
	}
	var req Request
	if err := json.Unmarshal(b, &req); err != nil {
		return nil, files, err
	}
	return &req, files, c.SetReadDeadline(time.Time{})
}

// passedFiles are the descriptors in a control message (unix(7), SCM_RIGHTS).
func passedFiles(rights []byte) (files []*os.File, err error) {
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil {
		return nil, err
	}
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			return files, err
		}
		for _, fd := range fds {
			syscall.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "passed"))
		}
	}
	return files, nil
}
