package virtual

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/rand"
	"net/netip"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	netstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

const nicID = 1

// maxQueuedPackets bounds what a client has emitted and nobody has taken.
const maxQueuedPackets = 4096

// ClientConfig is what a client is made of.
type ClientConfig struct {
	Address netip.Addr
	// MTU of its interface in bytes.
	MTU    int
	Clock  *Clock
	Random io.Reader
	// Woken is called when packets wait to be taken, or a connection is ready for
	// something; from any goroutine. It should only note that.
	Woken func()
}

// Client is a host with netstack as its TCP: with SACK, time stamps and window
// scaling, and without RACK. Its methods are for one goroutine. It takes
// and gives IPv4 packets; ARP is its owner's.
type Client struct {
	net   *netstack.Stack
	wire  *channel.Endpoint
	woken func()
}

// NewClient makes a client. Close it.
func NewClient(cfg ClientConfig) (*Client, error) {
	c := &Client{wire: channel.New(maxQueuedPackets, uint32(cfg.MTU), ""), woken: cfg.Woken}
	c.wire.AddNotify(c)
	c.net = netstack.New(netstack.Options{
		NetworkProtocols:   []netstack.NetworkProtocolFactory{ipv4.NewProtocol},
		TransportProtocols: []netstack.TransportProtocolFactory{tcp.NewProtocol},
		Clock:              cfg.Clock, SecureRNG: cfg.Random, RandSource: source{cfg.Random},
	})
	if err := c.configure(cfg.Address); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *Client) configure(addr netip.Addr) error {
	sack := tcpip.TCPSACKEnabled(true)
	// With RACK it may lose its FIN for ever: one that is lost while the data before
	// it is recovered is not counted as outstanding, and after the tail loss probe
	// nothing sets the retransmission timer again.
	recovery := tcpip.TCPRecovery(0)
	for _, o := range []tcpip.SettableTransportProtocolOption{&sack, &recovery} {
		if err := c.net.SetTransportProtocolOption(tcp.ProtocolNumber, o); err != nil {
			return fmt.Errorf("virtual: set %T: %s", o, err)
		}
	}
	if err := c.net.CreateNIC(nicID, c.wire); err != nil {
		return fmt.Errorf("virtual: make the interface: %s", err)
	}
	a := tcpip.ProtocolAddress{Protocol: ipv4.ProtocolNumber, AddressWithPrefix: tcpip.AddrFrom4(addr.As4()).WithPrefix()}
	if err := c.net.AddProtocolAddress(nicID, a, netstack.AddressProperties{}); err != nil {
		return fmt.Errorf("virtual: add address %s: %s", addr, err)
	}
	c.net.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: nicID}})
	return nil
}

// WriteNotify implements channel.Notification.
func (c *Client) WriteNotify() { c.woken() }

// Deliver hands an IPv4 packet to the client, which copies it.
func (c *Client) Deliver(ip []byte) {
	p := netstack.NewPacketBuffer(netstack.PacketBufferOptions{Payload: buffer.MakeWithView(buffer.NewViewWithData(ip))})
	c.wire.InjectInbound(ipv4.ProtocolNumber, p)
	p.DecRef()
}

// Take is the next packet that the client wants to send, nil when there is none.
// It is the caller's.
func (c *Client) Take() []byte {
	p := c.wire.Read()
	if p == nil {
		return nil
	}
	v := p.ToView()
	out := append([]byte(nil), v.AsSlice()...)
	v.Release()
	p.DecRef()
	return out
}

// Close resets what still runs, in silence, and ends netstack's goroutines.
func (c *Client) Close() {
	c.net.Destroy()
	c.wire.Close()
}

// Dial begins a connection. port is the client's own, 0 for one of netstack's
// choice.
func (c *Client) Dial(port uint16, to netip.AddrPort) (*Conn, error) {
	n := &Conn{woken: c.woken}
	ep, terr := c.net.NewEndpoint(tcp.ProtocolNumber, ipv4.ProtocolNumber, &n.queue)
	if terr != nil {
		return nil, fmt.Errorf("virtual: %s", terr)
	}
	n.ep = ep
	n.entry.Init(n, waiter.ReadableEvents|waiter.WritableEvents|waiter.EventErr|waiter.EventHUp)
	n.queue.EventRegister(&n.entry)
	if port != 0 {
		if err := ep.Bind(tcpip.FullAddress{NIC: nicID, Port: port}); err != nil {
			n.Close()
			return nil, fmt.Errorf("virtual: bind port %d: %s", port, err)
		}
	}
	err := ep.Connect(tcpip.FullAddress{NIC: nicID, Addr: tcpip.AddrFrom4(to.Addr().As4()), Port: to.Port()})
	if _, started := err.(*tcpip.ErrConnectStarted); !started && err != nil {
		n.Close()
		return nil, fmt.Errorf("virtual: connect %s: %s", to, err)
	}
	return n, nil
}

// source is a rand.Source over the bytes of a reader that does not fail.
type source struct{ r io.Reader }

var _ rand.Source = source{}

// Int63 implements rand.Source.
func (s source) Int63() int64 {
	var b [8]byte
	if _, err := io.ReadFull(s.r, b[:]); err != nil {
		panic(fmt.Sprintf("virtual: no random bytes: %v", err)) // a mistake of the caller
	}
	return int64(binary.LittleEndian.Uint64(b[:]) >> 1)
}

// Seed implements rand.Source: the reader has its own.
func (source) Seed(int64) {}

// Conn is a connection of a client. Its calls never block; after ErrAgain the
// client's Woken tells that it is worth another try.
type Conn struct {
	ep    tcpip.Endpoint
	queue waiter.Queue
	entry waiter.Entry
	woken func()
}
