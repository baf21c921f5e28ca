package control

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"
)

// listening is the flag of a listening socket in /proc/net/unix (__SO_ACCEPTCON
// of include/linux/net.h).
const listening = "00010000"

// FindWorkers names the workers of VIPs in this network namespace, from the
// kernel's list of unix sockets, see proc_net(5).
func FindWorkers(vips ...netip.Addr) ([]string, error) {
	f, err := os.Open("/proc/self/net/unix")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var names []string
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		for _, vip := range vips {
			if len(fields) == 8 && fields[3] == listening && strings.HasPrefix(fields[7], workerNames(vip)) {
				names = append(names, fields[7])
			}
		}
	}
	return names, lines.Err()
}

// takeUp takes over the workers that an earlier control process has left. One
// that does not follow is missed: it may stand still, and have flows.
func (w *Workers) takeUp() ([]*worker, error) {
	names, err := FindWorkers(w.vip())
	if err != nil {
		return nil, err
	}
	names = slices.DeleteFunc(names, w.started)
	missed := map[string]time.Duration{}
	var found []*worker
	for _, name := range names {
		one, err := w.takeUpOne(name)
		if err != nil {
			w.cfg.Log.Warn("a worker of an earlier run does not follow; nothing new is accepted until it does", "name", name, "error", err)
			missed[name] = w.cfg.Clock()
			continue
		}
		found = append(found, one)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.survivors, w.missed = len(names), missed
	return found, nil
}

// started reports whether a name is of a worker that this process has started.
func (w *Workers) started(name string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.ContainsFunc(w.all, func(one *worker) bool { return name == workerName(w.vip(), one.pid) })
}

// vip is the one by which workers are found.
func (w *Workers) vip() netip.Addr { return w.cfg.Settings.Config.VIPs[0].Address.Addr() }

func (w *Workers) takeUpOne(name string) (*worker, error) {
	c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: name, Net: "unixpacket"})
	if err != nil {
		return nil, err
	}
	one, err := newWorker(w.cfg.Clock())
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	one.wire = newWire(c)
	if err := w.greet(one); err != nil {
		return nil, errors.Join(err, one.close())
	}
	w.cfg.Log.Info("taken up a worker of an earlier run", "pid", one.pid)
	return one, nil
}

// greet makes sure whose worker it is and gives it the new page.
func (w *Workers) greet(one *worker) error {
	if err := sameUser(one.wire.conn); err != nil {
		return err
	}
	cred, err := peerOf(one.wire.conn)
	if err != nil {
		return err
	}
	one.pid = int(cred.Pid)
	if one.process, err = os.FindProcess(one.pid); err != nil {
		return err
	}
	err = one.wire.send(newMessage(tellTakeUp, 0, struct{}{}), one.page.File(), one.wake)
	if err != nil {
		return err
	}
	err = one.welcome(takeUpTimeout)
	if failed := errWorkerFailed(""); errors.As(err, &failed) {
		// It knows us, and has no lease. Another one beside it has to know that
		// there are flows that it does not know.
		w.cfg.Log.Warn("a worker of an earlier run cannot use this version's page", "pid", one.pid, "error", err)
		one.unusable = true
		return one.wire.conn.SetReadDeadline(time.Time{})
	}
	if err != nil {
		return fmt.Errorf("take-up: %w", err)
	}
	return nil
}
