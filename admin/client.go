package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"onevoice/control"
)

// answerWithin bounds how long a daemon may take to answer: the patience of the
// cluster with a wish, and some.
const answerWithin = 8 * time.Second

// maxAnswerBytes bounds what a client reads of an answer.
const maxAnswerBytes = 64 << 20

// Ask fetches the status from the daemon on the socket at path. The error is a
// sentence for the person who called.
func Ask(ctx context.Context, path string, want Wanted) (*Status, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	q := url.Values{}
	for name, wanted := range map[string]bool{"table": want.Table, "flows": want.Flows, "gc": want.Collect} {
		if wanted {
			q.Set(name, "1")
		}
	}
	body, of, err := get(ctx, path, "/v1/status?"+q.Encode())
	if err != nil {
		return nil, err
	}
	var s Status
	if err := json.Unmarshal(body, &s); err != nil {
		return nil, fmt.Errorf("the answer on %s is not a status: %w; %s", path, err, of)
	}
	return &s, nil
}

// get asks the daemon on the socket at path for something.
func get(ctx context.Context, path, what string) (body []byte, of daemonVersion, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://onevoice"+what, nil)
	if err != nil {
		return nil, "", err
	}
	resp, err := clientOf(path).Do(req)
	if err != nil {
		return nil, "", explain(path, err)
	}
	defer resp.Body.Close()
	of = daemonVersion(resp.Header.Get(VersionHeader))
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes+1))
	said := strings.TrimSpace(string(body[:min(len(body), maxWishBytes)]))
	switch {
	case err != nil:
		return nil, of, explain(path, err)
	case len(body) > maxAnswerBytes:
		return nil, of, fmt.Errorf("the daemon on %s answered with more than %d bytes", path, maxAnswerBytes)
	case resp.StatusCode == http.StatusBadRequest:
		return nil, of, errors.New(said)
	case resp.StatusCode == http.StatusNotFound:
		return nil, of, fmt.Errorf("the daemon on %s does not know what was asked; %s", path, of)
	case resp.StatusCode != http.StatusOK:
		return nil, of, fmt.Errorf("the daemon on %s answered: %s", path, said)
	}
	return body, of, nil
}

// daemonVersion is the version of who answered, "" of one that does not tell it.
type daemonVersion string

// String is a sentence for whoever did not understand the answer.
func (v daemonVersion) String() string {
	if v == "" {
		return "that daemon is older than this command; restart it, or use the command that it came with"
	}
	return fmt.Sprintf("that daemon is of version %s, and `onevoice version` tells this command's; restart the daemon, or use the command that it came with", string(v))
}

func clientOf(path string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
			if err != nil {
				return nil, err
			}
			if pid := stoppedPeer(conn); pid > 0 {
				conn.Close()
				return nil, &stoppedError{path, pid}
			}
			return conn, nil
		},
		DisableKeepAlives: true,
	}}
}

// Tell has the daemon on the socket at path ask the cluster for a wish. The
// error is a sentence for the person who called.
func Tell(ctx context.Context, path string, wish Wish) error {
	_, err := post(ctx, path, "wish", wish)
	return err
}

// EndFlows has the daemon on the socket at path end running flows of its host, and
// reports how many there were.
func EndFlows(ctx context.Context, path string, k control.Kill) (int, error) {
	text, err := post(ctx, path, "kill", k)
	if err != nil {
		return 0, err
	}
	var done Killed
	if err := json.Unmarshal(text, &done); err != nil {
		return 0, fmt.Errorf("the answer on %s says nothing of flows: %w", path, err)
	}
	return done.Flows, nil
}

func post(ctx context.Context, path, what string, body any) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	data, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://onevoice/v1/"+what, bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	resp, err := clientOf(path).Do(req)
	if err != nil {
		return nil, explain(path, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes))
	if err != nil {
		return nil, explain(path, err)
	}
	of := daemonVersion(resp.Header.Get(VersionHeader))
	switch {
	case resp.StatusCode == http.StatusNotFound:
		return nil, fmt.Errorf("the daemon on %s does not know what was asked; %s", path, of)
	case resp.StatusCode == http.StatusBadRequest && strings.Contains(string(text), "unknown field"):
		return nil, fmt.Errorf("%s; %s", strings.TrimSpace(string(text)), of)
	case resp.StatusCode >= http.StatusBadRequest:
		return nil, errors.New(strings.TrimSpace(string(text)))
	}
	return text, nil
}

// stoppedError is a daemon that has been stopped, and would not answer.
type stoppedError struct {
	path string
	pid  int
}

func (e *stoppedError) Error() string {
	return fmt.Sprintf("the daemon on %s, process %d, is stopped (SIGSTOP, or a debugger) and answers nobody; let it go on: kill -CONT %d", e.path, e.pid, e.pid)
}

// stoppedPeer is the process that listens at the other end of a connection, if it is
// stopped (proc(5), unix(7)); else, and where that is not known, 0.
func stoppedPeer(conn net.Conn) (pid int) {
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return 0
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return 0
	}
	_ = raw.Control(func(fd uintptr) {
		if c, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid = int(c.Pid)
		}
	})
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// "pid (name) state …", and a name may have brackets.
	_, after, _ := strings.Cut(string(text[bytes.LastIndexByte(text, ')')+1:]), " ")
	if strings.HasPrefix(after, "T") || strings.HasPrefix(after, "t") {
		return pid
	}
	return 0
}

func explain(path string, err error) error {
	if stopped := (*stoppedError)(nil); errors.As(err, &stopped) {
		return stopped
	}
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("no daemon answers on %s; start it with `systemctl start onevoice` (`journalctl -u onevoice` tells why one has ended) or with `onevoice run`, or name its socket with --socket", path)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("the daemon on %s is there and does not answer: it is stopped, as by SIGSTOP or a debugger, or this host is overloaded; see its log", path)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("no right to ask on %s; run this as the user that runs the daemon, or as root", path)
	}
	return err
}
