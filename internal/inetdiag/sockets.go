package inetdiag

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// State is a socket's, of include/net/tcp_states.h.
type State uint8

// States that are told apart here. A half-open connection is SYNRecv.
const (
	Established State = 1
	SYNRecv     State = 3
	TimeWait    State = 6
	Closed      State = 7
	Listen      State = 10
)

// Socket is one of TCP. The remote end of a listening one is the zero AddrPort or ::.
type Socket struct {
	Local, Remote netip.AddrPort
	State         State
	// Acked and Received are bytes that the other end has acknowledged and sent, 0 of
	// sockets that do not count.
	Acked, Received uint64

	family uint8
	cookie [8]byte
}

// Lengths of struct inet_diag_req_v2 and of struct inet_diag_msg, and extensions that
// are asked for.
const (
	requestBytes = 56
	messageBytes = 72
	infoAsked    = 1 << (infoAttribute - 1)

	infoAttribute = 2 // INET_DIAG_INFO
	// Offsets in struct tcp_info (include/uapi/linux/tcp.h).
	infoAcked, infoReceived = 120, 128
)

// allStates are those that the kernel knows, with those of half-open connections.
const allStates = 1<<14 - 1

// request is a struct inet_diag_req_v2.
type request [requestBytes]byte

func (r *request) Len() int          { return requestBytes }
func (r *request) Serialize() []byte { return r[:] }

// oldRequest is a struct inet_diag_req, and getSockets its message, TCPDIAG_GETSOCK.
type oldRequest [60]byte

const getSockets = 18

func (r *oldRequest) Len() int          { return len(r) }
func (r *oldRequest) Serialize() []byte { return r[:] }

// Wanted is what Sockets is asked for.
type Wanted struct {
	// Port is the local one, 0 for all.
	Port uint16
	// Counts of bytes, which cost the kernel a look at each connection.
	Counts bool
	// Over are also those in TIME-WAIT, of which there may be a hundred times as many as
	// of others.
	Over bool
}

// Sockets are those that are wanted, of both families; whoever listens at all addresses of
// IPv6 may have connections of IPv4. The kernel walks its whole table of connections
// for it, of some hundred thousand chains, so that it is asked for both families at once:
// by the message before sock_diag's, which names none (net/ipv4/inet_diag.c,
// inet_diag_dump_compat).
func Sockets(w Wanted) (out []Socket, err error) {
	var r oldRequest
	states := uint32(allStates)
	if w.Counts {
		r[3] = infoAsked
	}
	if !w.Over {
		states &^= 1 << TimeWait
	}
	binary.BigEndian.PutUint16(r[4:], w.Port)
	binary.NativeEndian.PutUint32(r[52:], states)
	req := nl.NewNetlinkRequest(getSockets, unix.NLM_F_DUMP)
	req.AddData(&r)
	err = req.ExecuteIter(unix.NETLINK_SOCK_DIAG, getSockets, func(m []byte) bool {
		if s, ok := read(m); ok {
			out = append(out, s)
		}
		return true
	})
	if err != nil {
		return nil, fmt.Errorf("inetdiag: %w", err)
	}
	return out, nil
}

// read reads a struct inet_diag_msg and what comes behind it.
func read(m []byte) (s Socket, ok bool) {
	if len(m) < messageBytes {
		return s, false
	}
	s.family, s.State = m[0], State(m[1])
	s.Local, s.Remote = end(m[0], m[4:], m[8:]), end(m[0], m[6:], m[24:])
	copy(s.cookie[:], m[44:52])
	for rest := m[messageBytes:]; len(rest) >= unix.SizeofRtAttr; {
		n := int(binary.NativeEndian.Uint16(rest))
		if n < unix.SizeofRtAttr || n > len(rest) {
			break
		}
		if v := rest[unix.SizeofRtAttr:n]; binary.NativeEndian.Uint16(rest[2:]) == infoAttribute && len(v) >= infoReceived+8 {
			s.Acked, s.Received = binary.NativeEndian.Uint64(v[infoAcked:]), binary.NativeEndian.Uint64(v[infoReceived:])
		}
		rest = rest[min((n+3)&^3, len(rest)):]
	}
	return s, true
}

// end is an address and a port, as on the wire.
func end(family uint8, port, address []byte) netip.AddrPort {
	a := netip.AddrFrom4([4]byte(address))
	if family == unix.AF_INET6 {
		a = netip.AddrFrom16([16]byte(address)).Unmap()
	}
	return netip.AddrPortFrom(a, binary.BigEndian.Uint16(port))
}

// Destroy ends a socket that Sockets has told of: an open connection sends a reset, and
// whoever uses it is told ECONNABORTED. One that has ended meanwhile is no error. It
// needs CAP_NET_ADMIN, and a kernel with CONFIG_INET_DIAG_DESTROY.
func Destroy(s *Socket) error {
	r := request{0: s.family, 1: unix.IPPROTO_TCP}
	binary.NativeEndian.PutUint32(r[4:], allStates)
	for _, e := range []struct {
		end           netip.AddrPort
		port, address int
	}{{s.Local, 8, 12}, {s.Remote, 10, 28}} {
		binary.BigEndian.PutUint16(r[e.port:], e.end.Port())
		a := e.end.Addr()
		if s.family == unix.AF_INET6 {
			b := a.As16()
			copy(r[e.address:], b[:])
		} else {
			b := a.As4()
			copy(r[e.address:], b[:])
		}
	}
	copy(r[48:], s.cookie[:])
	req := nl.NewNetlinkRequest(destroyRequest, unix.NLM_F_ACK)
	req.AddData(&r)
	if _, err := req.Execute(unix.NETLINK_SOCK_DIAG, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("inetdiag: end %s from %s: %w", s.Local, s.Remote, err)
	}
	return nil
}

// destroyRequest is SOCK_DESTROY (include/uapi/linux/sock_diag.h).
const destroyRequest = 21
