package admin

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Fields are what a wish says, for a log.
func (w *Wish) Fields() []any {
	out := []any{"for", w.Do}
	add := func(name, value string) {
		if value != "" {
			out = append(out, name, value)
		}
	}
	add("node", w.Node)
	add("service", w.Service)
	if w.Bucket != nil {
		out = append(out, "bucket", *w.Bucket)
	}
	if w.Do == DoWeight {
		out = append(out, "weight", w.Weight)
	}
	add("to", w.To)
	return out
}

// Audit writes down what somebody has asked for, by whom and with which outcome.
func (d *Daemon) Audit(by string, err error, fields ...any) {
	log := d.Log
	if log == nil {
		return
	}
	fields = append(fields, "by", by)
	if err != nil {
		log.Warn("an operator's wish was refused", append(fields, "error", err)...)
		return
	}
	log.Info("an operator's wish was granted", fields...)
}

// by is who sent a request.
func by(r *http.Request) string {
	text, _ := r.Context().Value(peerKey{}).(string)
	return text
}

// peerKey is the context's key of who connected.
type peerKey struct{}

// withPeer is for http.Server.ConnContext.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, peerKey{}, peerOf(c))
}

// peerOf is who connected, by SO_PEERCRED of unix(7): who is user 0 may have logged in
// as another, which the kernel remembers as the loginuid (proc_pid_loginuid(5)).
func peerOf(c net.Conn) string {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return "unknown"
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return "unknown"
	}
	var cred *unix.Ucred
	if raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }) != nil || err != nil {
		return "unknown"
	}
	text := fmt.Sprintf("user %d, process %d", cred.Uid, cred.Pid)
	// What follows is there while the process is, and where it may be read.
	proc := fmt.Sprintf("/proc/%d/", cred.Pid)
	if name, err := os.ReadFile(proc + "comm"); err == nil {
		text += fmt.Sprintf(" (%s)", strings.TrimSpace(string(name)))
	}
	if login, err := os.ReadFile(proc + "loginuid"); err == nil {
		if id, err := strconv.ParseUint(string(login), 10, 32); err == nil && id != noLogin {
			text += fmt.Sprintf(", logged in as user %d", id)
		}
	}
	return text
}

// noLogin is the loginuid of what nobody has logged in for.
const noLogin = 1<<32 - 1
