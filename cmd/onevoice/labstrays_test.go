package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"onevoice/admin"
	"onevoice/responder"
)

// asStrays makes TestStrayClient one: its value are the client's addresses.
const asStrays = "ONEVOICE_TEST_STRAYS"

// A node that drains lists its flows, so that the others reset what is not on
// the list, at once, and leave alone what is. Old workers after an upgrade are listed
// as well, for the other nodes and for the new worker beside them.
func TestStraysBesideADrainer(t *testing.T) {
	newLab(t, "--nodes=3", "--clients=1", "--addresses=12")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var addresses []string
	for i := range 12 {
		addresses = append(addresses, fmt.Sprintf("10.77.0.%d", 101+i))
	}
	client := labProgram(t, "exec", "ov-client1", "--", "env", "-u", asProgram, asStrays+"="+strings.Join(addresses, ","), self, "-test.run=^TestStrayClient$")
	client.Stderr = os.Stderr
	in, err := client.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	first, lines := started(t, client)
	if first != "held" {
		t.Fatalf("the client says %q", first)
	}
	if code, out := runProgram(t, labProgram(t, "exec", "ov-n1", "--", "onevoice", "drain", "10.77.0.11"), (*exec.Cmd).Start); code != 0 {
		t.Fatalf("drain: exit %d: %s", code, out)
	}
	status := func(node string) admin.Status { return labStatus(t, node) }
	drains := 0
	for begun := time.Now(); ; {
		s := status("ov-n1")
		if n := s.Nodes[0]; n.Buckets == 0 && n.BucketsOf["ssh"] == 0 {
			drains = n.DrainsOf["ssh"]
			break
		}
		if time.Since(begun) > patience {
			t.Fatalf("the node is not drained: %+v", s.Nodes)
		}
	}
	before := status("ov-n1").Filtered.Foreign
	if drains == 0 {
		t.Skip("no client of the test is in a bucket of the first node")
	}
	answers := bufio.NewReader(lines)
	asks := func(what, want string) {
		t.Helper()
		fmt.Fprintln(in, what)
		if text, err := answers.ReadString('\n'); err != nil || text != want {
			t.Errorf("the client says %q, %v; wanted %q", text, err, want)
		}
	}
	asks("strays", "12 strays reset\n")
	// All of the strays are another's for the drainer, and all of its sessions are its
	// own, in the kernel, too.
	if s := status("ov-n1"); strings.HasPrefix(s.Workers[0].Filter.State, "in the kernel") && s.Filtered.Foreign < before+uint64(len(addresses)) {
		t.Errorf("the drainer's kernel has dropped %d frames, before %d", s.Filtered.Foreign, before)
	}
	for _, node := range []string{"ov-n1", "ov-n2", "ov-n3"} {
		if code, out := runProgram(t, labProgram(t, "exec", node, "--", "onevoice", "upgrade"), (*exec.Cmd).Start); code != 0 {
			t.Fatalf("upgrade of %s: exit %d: %s", node, code, out)
		}
	}
	old := 0
	for _, node := range []string{"ov-n1", "ov-n2", "ov-n3"} {
		old += len(status(node).Workers) - 1
	}
	if old == 0 {
		t.Error("no old worker has flows")
	}
	asks("strays", "12 strays reset\n")
	asks("sessions", "12 sessions answered\n")
	listed := uint64(0)
	for _, node := range []string{"ov-n2", "ov-n3"} {
		listed += status(node).Verdicts["stray-listed"]
	}
	if listed == 0 {
		t.Error("no owner has met a flow that is on a list")
	}
	in.Close()
	if err := client.Wait(); err != nil {
		t.Error(err)
	}
}

// TestStrayClient is the client's part, in its namespace: sessions from all
// addresses, then what it is told: strays from all, or something in each session.
func TestStrayClient(t *testing.T) {
	list := os.Getenv(asStrays)
	if list == "" {
		t.Skip("a part of TestStraysBesideADrainer")
	}
	var sessions []net.Conn
	addresses := strings.Split(list, ",")
	for _, a := range addresses {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(a)}, Timeout: patience}
		c, err := d.Dial("tcp4", testVIP+":22")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := bufio.NewReader(c).ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		sessions = append(sessions, c)
	}
	fmt.Println("held")
	input := bufio.NewReader(os.Stdin)
	for {
		switch what, err := input.ReadString('\n'); {
		case err != nil:
			return
		case what == "strays\n":
			resets := 0
			for _, a := range addresses {
				if err := strayIsReset(net.ParseIP(a).To4()); err != nil {
					t.Errorf("%s: %v", a, err)
					continue
				}
				resets++
			}
			fmt.Printf("%d strays reset\n", resets)
		default:
			fmt.Printf("%d sessions answered\n", sessionsAnswered(t, sessions))
		}
	}
}

// sessionsAnswered says something in each session, and counts those that answer.
func sessionsAnswered(t *testing.T, sessions []net.Conn) (n int) {
	for _, c := range sessions {
		_ = c.SetDeadline(time.Now().Add(patience))
		b := make([]byte, 4096)
		if _, err := c.Write([]byte("SSH-2.0-test\r\n")); err != nil {
			t.Errorf("%s: %v", c.LocalAddr(), err)
		} else if _, err := c.Read(b); err != nil {
			t.Errorf("%s: %v", c.LocalAddr(), err)
		} else {
			n++
		}
	}
	return n
}

// strayPort is that of the strays' flows, which nobody has.
const strayPort = 19999

// strayIsReset sends strays from an address until one is reset.
func strayIsReset(from net.IP) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	vip := net.ParseIP(testVIP).To4()
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte(from)}); err != nil {
		return err
	}
	segment := make([]byte, 20)
	binary.BigEndian.PutUint16(segment, strayPort)
	binary.BigEndian.PutUint16(segment[2:], 22)
	segment[7], segment[11], segment[12], segment[13] = 1, 1, 0x50, 0x10
	pseudo := append(append(append([]byte{}, from...), vip...), 0, unix.IPPROTO_TCP, 0, 20)
	binary.BigEndian.PutUint16(segment[16:], ^responder.Sum(0, append(pseudo, segment...)))
	timeout := unix.Timeval{Usec: 200_000}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		return err
	}
	for begun := time.Now(); time.Since(begun) < 5*time.Second; {
		if err := unix.Sendto(fd, segment, 0, &unix.SockaddrInet4{Addr: [4]byte(vip)}); err != nil {
			return err
		}
		for b := make([]byte, 2048); ; {
			n, _, err := unix.Recvfrom(fd, b, 0)
			if err != nil {
				break // nothing came: again
			}
			if t := b[20:n]; n >= 40 && binary.BigEndian.Uint16(t[2:]) == strayPort && t[13]&4 != 0 {
				return nil
			}
		}
	}
	return errors.New("its stray is not reset")
}
