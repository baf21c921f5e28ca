package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"onevoice/admin"
	"onevoice/responder"
)

// asCrowd makes TestCrowd a client in the lab.
const asCrowd = "ONEVOICE_TEST_CROWD"

// crowd is how many clients send one segment each.
const crowd = 999

// Of many clients' segments each wakes one node: its owner. The others' kernels drop
// it, and count it.
func TestForeignFramesWakeNobody(t *testing.T) {
	newLab(t, "--nodes=3", "--clients=1", "--addresses=1")
	nodes := []string{"ov-n1", "ov-n2", "ov-n3"}
	status := func(node string) admin.Status { return labStatus(t, node) }
	shared := func() bool {
		for _, name := range nodes {
			for _, n := range status(name).Nodes {
				if n.BucketsOf["ssh"] < 85 || n.DrainsOf["ssh"] > 0 {
					return false
				}
			}
		}
		return true
	}
	for begun := time.Now(); !shared(); {
		if time.Since(begun) > patience {
			t.Fatalf("the nodes have not shared the buckets: %+v", status(nodes[0]).Nodes)
		}
	}
	// taken are frames that a worker has judged to be strays of its own, foreign those
	// of others, in user space or before.
	count := func() (taken, inKernel, foreign uint64) {
		for _, name := range nodes {
			s := status(name)
			taken += s.Verdicts["stray-reset"]
			inKernel += s.Filtered.Foreign
			foreign += s.Verdicts["not-owner"] + s.Filtered.Foreign
		}
		return taken, inKernel, foreign
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// attempt has one crowd, and reports whether it was taken and refused as it should. A
	// node that a busy machine keeps from its lease meanwhile takes nothing.
	var inKernel uint64
	attempt := func() bool {
		taken, inKernelBefore, foreign := count()
		code, out := runProgram(t, labProgram(t, "exec", "ov-client1", "--", "env", "-u", asProgram, asCrowd+"=1", self, "-test.run=^TestCrowd$"), (*exec.Cmd).Start)
		if code != 0 {
			t.Fatalf("the crowd: exit %d: %s", code, out)
		}
		for begun := time.Now(); ; {
			taken2, inKernel2, foreign2 := count()
			inKernel = inKernel2 - inKernelBefore
			if taken2-taken == crowd && foreign2-foreign >= 2*crowd {
				return true
			}
			if time.Since(begun) > patience/6 {
				t.Logf("%d segments were taken and %d refused by others, want %d and %d", taken2-taken, foreign2-foreign, crowd, 2*crowd)
				return false
			}
		}
	}
	for i := 1; !attempt(); i++ {
		if i == 3 {
			t.Fatal("no crowd was as it should be")
		}
		for begun := time.Now(); !shared(); {
			if time.Since(begun) > patience {
				t.Fatalf("the nodes have not shared the buckets again: %+v", status(nodes[0]).Nodes)
			}
		}
	}
	s := status(nodes[0])
	filter := &s.Workers[0].Filter
	if _, text := runProgram(t, labProgram(t, "exec", nodes[0], "--", "onevoice", "status"), (*exec.Cmd).Start); !strings.Contains(text, "FILTER   "+filter.State) {
		t.Errorf("status does not say %q:\n%s", filter.State, text)
	}
	if !strings.HasPrefix(filter.State, "in the kernel") {
		if filter.State != "in user space" || filter.Reason == "" || inKernel != 0 {
			t.Errorf("filter %+v", filter)
		}
		t.Skip(filter.State, filter.Reason)
	}
	if inKernel != 2*crowd {
		t.Errorf("%d frames were dropped in the kernel, want %d", inKernel, 2*crowd)
	}
	if whole := strings.Contains(filter.State, "TCX"); whole != (filter.ForHost >= crowd) || whole != (filter.Reason == "") {
		t.Errorf("filter %+v", filter)
	}
}

// TestCrowd is the client's part, in its namespace: a reset from each of many
// addresses, to which nobody has anything to say.
func TestCrowd(t *testing.T) {
	if os.Getenv(asCrowd) == "" {
		t.Skip("a part of TestForeignFramesWakeNobody")
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	const ip = 20
	for i := range crowd {
		b := make([]byte, ip+20)
		b[0], b[8], b[9] = 0x45, 64, unix.IPPROTO_TCP
		copy(b[12:], []byte{198, 51, byte(i >> 8), byte(i)})
		copy(b[16:], []byte{10, 77, 0, 2})
		binary.BigEndian.PutUint16(b[ip:], uint16(1024+i))
		b[ip+3], b[ip+12], b[ip+13] = 22, 0x50, 4
		pseudo := append(append([]byte{}, b[12:20]...), 0, unix.IPPROTO_TCP, 0, 20)
		binary.BigEndian.PutUint16(b[ip+16:], ^responder.Sum(0, append(pseudo, b[ip:]...)))
		if err := unix.Sendto(fd, b, 0, &unix.SockaddrInet4{Addr: [4]byte{10, 77, 0, 2}}); err != nil {
			t.Fatal(fmt.Errorf("segment %d: %w", i, err))
		}
	}
}
