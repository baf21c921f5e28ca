package scenario

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"onevoice/stack/virtual"
)

// session is a user's part of an exchange.
type session struct {
	x    *Exchange
	u    *user
	conn *virtual.Conn
	head []byte // what is left of it to send
	// allowed is how much of an echo may be sent so far; it grows as words are
	// said.
	allowed uint64
	// tail is how much of a push's tail is left.
	tail   uint64
	ended  bool // our direction
	eof    bool // the backend's
	buffer [16 << 10]byte
}

// begin opens a connection for an exchange of some kind.
func (u *user) begin() {
	us, r := u.us, u.us.c.World.Rand()
	x := &Exchange{User: u.Name, ID: uint32(len(us.exchanges)), Opened: us.c.World.Now(), Bytes: uint64(1 + r.IntN(us.use.Bytes))}
	us.exchanges = append(us.exchanges, x)
	s := &session{x: x, u: u}
	x.received = progress{id: x.ID, direction: upward}
	talk := false
	switch r.IntN(3) {
	case 0: // all at once
		s.allowed = x.Bytes
	case 1:
		x.Push, s.tail = true, tailBytes
		x.received.direction = downward
	case 2:
		talk = true
	}
	s.head = x.header()
	conn, err := u.tcp.Dial(0, netip.AddrPortFrom(VIP(), ServicePort))
	if err != nil {
		s.end(err)
		return
	}
	s.conn, x.Port = conn, conn.Port()
	u.open = append(u.open, s)
	if talk {
		s.talk(us.c.World.Now() + us.c.between(0, us.use.Talk))
	}
	us.note(u)
	us.wakeIn(0)
}

// talk says a word now and then, and the rest at the end.
func (s *session) talk(until time.Duration) {
	us := s.u.us
	us.c.World.After(us.c.between(talkEvery/2, 3*talkEvery/2), func() {
		if s.x.Ended > 0 {
			return
		}
		s.allowed = min(s.allowed+uint64(us.c.World.Rand().IntN(wordBytes)), s.x.Bytes)
		if us.c.World.Now() >= until || us.c.quiet {
			s.allowed = s.x.Bytes
		} else {
			s.talk(until)
		}
		us.note(s.u)
		us.wakeIn(0)
	})
}

// step does what can be done now.
func (s *session) step() {
	if s.x.Ended > 0 {
		return
	}
	if s.x.Connected == 0 {
		done, err := s.conn.Connected()
		if err != nil || !done {
			s.end(err)
			return
		}
		s.x.Connected = s.u.us.c.World.Now()
	}
	err := s.write()
	if err == nil {
		err = s.read()
	}
	if err == nil {
		err = s.write() // for the end of a push allows the tail
	}
	if err != nil {
		s.end(err)
	} else if s.ended && s.eof {
		s.whole()
	}
}

// end ends the exchange with an error; nil is for none yet.
func (s *session) end(err error) {
	if err == nil {
		return
	}
	s.x.Err, s.x.Ended = err, max(s.u.us.c.World.Now(), 1)
	s.letGo()
}

// whole ends the exchange after both ends.
func (s *session) whole() {
	switch r := &s.x.received; {
	case r.wrong != nil:
		s.end(fmt.Errorf("at the user %w", r.wrong))
	case r.got != s.x.Bytes:
		s.end(fmt.Errorf("the user got %d of %d bytes", r.got, s.x.Bytes))
	default:
		s.x.Ended = s.u.us.c.World.Now()
		s.letGo()
	}
}

func (s *session) letGo() {
	if s.conn != nil {
		s.conn.Close()
	}
	for i, o := range s.u.open {
		if o == s {
			s.u.open = append(s.u.open[:i], s.u.open[i+1:]...)
			return
		}
	}
}

// write writes what is allowed and fits, and then perhaps the end.
func (s *session) write() error {
	for !s.ended {
		b := s.next()
		if len(b) == 0 {
			if !s.finished() {
				return nil
			}
			s.ended = true
			return s.conn.CloseWrite()
		}
		n, err := s.conn.Write(b)
		if len(s.head) > 0 {
			s.head = s.head[n:]
		} else {
			s.x.sent += uint64(n)
		}
		if errors.Is(err, virtual.ErrAgain) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// next are the next bytes to write.
func (s *session) next() []byte {
	if len(s.head) > 0 {
		return s.head
	}
	limit := s.allowed
	if s.x.Push && s.eof {
		limit = s.tail
	}
	b := s.buffer[:min(limit-s.x.sent, uint64(len(s.buffer)))]
	content(s.x.ID, upward, s.x.sent, b)
	return b
}

// finished reports whether the last byte has been written.
func (s *session) finished() bool {
	if s.x.Push {
		return s.eof && s.x.sent == s.tail
	}
	return s.x.sent == s.x.Bytes
}

func (s *session) read() error {
	for !s.eof {
		n, err := s.conn.Read(s.buffer[:])
		s.x.received.take(s.buffer[:n])
		switch {
		case errors.Is(err, virtual.ErrAgain):
			return nil
		case errors.Is(err, io.EOF):
			s.eof = true
		case err != nil:
			return err
		}
	}
	return nil
}
