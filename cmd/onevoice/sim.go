package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"onevoice/internal/pcap"
	"onevoice/sim/library"
	"onevoice/sim/report"
)

// simFlags are those of `onevoice sim` that are not statements of its language.
type simFlags struct {
	scenario, replay, vip, pcap, html string
	list, json                        bool
	// said are the statements of the command line, in their order.
	said []string
	// capture is what is replayed.
	capture *library.Capture
}

func newSimCommand() *cobra.Command {
	var f simFlags
	cmd := &cobra.Command{
		Use:   "sim",
		Short: "Simulate a cluster on a LAN: what will happen in my network",
		Long: `Simulate a cluster on a LAN in virtual time, with the daemon's own cores and
gates, and tell what clients would notice, and what to do about it. Nothing
leaves this machine, and no rights are needed.

Without --scenario it runs what the flags say; with it, what a scenario of the
library (--list) or a file says, and flags change that. Steps may be given more
than once: n1… are the nodes, TIME is from the start, and what is behind a + is
how long. Clients begin after 3 s and end 4 s before the end.

It exits 0 when the verdict is as expected, or healthy where nothing was
expected, 1 when it is not, and 2 when the question makes no sense.`,
		Example: `  onevoice sim --kill n2@5s
  onevoice sim --list
  onevoice sim --scenario router-refuses-group-mac --html out.html
  onevoice sim --nodes 6 --lan hub --cut n1-n3@8s+2s --deafen n4@10s
  onevoice sim --replay capture.pcap --nodes 5`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&f.scenario, "scenario", "", "run this `NAME` of the library, or file")
	flags.BoolVar(&f.list, "list", false, "list the library")
	flags.StringVar(&f.replay, "replay", "", "replay the clients' frames of this capture, a `FILE`")
	flags.StringVar(&f.vip, "vip", "", "the `ADDRESS` in the capture that is the VIP's")
	flags.StringVar(&f.pcap, "pcap", "", "write all frames on the nodes' LAN to this `FILE`")
	flags.StringVar(&f.html, "html", "", "write the report as a page to this `FILE`")
	flags.BoolVar(&f.json, "json", false, "print the report as JSON")
	for _, k := range library.Flags() {
		flags.Var(&statement{&f.said, k.Name}, k.Name, narrow(k.Help))
		complete(cmd, k.Name, k.Values, cobra.ShellCompDirectiveNoFileComp)
	}
	complete(cmd, "scenario", library.Names(), cobra.ShellCompDirectiveDefault)
	return cmd
}

// complete lets a shell complete the values of a flag.
func complete(cmd *cobra.Command, flag string, values []string, directive cobra.ShellCompDirective) {
	err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, directive))
	if err != nil {
		panic(err) // a mistake of ours: there is no such flag
	}
}

// helpColumns is how wide the help of a flag may be, beside the flags' names.
const helpColumns = 56

// narrow breaks a flag's help into lines.
func narrow(help string) string {
	var out strings.Builder
	at := 0
	for i, w := range strings.Fields(help) {
		switch {
		case i > 0 && at+1+len(w) > helpColumns:
			out.WriteByte('\n')
			at = 0
		case i > 0:
			out.WriteByte(' ')
			at++
		}
		out.WriteString(w)
		at += len(w)
	}
	return out.String()
}

// statement is a flag that adds a statement of the simulator's language.
type statement struct {
	said *[]string
	name string
}

// Set implements pflag.Value.
func (s *statement) Set(v string) error {
	*s.said = append(*s.said, s.name+" "+v)
	return nil
}

// String implements pflag.Value.
func (s *statement) String() string { return "" }

// Type implements pflag.Value.
func (s *statement) Type() string { return "" }

func (f *simFlags) run(cmd *cobra.Command) error {
	out := cmd.OutOrStdout()
	if f.list {
		return f.printList(out)
	}
	spec, err := f.spec()
	if err != nil {
		return usageError{err}
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	r, err := f.simulate(ctx, spec, cmd.ErrOrStderr())
	if errors.Is(err, context.Canceled) {
		return errors.New("interrupted")
	} else if err != nil {
		return err
	}
	return f.tell(out, r)
}

// tell prints the report, writes the page, and ends with the verdict's code.
func (f *simFlags) tell(out io.Writer, r *report.Report) error {
	if f.html != "" {
		if err := writeFile(f.html, r.HTML); err != nil {
			return err
		}
	}
	var err error
	if f.json {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		err = enc.Encode(r)
	} else {
		err = r.Text(out, colour())
	}
	if err == nil && !r.AsExpected {
		return exitCode(exitFailed)
	}
	return err
}

// spec is what is asked for.
func (f *simFlags) spec() (*library.Spec, error) {
	spec := library.New()
	if f.scenario != "" {
		var err error
		if spec, err = loadScenario(f.scenario); err != nil {
			return nil, err
		}
	}
	if err := f.readCapture(); err != nil {
		return nil, err
	}
	if f.capture != nil {
		spec.ForReplay(f.capture)
	}
	return spec, spec.Flags(f.said)
}

// readCapture reads what is to be replayed.
func (f *simFlags) readCapture() error {
	if f.replay == "" {
		if f.vip != "" {
			return errors.New("--vip names an address in a capture; give one with --replay")
		}
		return nil
	}
	var vip netip.Addr
	if f.vip != "" {
		var err error
		if vip, err = netip.ParseAddr(f.vip); err != nil || !vip.Is4() {
			return fmt.Errorf("--vip is %q; write an IPv4 address", f.vip)
		}
	}
	file, err := os.Open(f.replay)
	if err != nil {
		return err
	}
	defer file.Close()
	if f.capture, err = library.ReadCapture(file, vip); err != nil {
		return fmt.Errorf("%s: %w", f.replay, err)
	}
	return nil
}

// loadScenario takes a name with a dot or a slash for a file.
func loadScenario(name string) (*library.Spec, error) {
	if !strings.ContainsAny(name, "./") {
		return library.Load(name)
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	return library.Parse(name, string(text))
}

// simulate runs it, with progress on a terminal when it takes long.
func (f *simFlags) simulate(ctx context.Context, spec *library.Spec, progress io.Writer) (*report.Report, error) {
	o := library.Options{Progress: simProgress(progress), Replay: f.capture}
	if f.pcap == "" {
		return library.Run(ctx, spec, o)
	}
	var r *report.Report
	err := writeFile(f.pcap, func(w io.Writer) error {
		capture := pcap.NewWriter(w)
		o.Frames = capture.Frame
		var err error
		if r, err = library.Run(ctx, spec, o); err != nil {
			return err
		}
		return capture.Flush()
	})
	return r, err
}

// writeFile makes a file, and takes it away again if it cannot be written whole.
func writeFile(name string, write func(io.Writer) error) error {
	file, err := os.CreateTemp(filepath.Dir(name), ".onevoice-*")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	w := bufio.NewWriter(file)
	err = errors.Join(write(w), w.Flush(), file.Chmod(0o644), file.Close())
	if err != nil {
		return err
	}
	return os.Rename(file.Name(), name)
}

// simProgress tells how far a long run is, on one line of a terminal.
func simProgress(out io.Writer) func(now, end time.Duration) {
	if out != os.Stderr || !term.IsTerminal(int(os.Stderr.Fd())) {
		return nil
	}
	began, told := time.Now(), time.Time{}
	return func(now, end time.Duration) {
		const long, often = 2 * time.Second, 200 * time.Millisecond
		if time.Since(began) < long || time.Since(told) < often && now < end {
			return
		}
		told = time.Now()
		if now >= end {
			fmt.Fprint(out, "\r\x1b[K")
			return
		}
		fmt.Fprintf(out, "\r%3.0f %% of %v simulated\x1b[K", 100*now.Seconds()/end.Seconds(), end)
	}
}

// printList lists the library.
func (f *simFlags) printList(out io.Writer) error {
	type entry struct {
		Name   string   `json:"name"`
		Title  string   `json:"title"`
		Expect []string `json:"expect"`
		Links  []string `json:"links"`
	}
	var all []entry
	for _, name := range library.Names() {
		s, err := library.Load(name)
		if err != nil {
			return err
		}
		all = append(all, entry{name, s.Title, append([]string{}, s.Expect...), s.Links})
	}
	if f.json {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		return enc.Encode(all)
	}
	for _, e := range all {
		expect := "healthy"
		if len(e.Expect) > 0 {
			expect = strings.Join(e.Expect, ", ")
		}
		fmt.Fprintf(out, "%s\n    %s\n    verdict: %s\n", e.Name, e.Title, expect)
	}
	return nil
}
