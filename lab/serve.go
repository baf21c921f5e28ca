package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// Bounds of what a lab does at once.
const (
	// MaxCommands run by exec; one more is refused.
	MaxCommands = 64
	// maxConnections are served; one more waits.
	maxConnections = 2 * MaxCommands
)

// Serve answers requests on l until one says down, or ctx ends.
func (l *Lab) Serve(ctx context.Context, listener *net.UnixListener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// No more requests are taken once it is going down.
	defer context.AfterFunc(ctx, func() { listener.Close() })()
	slots := make(chan struct{}, maxConnections)
	for {
		slots <- struct{}{}
		c, err := listener.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		go func() {
			defer func() { <-slots }()
			l.serveRequest(ctx, c, cancel)
		}()
	}
}

// serveRequest is the goroutine `lab.Lab.serveRequest`; it ends with its
// connection.
func (l *Lab) serveRequest(ctx context.Context, c *net.UnixConn, down func()) {
	defer c.Close()
	req, files, err := receive(c)
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	if errors.Is(err, io.EOF) {
		// Somebody looked whether a lab is there.
		return
	}
	var resp Response
	if err == nil {
		err = l.answer(ctx, c, req, files, &resp)
	}
	if err != nil {
		resp.Error = err.Error()
	}
	// A caller that went away is nobody's error.
	_ = json.NewEncoder(c).Encode(&resp)
	if err == nil && req.Verb == "down" {
		down()
	}
}

func (l *Lab) answer(ctx context.Context, c *net.UnixConn, req *Request, files []*os.File, resp *Response) (err error) {
	switch req.Verb {
	case "exec":
		resp.Exit, err = l.exec(ctx, c, req, files)
		return err
	case "kill", "stop", "start":
		return l.each(req)
	case "deafen", "mute", "stall", "split", "heal":
		return l.fault(ctx, req)
	case "status":
		resp.Status = l.Status()
		return nil
	case "down":
		return nil
	}
	return fmt.Errorf("the lab does not know %q; it is of another version", req.Verb)
}

// exec runs a command on a host with the caller's descriptors. The caller's
// signals go to it, and when the caller ends before it, it is killed.
func (l *Lab) exec(ctx context.Context, c *net.UnixConn, req *Request, files []*os.File) (int, error) {
	if len(req.Argv) == 0 || len(files) != stdio {
		return 0, errors.New("there is no command to run")
	}
	if l.commands.Add(1) > MaxCommands {
		l.commands.Add(-1)
		return 0, fmt.Errorf("%d commands are running in the lab already; end one of them first", MaxCommands)
	}
	defer l.commands.Add(-1)
	cmd, start, err := l.command(ctx, req)
	if err != nil {
		return 0, err
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = files[0], files[1], files[2]
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := start(cmd); err != nil {
		return 0, err
	}
	var ended atomic.Bool
	go passSignals(c, cmd.Process.Pid, &ended)
	err = cmd.Wait()
	ended.Store(true)
	var failed *exec.ExitError
	if !errors.As(err, &failed) {
		return 0, err
	}
	if ws := failed.Sys().(syscall.WaitStatus); ws.Signaled() {
		return signalExit + int(ws.Signal()), nil
	}
	return failed.ExitCode(), nil
}

// passSignals is the goroutine `lab.passSignals`; it ends with its connection.
// What a command that has ended left running is let be.
func passSignals(c *net.UnixConn, group int, ended *atomic.Bool) {
	var b [1]byte
	for {
		s := unix.SIGKILL
		_, err := c.Read(b[:])
		if err == nil {
			s = syscall.Signal(b[0])
		}
		if ended.Load() {
			return
		}
		_ = unix.Kill(-group, s)
		if err != nil {
			return
		}
	}
}

// command prepares the program of a request, on a host of the lab or on the LAN
// itself.
func (l *Lab) command(ctx context.Context, req *Request) (*exec.Cmd, func(*exec.Cmd) error, error) {
	cmd := exec.CommandContext(ctx, req.Argv[0], req.Argv[1:]...)
	for _, v := range req.Env {
		if !strings.HasPrefix(v, "PATH=") && !strings.HasPrefix(v, "PWD=") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	// What it finds is what was looked up here.
	cmd.Env = append(cmd.Env, "PATH="+os.Getenv("PATH"))
	cmd.Dir = "/"
	if info, err := os.Stat(req.Dir); err == nil && info.IsDir() {
		cmd.Dir = req.Dir
	}
	if req.Host == lanName {
		return cmd, l.LAN.ns.Start, nil
	}
	h, ok := l.LAN.Host(req.Host)
	if !ok {
		return nil, nil, fmt.Errorf("there is no host %q in the lab; try ov-lan, ov-client1 or ov-n1", req.Host)
	}
	if d, err := l.Daemon(h.Name); err == nil {
		cmd.Env = append(cmd.Env, "ONEVOICE_SOCKET="+d.Socket(), "ONEVOICE_CONFIG="+d.Config())
	}
	return cmd, h.Start, nil
}

// Status tells how the lab is.
func (l *Lab) Status() *Status {
	s := &Status{LAN: l.LAN.Spec.LAN, VIP: VIP().String(), SSH: l.SSH.Kind()}
	for _, h := range l.LAN.Hosts {
		hs := HostStatus{Name: "ov-" + h.Name, MAC: h.MAC.String()}
		for _, a := range h.Addrs {
			hs.Addresses = append(hs.Addresses, a.String())
		}
		if d, err := l.Daemon(h.Name); err == nil {
			ds := d.Status()
			hs.Daemon, hs.Log = &ds, d.Log()
		}
		s.Hosts = append(s.Hosts, hs)
	}
	return s
}
