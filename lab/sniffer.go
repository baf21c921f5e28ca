package lab

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"onevoice/internal/pcap"
	"onevoice/responder"
)

// Sniffer hears what every host sends, at the host's port on the bridge, and
// feeds it to a judge.
//
// One socket hears all ports, so that frames come in the order of their causes:
// a question is in the ring before the bridge forwards it, and so before its
// answer. With a socket for each port there would be as many queues and no such
// order.
type Sniffer struct {
	ring  *ring
	wake  [2]int
	hosts map[int]Sender
	pcap  *pcap.Writer
	// recent, when not nil, are the last frames before a breach.
	recent *recent
	calls  chan func()
	done   chan struct{}

	// Of the goroutine run, and of functions that it is called with.
	judge   *Judge
	capture Capture
	began   time.Time
	lost    uint64
	failed  error
}

// NewSniffer opens a sniffer on the LAN. capture, when not nil, gets all frames in
// pcap form, cut to about slotBytes; Close writes the last of it.
func NewSniffer(l *LAN, capture io.Writer) (*Sniffer, error) {
	services := []netip.AddrPort{netip.AddrPortFrom(VIP(), 22)}
	if l.Spec.Beat {
		services = append(services, beatService())
	}
	s := &Sniffer{
		hosts: map[int]Sender{},
		calls: make(chan func()),
		done:  make(chan struct{}),
		judge: NewJudge([]JudgedAddress{{VIP(), responder.MAC(l.Spec.ClusterMAC())}}, services),
		began: time.Now(),
	}
	ports := make([]int, 0, len(l.Hosts))
	for _, h := range l.Hosts {
		s.hosts[h.Port] = Sender{Host: h.Name, Node: h.Node}
		ports = append(ports, h.Port)
	}
	if err := l.ns.Do(func() (err error) { s.ring, err = openRing(ports); return err }); err != nil {
		return nil, fmt.Errorf("lab: open the sniffer: %w", err)
	}
	if err := unix.Pipe2(s.wake[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, errors.Join(os.NewSyscallError("pipe2", err), s.ring.close())
	}
	if capture != nil {
		s.pcap = pcap.NewWriter(capture)
	}
	go s.run()
	return s, nil
}

// run is the goroutine `lab.Sniffer.run`; it ends with Close.
func (s *Sniffer) run() {
	defer close(s.done)
	fds := []unix.PollFd{{Fd: int32(s.ring.fd), Events: unix.POLLIN}, {Fd: int32(s.wake[0]), Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(fds, -1); err == unix.EINTR {
			continue
		} else if err != nil {
			s.failed = os.NewSyscallError("poll", err)
			return
		}
		s.drain()
		if fds[1].Revents == 0 {
			continue
		}
		var b [1]byte
		_, _ = unix.Read(s.wake[0], b[:])
		call, open := <-s.calls
		if !open {
			return
		}
		call()
	}
}

// drain judges all frames that are in the ring.
func (s *Sniffer) drain() {
	for {
		at, port, ok := s.ring.next(&s.capture)
		if !ok {
			return
		}
		s.judge.Frame(at.Sub(s.began), s.hosts[port], &s.capture)
		if s.recent != nil {
			s.recent.add(time.Duration(at.UnixNano()), &s.capture, len(s.judge.byRule) > 0)
		}
		if s.pcap != nil {
			s.pcap.Part(time.Duration(at.UnixNano()), s.capture.Data, s.capture.Bytes)
		}
		s.ring.release()
	}
}

// Ask runs fn with the judge once all frames sent before the call are judged.
func (s *Sniffer) Ask(fn func(*Judge)) error {
	ran := make(chan struct{})
	call := func() { fn(s.judge); close(ran) }
	if _, err := unix.Write(s.wake[1], []byte{0}); err != nil {
		return os.NewSyscallError("write", err)
	}
	select {
	case s.calls <- call:
		<-ran
		return nil
	case <-s.done:
		return errors.Join(errors.New("lab: the sniffer has ended"), s.failed)
	}
}

// Tell tells the judge something beside the frames, at the present time.
func (s *Sniffer) Tell(fn func(j *Judge, now time.Duration)) error {
	return s.Ask(func(j *Judge) { fn(j, time.Since(s.began)) })
}

// Remember keeps the last frames from now on, for WriteRecent.
func (s *Sniffer) Remember() error { return s.Ask(func(*Judge) { s.recent = &recent{} }) }

// WriteRecent writes the last frames that are kept, cut to recentFrameBytes, in pcap
// form. After a breach no more were kept than some that followed.
func (s *Sniffer) WriteRecent(out io.Writer) error {
	var err error
	if asked := s.Ask(func(*Judge) { err = s.recent.write(out) }); asked != nil {
		return asked
	}
	return err
}

// Verdict tells what was judged so far.
func (s *Sniffer) Verdict() (*Verdict, error) {
	var v *Verdict
	err := s.Ask(func(j *Judge) {
		s.lost += s.ring.dropped()
		v = j.Verdict()
		v.Lost = s.lost
	})
	return v, err
}

// Close judges what is in the ring and closes the socket. It may not run beside
// Ask.
func (s *Sniffer) Close() error {
	close(s.calls)
	// The goroutine may have ended by an error; then nobody reads.
	_, _ = unix.Write(s.wake[1], []byte{0})
	<-s.done
	errs := []error{s.failed, s.ring.close(), unix.Close(s.wake[0]), unix.Close(s.wake[1])}
	if s.pcap != nil {
		errs = append(errs, s.pcap.Flush())
	}
	return errors.Join(errs...)
}
