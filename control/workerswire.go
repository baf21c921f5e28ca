package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Bounds of the socket between control and a worker.
const (
	// maxPacketBytes bounds one packet, well below what a socket holds by default.
	maxPacketBytes = 64 << 10
	// maxMessageBytes bounds a message of several packets: a list of all flows of
	// a full worker takes about 10 MB.
	maxMessageBytes = 32 << 20
	// maxFiles bounds the descriptors that come with a message.
	maxFiles = 2
	// writeTimeout is how long the other side may let a packet wait.
	writeTimeout = 5 * time.Second
)

// A packet begins with one of these; the rest is a part of a message in JSON.
const (
	packetLast = 0
	packetMore = 1
)

// message is what goes over the socket, one at a time.
type message struct {
	Type string `json:"type"`
	// ID is that of the question to which a message is the answer.
	ID   uint64          `json:"id,omitempty"`
	Body json.RawMessage `json:"body,omitempty"`
}

// newMessage makes a message of a body that JSON can hold.
func newMessage(kind string, id uint64, body any) *message {
	b, err := json.Marshal(body)
	if err != nil {
		// Our own mistake: the bodies are structs of this package.
		panic(err)
	}
	return &message{Type: kind, ID: id, Body: b}
}

// errGarbage is about one message: the socket can still be used.
var errGarbage = errors.New("control: a message that makes no sense")

func garbage(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errGarbage, fmt.Sprintf(format, args...))
}

// wire is one end of a SOCK_SEQPACKET socket. One goroutine receives; any may
// send.
type wire struct {
	conn   *net.UnixConn
	mu     sync.Mutex
	packet []byte
}

func newWire(conn *net.UnixConn) *wire {
	return &wire{conn: conn, packet: make([]byte, 1+maxPacketBytes)}
}

// wirePair makes two connected ends: a wire, and a file for a child process.
func wirePair() (*wire, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "worker")
	ours := os.NewFile(uintptr(fds[0]), "control")
	w, err := wireOf(ours)
	if err != nil {
		return nil, nil, errors.Join(err, theirs.Close())
	}
	return w, theirs, nil
}

// wireOf takes over a socket's file.
func wireOf(file *os.File) (*wire, error) {
	defer file.Close()
	c, err := net.FileConn(file)
	if err != nil {
		return nil, err
	}
	conn, ok := c.(*net.UnixConn)
	if !ok {
		return nil, errors.Join(errors.New("control: the descriptor is not a unix socket"), c.Close())
	}
	return newWire(conn), nil
}

func (w *wire) close() error { return w.conn.Close() }

// send sends a message, and files with its first packet. They stay the
// caller's.
func (w *wire) send(m *message, files ...*os.File) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if len(text) > maxMessageBytes {
		return fmt.Errorf("control: a message of %d bytes; at most %d", len(text), maxMessageBytes)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	var rights []byte
	if len(files) > 0 {
		var fds []int
		for _, f := range files {
			fds = append(fds, int(f.Fd()))
		}
		rights = unix.UnixRights(fds...)
	}
	if err := w.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	for first := true; first || len(text) > 0; first = false {
		part := text[:min(len(text), maxPacketBytes-1)]
		text = text[len(part):]
		flag := byte(packetLast)
		if len(text) > 0 {
			flag = packetMore
		}
		if _, _, err := w.conn.WriteMsgUnix(append([]byte{flag}, part...), rights, nil); err != nil {
			return err
		}
		rights = nil
	}
	return nil
}

// receive waits for a message. After an errGarbage there may come better ones;
// any other error is the end. The files are the caller's to close.
func (w *wire) receive() (*message, []*os.File, error) {
	var text []byte
	var files []*os.File
	for more, first := true, true; more; first = false {
		part, received, err := w.receivePacket()
		files = append(files, received...)
		switch {
		case err != nil:
		case len(received) > 0 && !first:
			err = garbage("descriptors in the midst of a message")
		case part[0] != packetLast && part[0] != packetMore:
			err = garbage("a packet that begins with %d", part[0])
		case len(text)+len(part) > maxMessageBytes:
			err = garbage("more than %d bytes", maxMessageBytes)
		}
		if err != nil {
			closeAll(files)
			return nil, nil, err
		}
		if more = part[0] == packetMore; more && first {
			// A deadline is for the first packet: the rest is on its way.
			if err := w.conn.SetReadDeadline(time.Time{}); err != nil {
				return nil, nil, err
			}
		}
		text = append(text, part[1:]...)
	}
	var m message
	if err := json.Unmarshal(text, &m); err != nil {
		closeAll(files)
		return nil, nil, garbage("%v", err)
	}
	return &m, files, nil
}

// receivePacket receives one packet of at least one byte.
func (w *wire) receivePacket() ([]byte, []*os.File, error) {
	rights := make([]byte, unix.CmsgSpace(maxFiles*4))
	n, nr, flags, _, err := w.conn.ReadMsgUnix(w.packet, rights)
	if err != nil {
		return nil, nil, err
	}
	files, err := filesOf(rights[:nr])
	if err == nil && flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		err = garbage("a packet that is too long")
	}
	if err == nil && n == 0 {
		err = io.EOF
	}
	return w.packet[:n], files, err
}

func filesOf(rights []byte) ([]*os.File, error) {
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil {
		return nil, garbage("%v", err)
	}
	var files []*os.File
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			// Of another kind, which carries no descriptors.
			continue
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// decode makes a value of a message's body.
func decode[T any](m *message) (T, error) {
	var v T
	if err := json.Unmarshal(m.Body, &v); err != nil {
		return v, garbage("%s: %v", m.Type, err)
	}
	return v, nil
}
