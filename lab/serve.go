package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"syscall"
)

// Serve answers requests on l until one says down, or ctx ends.
func (l *Lab) Serve(ctx context.Context, listener *net.UnixListener) error {
	down := make(chan struct{}, 1)
	go func() {
		select {
		case <-ctx.Done():
		case <-down:
		}
		listener.Close()
	}()
	for {
		c, err := listener.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		go l.serveRequest(ctx, c, down)
	}
}

// serveRequest is the goroutine `lab.Lab.serveRequest`; it ends with its
// connection.
func (l *Lab) serveRequest(ctx context.Context, c *net.UnixConn, down chan<- struct{}) {
	defer c.Close()
	req, files, err := receive(c)
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
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
		select {
		case down <- struct{}{}:
		default:
		}
	}
}

func (l *Lab) answer(ctx context.Context, c *net.UnixConn, req *Request, files []*os.File, resp *Response) (err error) {
	switch req.Verb {
	case "exec":
		resp.Exit, err = l.exec(ctx, c, req, files)
		return err
	case "kill":
		return l.signal(req.Host, syscall.SIGKILL)
	case "stop":
		return l.signal(req.Host, syscall.SIGTERM)
	case "start":
		d, err := l.Daemon(req.Host)
		if err != nil {
			return err
		}
		if err := d.Start(); err != nil {
			return fmt.Errorf("%s: %w", d.Host.Name, err)
		}
		return nil
	case "status":
		resp.Status = l.Status()
		return nil
	case "down":
		return nil
	}
	return fmt.Errorf("the lab does not know %q; it is of another version", req.Verb)
}

func (l *Lab) signal(name string, s syscall.Signal) error {
	d, err := l.Daemon(name)
	if err != nil {
		return err
	}
	return d.Signal(s)
}

// exec runs a command on a host with the caller's descriptors. It ends with the
// caller: when the connection closes, the command is killed.
func (l *Lab) exec(ctx context.Context, c *net.UnixConn, req *Request, files []*os.File) (int, error) {
	if len(req.Argv) == 0 || len(files) != stdio {
		return 0, errors.New("there is no command to run")
	}
	cmd, start, err := l.Command(ctx, req.Host, req.Argv)
	if err != nil {
		return 0, err
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = files[0], files[1], files[2]
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := start(cmd); err != nil {
		return 0, err
	}
	go func() {
		// Nothing more is sent: the read ends when the caller does.
		_, _ = c.Read(make([]byte, 1))
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}()
	var failed *exec.ExitError
	if err := cmd.Wait(); errors.As(err, &failed) {
		if ws := failed.Sys().(syscall.WaitStatus); ws.Signaled() {
			return 128 + int(ws.Signal()), nil
		}
		return failed.ExitCode(), nil
	} else if err != nil {
		return 0, err
	}
	return 0, nil
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
