package main

import (
	"fmt"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"
)

// notifier tells systemd, where that has started us, how this host is: sd_notify(3),
// and, for its watchdog, that the loop answers (sd_watchdog_enabled(3)). A daemon
// whose loop hangs tells nothing more and is started again; its workers serve on, and
// the next daemon takes them up.
type notifier struct {
	every time.Duration
	// how says how this host is, once its loop has answered; false when it has ended.
	how  func() (string, bool)
	stop chan struct{}
	done chan struct{}
	// closed belongs to who calls close.
	closed bool
}

// notifyEvery is how often systemd is told without a watchdog. With one it is twice in
// the watchdog's time, as the manual page has it.
const notifyEvery = 5 * time.Second

// startNotifier says that the daemon has started, and goes on to say how it is in the
// goroutine `main.notifier.run`. Without systemd it does nothing.
func startNotifier(how func() (string, bool)) (*notifier, error) {
	n := &notifier{every: notifyEvery, how: how, stop: make(chan struct{}), done: make(chan struct{})}
	watchdog, err := systemd.SdWatchdogEnabled(false)
	if err != nil {
		return nil, fmt.Errorf("systemd's WATCHDOG_USEC: %w", err)
	}
	if watchdog > 0 {
		n.every = min(n.every, watchdog/2)
	}
	there, err := systemd.SdNotify(false, systemd.SdNotifyReady)
	if err != nil {
		return nil, fmt.Errorf("systemd's NOTIFY_SOCKET: %w", err)
	}
	if !there {
		close(n.done)
		return n, nil
	}
	go n.run()
	return n, nil
}

func (n *notifier) run() {
	defer close(n.done)
	tick := time.NewTicker(n.every)
	defer tick.Stop()
	for {
		how, ok := n.how()
		if !ok {
			return
		}
		// systemd may be starting anew; it is told again soon.
		_, _ = systemd.SdNotify(false, systemd.SdNotifyWatchdog+"\nSTATUS="+how)
		select {
		case <-tick.C:
		case <-n.stop:
			return
		}
	}
}

// stopping says that the daemon stops, which may take stop_timeout.
func (n *notifier) stopping(grace time.Duration) {
	if n == nil {
		return
	}
	// The watchdog has no say in it any more than before: the loop goes on.
	_, _ = systemd.SdNotify(false, fmt.Sprintf("%s\nEXTEND_TIMEOUT_USEC=%d", systemd.SdNotifyStopping, (grace+stopSlack).Microseconds()))
}

// stopSlack is what a stop may take beside the flows' time.
const stopSlack = 10 * time.Second

// close ends the goroutine. The loop has ended, or answers. A second call, and one of
// a notifier that was not started, do nothing.
func (n *notifier) close() error {
	if n == nil || n.closed {
		return nil
	}
	n.closed = true
	close(n.stop)
	<-n.done
	return nil
}

// mainProcess says that another process is the service's from now on (MAINPID= of
// sd_notify(3)), and reports whether systemd is there to hear it.
func mainProcess(pid int) (bool, error) {
	return systemd.SdNotify(false, fmt.Sprintf("MAINPID=%d", pid))
}

// how is this host in a line, for systemctl status.
func (d *daemon) how() (text string, ok bool) {
	err := d.loop.Call(func(now time.Duration) {
		s := d.core.Status(now)
		leased := "no lease"
		for _, l := range s.Leases {
			if now < l.End {
				leased = "holds a lease"
			}
		}
		first := vipService(d.cfg.VIPs[0].Address.Addr())
		in := 0
		for i := range s.Hosts {
			if s.Hosts[i].In {
				in++
			}
		}
		text = fmt.Sprintf("%s, %d buckets of %d, %d nodes in", leased, ownedBy(&s, first, s.ID), len(s.Tables[first]), in)
	})
	return text, err == nil
}
