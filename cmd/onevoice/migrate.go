package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"onevoice/migrate"
)

func newMigrateCommand() *cobra.Command {
	var out, name, vip string
	var peers, ports []string
	cmd := &cobra.Command{
		Use:   "migrate [[NODE=]FILE ...]",
		Short: "Write a file from CLUSTERIP's, xt_cluster's, nft's or Pacemaker's",
		Long: `Write a configuration file from that of another system that shares an address.

It reads what iptables-save, ip6tables-save or "nft list ruleset" print on a
host, or what "cibadmin --query", "crm configure show" or "pcs resource config"
print of Pacemaker's IPaddr2: from the FILEs, or from standard input. With NODE=
before a FILE its rules are those of the host of that name, so that the rules of
all hosts give all numbers a name. What could not be carried over, or had to be
guessed, is told on standard error with its line.

docs/migrate.md tells how to go on with the file, host by host.`,
		Example: `  iptables-save | onevoice migrate --ports 22 --vip 10.77.0.2/24
  onevoice migrate unix1=rules1 unix2=rules2 --peers 10.77.0.11,10.77.0.12
  pcs resource config | onevoice migrate --out onevoice.toml`,
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := migrateOptions(name, vip, peers, ports)
			if err != nil {
				return err
			}
			text, err := migrated(cmd.InOrStdin(), cmd.ErrOrStderr(), args, o)
			if err != nil {
				return err
			}
			if out == "" {
				_, err = io.WriteString(cmd.OutOrStdout(), text)
				return err
			}
			// A file that is there is somebody's.
			return writeNew(out, text, 0o644)
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "write to this new `file`, not to standard output")
	cmd.Flags().StringVar(&name, "name", "", "`name` of the cluster")
	cmd.Flags().StringVar(&vip, "vip", "", "the shared `address/length`, where no rule says it")
	cmd.Flags().StringSliceVar(&peers, "peers", nil, "the hosts' own `addresses`")
	cmd.Flags().StringSliceVar(&ports, "ports", nil, "the services' `ports`, such as 22,udp:53")
	return cmd
}

func migrateOptions(name, vip string, peers, ports []string) (o migrate.Options, err error) {
	o.Cluster = name
	if vip != "" {
		if o.VIP, err = netip.ParsePrefix(vip); err != nil {
			return o, usageError{fmt.Errorf("--vip is %q; write an address with its network's length, such as 10.77.0.2/24", vip)}
		}
	}
	for _, text := range peers {
		a, err := netip.ParseAddr(strings.TrimSpace(text))
		if err != nil {
			return o, usageError{fmt.Errorf("--peers has %q; write addresses, such as 10.77.0.11,10.77.0.12", text)}
		}
		o.Peers = append(o.Peers, a)
	}
	for _, text := range ports {
		p := migrate.Port{Proto: "tcp"}
		if rest, udp := strings.CutPrefix(text, "udp:"); udp {
			p.Proto, text = "udp", rest
		}
		n, err := strconv.ParseUint(strings.TrimPrefix(text, "tcp:"), 10, 16)
		if err != nil || n == 0 {
			return o, usageError{fmt.Errorf("--ports has %q; write ports, such as 22,443,udp:53", text)}
		}
		p.Number = uint16(n)
		o.Ports = append(o.Ports, p)
	}
	return o, nil
}

// migrated is the file that all inputs make together.
func migrated(in io.Reader, told io.Writer, args []string, o migrate.Options) (string, error) {
	var shares []migrate.Shared
	var left []migrate.Left
	read := func(input migrate.Input) error {
		s, l, err := migrate.Parse(input)
		shares, left = append(shares, s...), append(left, l...)
		return err
	}
	for _, arg := range args {
		input := migrate.Input{Name: arg}
		if node, file, named := strings.Cut(arg, "="); named {
			input.Node, input.Name = node, file
		}
		f, err := os.Open(input.Name)
		if err != nil {
			return "", err
		}
		input.Data, err = readInput(f)
		if err = errors.Join(err, f.Close()); err != nil {
			return "", err
		}
		if err := read(input); err != nil {
			return "", err
		}
	}
	if len(args) == 0 {
		data, err := readInput(in)
		if err != nil {
			return "", err
		}
		if err := read(migrate.Input{Name: "standard input", Data: data}); err != nil {
			return "", err
		}
	}
	text, more, err := migrate.Write(shares, o)
	left = append(left, more...)
	slices.SortStableFunc(left, func(a, b migrate.Left) int {
		return cmp.Or(strings.Compare(a.Line.File, b.Line.File), cmp.Compare(uint(a.Line.Number-1), uint(b.Line.Number-1)))
	})
	for _, l := range left {
		fmt.Fprintln(told, l)
	}
	return text, err
}

// readInput reads up to a byte more than what is taken, so that too much is told.
func readInput(r io.Reader) ([]byte, error) {
	return io.ReadAll(io.LimitReader(r, migrate.MaxInputBytes+1))
}
