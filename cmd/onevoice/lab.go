package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"onevoice/lab"
)

// exitCode is the exit code of a command that was run for the caller; it has
// been told already what went wrong.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

func newLabCommand() *cobra.Command {
	spec := lab.Spec{}
	var kind, pcap string
	cmd := &cobra.Command{
		Use:   "lab",
		Short: "Run a real cluster in namespaces on this machine",
		Long: `Run a real cluster in network namespaces on this machine.

Without a subcommand it is a demonstration: it builds a LAN, starts the daemon
and an SSH service on each node, logs in from many client addresses, checks
what it claims, takes everything down, and exits 0 only if every claim held.

The hosts are ov-n1…, ov-client1… and ov-lan, the LAN itself; the shared
address is 10.77.0.2. Root is not needed where user namespaces are allowed.`,
		Args: cobra.NoArgs,
		RunE: func(_ *cobra.Command, _ []string) error {
			return enter("demo", spec, kind, "--pcap="+pcap)
		},
	}
	labFlags(cmd, &spec, &kind)
	cmd.Flags().StringVar(&pcap, "pcap", "", "write the headers of all frames on the LAN to this `file`")
	cmd.AddCommand(newLabUpCommand(), newLabExecCommand(), newLabStatusCommand(), newLabDownCommand(), newLabSoakCommand(), newLabRollingCommand(), newLabUpgradeCommand(), newLabMovesCommand(),
		newLabKillCommand(), newLabEachCommand("stop", "Stop a node's daemon as `systemctl stop` would"),
		newLabEachCommand("start", "Start a node's daemon again"),
		newLabDeafenCommand(), newLabMuteCommand(), newLabStallCommand(), newLabSplitCommand(), newLabHealCommand(),
		newLabInitCommand(), newLabInsideCommand(), newLabSSHCommand(),
		newLabTortureCommand(), newLabLoadCommand(), newLabBystanderCommand(), newLabBeatCommand(), newLabNamesCommand(),
		newBenchInsideCommand(), newBenchDNSCommand())
	return cmd
}

func labFlags(cmd *cobra.Command, spec *lab.Spec, kind *string) {
	cmd.Flags().IntVar(&spec.Nodes, "nodes", 4, fmt.Sprintf("how many nodes, 1 to %d", lab.MaxNodes))
	cmd.Flags().IntVar(&spec.Clients, "clients", 4, fmt.Sprintf("how many client hosts, 1 to %d", lab.MaxClients))
	cmd.Flags().IntVar(&spec.Addresses, "addresses", 16, fmt.Sprintf("addresses per client, at most %d in all", lab.MaxClientAddresses))
	cmd.Flags().StringVar(kind, "lan", "switch", "what connects them: switch or hub")
	cmd.Flags().StringVar(&spec.Timing, "timing", "lan", "lease time: fast, lan or calm")
	cmd.Flags().StringVar(&spec.MACMode, "mac-mode", "multicast", "`mode`: multicast, igmp or unicast")
	cmd.Flags().StringVar(&spec.Path, "path", "netstack", "`path`: netstack or direct")
	cmd.Flags().BoolVar(&spec.Names, "names", false, "a name service too; \"who\" and \"4096\" have a TXT")
	cmd.Flags().BoolVar(&spec.IPv6, "ipv6", false, "a VIP of IPv6 too, "+lab.VIP6().String())
}

// insideArgs are the arguments of `lab inside`.
func insideArgs(what string, spec lab.Spec, kind string, more ...string) []string {
	args := []string{"inside", what, "--lan=" + kind, fmt.Sprintf("--nodes=%d", spec.Nodes),
		fmt.Sprintf("--clients=%d", spec.Clients), fmt.Sprintf("--addresses=%d", spec.Addresses), "--timing=" + spec.Timing, "--mac-mode=" + spec.MACMode, "--path=" + spec.Path, fmt.Sprintf("--ipv6=%t", spec.IPv6), fmt.Sprintf("--names=%t", spec.Names)}
	return append(args, more...)
}

// enter runs `lab inside WHAT` in namespaces of its own, with our terminal, and
// ends as it does.
func enter(what string, spec lab.Spec, kind string, more ...string) error {
	spec.LAN = lab.Kind(kind)
	if err := spec.Check(); err != nil {
		return usageError{err}
	}
	// The lab is to end with us, and the kernel means the thread.
	runtime.LockOSThread()
	cmd := lab.Enter(insideArgs(what, spec, kind, more...), true)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), fmt.Sprintf("ONEVOICE_COLOUR=%t", colour()))
	// The lab takes itself down on a signal, and tells how.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := cmd.Start(); err != nil {
		return lab.ExplainEnter(err)
	}
	defer context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })()
	return exited(cmd.Wait())
}

func exited(err error) error {
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		return exitCode(max(failed.ExitCode(), 1))
	}
	return err
}

// colour reports whether standard output is a terminal that wants colour
// (no-color.org).
func colour() bool {
	return os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && term.IsTerminal(int(os.Stdout.Fd()))
}

func newLabUpCommand() *cobra.Command {
	spec := lab.Spec{}
	var kind string
	var with int
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Build a cluster and keep it running",
		Long: `Build a cluster and keep it running in the background, until "onevoice lab
down" or the end of its main process. Each user may have one.

The programs of the lab see a /run and a /proc of their own, so "ip netns" works
inside. Nodes have their files in /run/onevoice/n1 and so on.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			spec.LAN = lab.Kind(kind)
			if err := spec.Check(); err != nil {
				return usageError{err}
			}
			return labUp(cmd.Context(), cmd.OutOrStdout(), spec, kind, with)
		},
	}
	labFlags(cmd, &spec, &kind)
	cmd.Flags().BoolVar(&spec.Witness, "witness", false, "a witness as well, on another LAN behind ov-router")
	cmd.Flags().IntVar(&with, "with", 0, "take it down when the process with this `pid` has ended")
	return cmd
}

// labUp starts the lab in the background, tells its progress, and returns when
// it is ready. With a process, it ends with that.
func labUp(ctx context.Context, out io.Writer, spec lab.Spec, kind string, with int) error {
	var more []*os.File
	if with != 0 {
		fd, err := unix.PidfdOpen(with, 0)
		if err != nil {
			return usageError{fmt.Errorf("--with is %d, which is no process: %w", with, err)}
		}
		more = append(more, os.NewFile(uintptr(fd), "process"))
		defer more[0].Close()
	}
	place, err := lab.OpenStateDir()
	if err != nil {
		return err
	}
	defer place.Close()
	if err := startLab(ctx, out, place, insideArgs("up", spec, kind, fmt.Sprintf("--witness=%t", spec.Witness), fmt.Sprintf("--with=%t", with != 0)), more...); err != nil {
		return errors.Join(err, place.Remove())
	}
	return nil
}

func startLab(ctx context.Context, out io.Writer, place *lab.Place, args []string, more ...*os.File) error {
	socket, err := place.Listener.File()
	if err != nil {
		return err
	}
	defer socket.Close()
	log, err := os.Create(lab.LogPath())
	if err != nil {
		return err
	}
	defer log.Close()
	progress, child, err := os.Pipe()
	if err != nil {
		return err
	}
	defer progress.Close()
	cmd := lab.Enter(args, false, append([]*os.File{socket, child}, more...)...)
	cmd.Stdout, cmd.Stderr = log, log
	err = cmd.Start()
	child.Close()
	if err != nil {
		return lab.ExplainEnter(err)
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	defer context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })()
	told, err := io.ReadAll(io.TeeReader(progress, out))
	if ctx.Err() != nil {
		return errors.New("interrupted; the lab is gone")
	}
	if err != nil || !strings.HasSuffix(string(told), readyLine) {
		text, _ := os.ReadFile(lab.LogPath())
		return fmt.Errorf("the lab did not come up: %s", strings.TrimPrefix(strings.TrimSpace(string(text)), "onevoice: "))
	}
	return nil
}

// readyLine ends the progress of a lab that is up.
const readyLine = "up; try: onevoice lab exec ov-client1 -- ping -c 3 10.77.0.2\n"

func newLabExecCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "exec NAME -- COMMAND [ARG…]",
		Short: "Run a command on a host of the lab",
		Long: `Run a command on a host of the lab, with this terminal's input and output, in
this directory. It ends with the command's exit code; signals are passed on.
The program onevoice is on the PATH, and on a node it asks that node.`,
		Example: `  onevoice lab exec ov-client1 -- arping -c 2 10.77.0.2
  onevoice lab exec ov-lan -- tcpdump -ni br0
  onevoice lab exec ov-n1 -- onevoice status
  onevoice lab exec ov-n1 -- cat /run/onevoice/n1/onevoice.log`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			signals := make(chan os.Signal, 8)
			signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGWINCH)
			code, err := lab.Exec(args[0], args[1:], [...]*os.File{os.Stdin, os.Stdout, os.Stderr}, signals)
			if err != nil {
				return err
			}
			if code != 0 {
				return exitCode(code)
			}
			return nil
		},
	}
}

// tellWaiting tells, when something takes long, why, until the function that it
// returns is called.
func tellWaiting(out io.Writer) func() bool {
	const long = time.Second
	return time.AfterFunc(long, func() { fmt.Fprintln(out, "waiting for running connections, 10 s at most") }).Stop
}

func newLabStatusCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the lab's hosts and daemons",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			resp, err := lab.Call(lab.Request{Verb: "status"})
			if err != nil {
				return err
			}
			if asJSON {
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetIndent("", "  ")
				return enc.Encode(resp.Status)
			}
			return printLab(cmd.OutOrStdout(), resp.Status)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	return cmd
}

func printLab(out io.Writer, s *lab.Status) error {
	fmt.Fprintf(out, "A %s with the shared address %s, served by %s.\n\n", s.LAN, s.VIP, s.SSH)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "HOST\tADDRESSES\tMAC\tDAEMON")
	for _, h := range s.Hosts {
		addresses, daemon := h.Addresses[0], ""
		if n := len(h.Addresses); n > 1 {
			addresses += " to " + h.Addresses[n-1]
		}
		if h.Daemon != nil {
			daemon = h.Daemon.String()
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", h.Name, addresses, h.MAC, daemon)
	}
	return w.Flush()
}

func newLabDownCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "down",
		Short: "Take the lab down and leave nothing",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			defer tellWaiting(cmd.ErrOrStderr())()
			if _, err := lab.Call(lab.Request{Verb: "down"}); err != nil {
				return errors.Join(err, lab.RemoveStateDir())
			}
			if err := lab.WaitDown(); err != nil {
				return err
			}
			return lab.RemoveStateDir()
		},
	}
}

func newLabRollingCommand() *cobra.Command {
	spec := lab.Spec{}
	var kind string
	cmd := &cobra.Command{
		Use:   "rolling",
		Short: "Restart the nodes in turn, and see that nobody notices",
		Long: `Restart every node, one after the other, under a session on each, a new client
each 100 ms and a login each second. It exits 0 only if all were served and no
session was broken.`,
		Args: cobra.NoArgs,
		RunE: func(_ *cobra.Command, _ []string) error { return enter("rolling", spec, kind) },
	}
	labFlags(cmd, &spec, &kind)
	return cmd
}

// newLabInitCommand is the first process of the lab's namespace.
func newLabInitCommand() *cobra.Command {
	var files int
	cmd := &cobra.Command{
		Use:    lab.InitCommand,
		Hidden: true,
		RunE: func(_ *cobra.Command, args []string) error {
			code, err := lab.Init(files, args)
			if err == nil && code != 0 {
				return exitCode(code)
			}
			return err
		},
	}
	cmd.Flags().IntVar(&files, "files", 0, "")
	return cmd
}

// newLabInsideCommand does the work inside the namespaces.
func newLabInsideCommand() *cobra.Command {
	spec := lab.Spec{}
	var kind, pcap string
	var duration time.Duration
	var flows, times, rate int
	var asJSON, with bool
	var evidence string
	var torture tortureFlags
	cmd := &cobra.Command{
		Use:       "inside",
		Hidden:    true,
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs: []string{"demo", "up", "soak", "rolling", "upgrade", "moves", "torture", "load"},
		RunE: func(cmd *cobra.Command, args []string) error {
			spec.LAN = lab.Kind(kind)
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			paint := os.Getenv("ONEVOICE_COLOUR") == "true"
			switch args[0] {
			case "load":
				f := loadFlags{duration, flows, torture.report, asJSON}
				return f.run(ctx, cmd.OutOrStdout(), spec, paint)
			case "torture":
				return torture.run(ctx, cmd.OutOrStdout(), spec, pcap, paint)
			case "rolling":
				return lab.RunRolling(ctx, cmd.OutOrStdout(), spec, paint)
			case "upgrade":
				return lab.RunUpgrades(ctx, cmd.OutOrStdout(), lab.UpgradeOptions{Spec: spec, Times: times, Flows: flows, Colour: paint})
			case "moves":
				return lab.RunMoves(ctx, cmd.OutOrStdout(), lab.MoveOptions{Spec: spec, Times: times, Flows: flows, Colour: paint})
			case "demo":
				return lab.RunDemo(ctx, cmd.OutOrStdout(), lab.DemoOptions{Spec: spec, Colour: paint, Pcap: pcap})
			case "soak":
				f := soakFlags{duration: duration, rate: rate, evidence: evidence, json: asJSON}
				return lab.RunSoak(ctx, cmd.OutOrStdout(), f.options(spec, &torture, paint))
			}
			if with {
				var ends func()
				ctx, ends = context.WithCancel(ctx)
				go untilEnds(lab.PassedFile(2), ends)
			}
			return labInside(ctx, spec)
		},
	}
	labFlags(cmd, &spec, &kind)
	cmd.Flags().StringVar(&pcap, "pcap", "", "")
	cmd.Flags().DurationVar(&duration, "for", 0, "")
	cmd.Flags().IntVar(&flows, "flows", 0, "")
	cmd.Flags().IntVar(&times, "times", 0, "")
	cmd.Flags().IntVar(&rate, "rate", 0, "")
	cmd.Flags().StringVar(&evidence, "evidence", "", "")
	cmd.Flags().BoolVar(&asJSON, "json", false, "")
	cmd.Flags().BoolVar(&spec.Witness, "witness", false, "")
	cmd.Flags().BoolVar(&with, "with", false, "")
	torture.add(cmd)
	return cmd
}

// untilEnds is the goroutine `main.untilEnds`: it waits for the end of a process by its
// descriptor, and then takes the lab down; it ends with either.
func untilEnds(process *os.File, down func()) {
	defer down()
	for {
		// pidfd_open(2): it is readable when the process has ended.
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(process.Fd()), Events: unix.POLLIN}}, -1)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// labInside builds the lab and serves requests until it is taken down. The
// listening socket and the pipe for progress were passed on.
func labInside(ctx context.Context, spec lab.Spec) error {
	socket, progress := lab.PassedFile(0), lab.PassedFile(1)
	l, err := lab.New(spec, progress)
	if err != nil {
		return err
	}
	listener, err := net.FileListener(socket)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	_, err = progress.WriteString(readyLine)
	progress.Close()
	socket.Close()
	if err == nil {
		err = l.Serve(ctx, listener.(*net.UnixListener))
	}
	return errors.Join(err, l.Close())
}

func newLabSSHCommand() *cobra.Command {
	return &cobra.Command{
		Use:    lab.SSHCommand + " HOSTKEY AUTHORIZED NODE ADDRESS",
		Hidden: true,
		Args:   cobra.ExactArgs(4),
		RunE:   func(_ *cobra.Command, args []string) error { return lab.ServeSSH(args[0], args[1], args[2], args[3]) },
	}
}
