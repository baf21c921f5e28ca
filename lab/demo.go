package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"
)

// DemoOptions say how the demonstration is told.
type DemoOptions struct {
	Spec Spec
	// Colour for a terminal.
	Colour bool
	// Pcap, when not empty, is a file for the headers of all frames.
	Pcap string
}

// RunDemo builds a cluster, uses it as people do, checks what it claims, and
// takes it down. The error names every claim that did not hold. It runs inside
// the namespaces that Enter makes.
func RunDemo(ctx context.Context, out io.Writer, o DemoOptions) (err error) {
	n := newNarrator(out, o.Colour)
	n.title("A cluster of %d nodes on a %s, all behind %s", o.Spec.Nodes, o.Spec.LAN, VIP())
	before := hostSettings{}
	l, err := newWatched(o, n, &before)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	for _, part := range []func(context.Context, *narrator, *watched) error{logins, questions, nonsense, copies, seenAddresses, ownHosts, failures} {
		if err := part(ctx, n, l); err != nil {
			// What the sniffer saw until here says why.
			n.fail(err)
			break
		}
	}
	if err := l.takeDown(n, before); err != nil {
		return errors.Join(n.err(), err)
	}
	if n.err() == nil {
		n.title("Every claim held.")
	}
	return n.err()
}

// watched is a lab with a sniffer on its LAN.
type watched struct {
	*Lab
	sniffer *Sniffer
	pcap    *os.File
}

func newWatched(o DemoOptions, n *narrator, before *hostSettings) (*watched, error) {
	if err := o.Spec.Check(); err != nil {
		return nil, err
	}
	lan, err := BuildLAN(o.Spec)
	if err != nil {
		return nil, err
	}
	w := &watched{Lab: &Lab{LAN: lan}}
	if err := w.start(o, n, before); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

func (w *watched) start(o DemoOptions, n *narrator, before *hostSettings) (err error) {
	for _, h := range w.LAN.Nodes() {
		if err := before.note(h); err != nil {
			return err
		}
	}
	var pcap io.Writer
	if o.Pcap != "" {
		if w.pcap, err = os.Create(o.Pcap); err != nil {
			return err
		}
		pcap = w.pcap
	}
	if w.sniffer, err = NewSniffer(w.LAN, pcap); err != nil {
		return err
	}
	n.say("a sniffer listens at every port of the %s", o.Spec.LAN)
	return w.Lab.start(&linePrefix{n})
}

// linePrefix writes progress lines as the narrator does.
type linePrefix struct{ n *narrator }

// Write implements io.Writer.
func (l *linePrefix) Write(p []byte) (int, error) {
	l.n.say("%s", strings.TrimSuffix(string(p), "\n"))
	return len(p), nil
}

// Close takes down what is still up.
func (w *watched) Close() error {
	errs := []error{w.Lab.Close()}
	if w.sniffer != nil {
		errs = append(errs, w.sniffer.Close())
	}
	if w.pcap != nil {
		errs = append(errs, w.pcap.Close())
	}
	return errors.Join(errs...)
}

// from is a client address and the host that has it.
type from struct {
	host *Host
	addr netip.Addr
}

func (w *watched) addresses() []from {
	var out []from
	for _, h := range w.LAN.Clients() {
		for _, a := range h.Addrs {
			out = append(out, from{h, a})
		}
	}
	return out
}

// vip is the shared address of its family.
func (f from) vip() netip.Addr {
	if f.addr.Is6() {
		return VIP6()
	}
	return VIP()
}

// loginsAtOnce bounds how many clients log in at the same time.
const loginsAtOnce = 8

// loginAll logs in once from every address. After loginsAtOnce failures it
// gives up, for each may have taken loginTimeout.
func (w *watched) loginAll(ctx context.Context, n *narrator) (map[netip.Addr]Reached, error) {
	var mu sync.Mutex
	out := map[netip.Addr]Reached{}
	var errs []error
	var wg sync.WaitGroup
	slots := make(chan struct{}, loginsAtOnce)
	all := w.addresses()
	for _, f := range all {
		slots <- struct{}{}
		mu.Lock()
		n.progress("%d of %d logged in", len(out), len(all))
		hopeless := len(errs) >= loginsAtOnce
		mu.Unlock()
		if ctx.Err() != nil || hopeless {
			break
		}
		wg.Add(1)
		go func() {
			defer func() { <-slots; wg.Done() }()
			r, err := w.SSH.Login(f.host, f.addr)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, fmt.Errorf("login from %s: %w", f.addr, err))
				return
			}
			out[f.addr] = r
		}()
	}
	wg.Wait()
	return out, errors.Join(append(errs, ctx.Err())...)
}

// logins: every address logs in twice.
func logins(ctx context.Context, n *narrator, w *watched) error {
	all := w.addresses()
	n.title("%d client addresses log in by SSH through %s", len(all), VIP())
	first, err := w.loginAll(ctx, n)
	n.claim(err == nil && len(first) == len(all), "%d of %d logged in, in %s each (median)", len(first), len(all), medianTook(first))
	if err != nil {
		return err
	}
	count, own := map[string]int{}, 0
	for a, r := range first {
		count[r.Node]++
		if r.Saw == a {
			own++
		}
	}
	for _, h := range w.LAN.Nodes() {
		n.say("%-4s %3d  %s", h.Name, count[h.Name], bar(count[h.Name], len(all)))
	}
	n.claim(own == len(all), "%d of %d were told their own address by the node they reached", own, len(all))
	again, err := w.loginAll(ctx, n)
	if err != nil {
		return err
	}
	same := 0
	for a, r := range again {
		if r.Node == first[a].Node {
			same++
		}
	}
	n.claim(same == len(all), "%d of %d reached the same node when they logged in again", same, len(all))
	return nil
}

func medianTook(all map[netip.Addr]Reached) time.Duration {
	var took []time.Duration
	for _, r := range all {
		took = append(took, r.Took)
	}
	if len(took) == 0 {
		return 0
	}
	slices.Sort(took)
	return took[len(took)/2].Round(100 * time.Microsecond)
}

// questions: ping and ARP from every address, and with the machine's tools.
func questions(ctx context.Context, n *narrator, w *watched) error {
	n.title("Every address asks who has %s, pings it, and tries a closed port of it", VIP())
	for _, p := range []struct {
		name  string
		probe func(*Host) (Answers, error)
		judge func(*Judge, netip.Addr) Asked
	}{{"ARP requests", ProbeARP, (*Judge).ARPAnswers}, {"pings", ProbeEcho, (*Judge).EchoAnswers}, {"datagrams to a closed port", ProbeClosedPort, nil}} {
		one, total := 0, 0
		for _, h := range w.LAN.Clients() {
			answers, err := p.probe(h)
			if err != nil {
				return err
			}
			for _, c := range answers {
				total++
				if c == 1 {
					one++
				}
			}
		}
		n.claim(one == total, "%d of %d %s got exactly one answer", one, total, p.name)
		if p.judge == nil {
			continue
		}
		if err := w.agrees(n, p.name, p.judge); err != nil {
			return err
		}
	}
	client := w.LAN.Clients()[0]
	for _, tool := range [][]string{{"ping", "-c", "3", "-i", "0.2", "-W", "2"}, {"arping", "-c", "2", "-w", "3"}} {
		if _, err := exec.LookPath(tool[0]); err != nil {
			n.say("%s is not installed here and was not tried", tool[0])
			continue
		}
		text, err := w.output(ctx, client, append(tool, VIP().String())...)
		bad := err != nil || strings.Contains(text, "DUP!") || !strings.Contains(text, "2 received") && !strings.Contains(text, "3 received") && !strings.Contains(text, "2 response") && !strings.Contains(text, "2 packets received")
		n.claim(!bad, "%s agrees", strings.Join(tool[:3], " "))
		if bad {
			n.say("%s", text)
		}
	}
	return nil
}

// agrees compares what the clients have heard with what was on the wire.
func (w *watched) agrees(n *narrator, name string, judge func(*Judge, netip.Addr) Asked) error {
	return w.sniffer.Ask(func(j *Judge) {
		all, right := w.addresses(), 0
		for _, f := range all {
			if a := judge(j, f.addr); a.Asked > 0 && a.Answered == a.Asked && len(a.Nodes) == 1 {
				right++
			}
		}
		n.claim(right == len(all), "so says the sniffer, and all %s of an address went to one node", name)
	})
}

// output runs a program on a host.
func (w *watched) output(ctx context.Context, h *Host, argv ...string) (string, error) {
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := h.Start(cmd); err != nil {
		return "", err
	}
	err := cmd.Wait()
	return out.String(), err
}

// seenAddresses: the service's own log has the clients' addresses.
func seenAddresses(_ context.Context, n *narrator, w *watched) error {
	n.title("What %s wrote into its log", w.SSH.Kind())
	seen := map[netip.Addr]bool{}
	for _, d := range w.Daemons {
		log, err := os.ReadFile(SSHLog(d.Dir))
		if err != nil {
			return err
		}
		for _, line := range strings.Split(string(log), "\n") {
			if _, rest, ok := strings.Cut(line, "Accepted publickey for "); ok {
				noteAddress(seen, rest)
			}
		}
	}
	own := 0
	for _, f := range w.addresses() {
		if seen[f.addr] {
			own++
		}
	}
	n.claim(own == len(w.addresses()) && len(seen) == own, "logins from the %d clients' own addresses, and from no other", own)
	return nil
}

// noteAddress finds the address in "root from 10.77.0.101 port 4…" or
// "root from 10.77.0.101:4…".
func noteAddress(seen map[netip.Addr]bool, text string) {
	_, text, _ = strings.Cut(text, "from ")
	word, _, _ := strings.Cut(text, " ")
	if at, err := netip.ParseAddrPort(word); err == nil {
		seen[at.Addr()] = true
	} else if a, err := netip.ParseAddr(word); err == nil {
		seen[a] = true
	}
}

// ownHosts: a node itself reaches the VIP, too.
func ownHosts(_ context.Context, n *narrator, w *watched) error {
	n.title("The nodes themselves log in at %s", VIP())
	reached := 0
	for _, h := range w.LAN.Nodes() {
		r, err := w.SSH.Login(h, h.Addrs[0])
		if err == nil && r.Node == h.Name && r.Saw == h.Addrs[0] {
			reached++
		} else {
			n.say("%s: %+v %v", h.Name, r, err)
		}
	}
	n.claim(reached == len(w.LAN.Nodes()), "%d of %d reached their own service, from their own address", reached, len(w.LAN.Nodes()))
	return nil
}
