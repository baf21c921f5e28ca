package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"onevoice/admin"
	"onevoice/config"
	"onevoice/control"
)

func newExplainCommand() *cobra.Command {
	var socket, file string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "explain SRC[:PORT] VIP:PORT",
		Short: "Say which node answers a client, and why",
		Long: `Say which node answers a client, and why, and who would if that node died.

SRC is the client's address, with its port where the service's affinity counts
ports; VIP:PORT is what it asks for, with udp:// before it for a UDP service.

The daemon on this host is asked, which knows the cluster's table. With --config
only the file is read. That tells the bucket where the hash is another system's,
and whose it was when the cluster began; our own hash has a key that is made
when a cluster is founded, which no file has.`,
		Example: `  onevoice explain 198.51.100.7 10.77.0.2:22
  onevoice explain 198.51.100.7:40000 udp://10.77.0.2:53 --json`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			var e *admin.Explanation
			var err error
			if cmd.Flags().Changed("config") {
				e, err = explainFile(file, args[0], args[1])
			} else {
				e, err = admin.AskWhy(cmd.Context(), socket, args[0], args[1])
			}
			if err != nil {
				return err
			}
			if asJSON {
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetIndent("", "  ")
				return enc.Encode(e)
			}
			return printWhy(cmd.OutOrStdout(), e)
		},
	}
	socketFlag(cmd, &socket)
	cmd.Flags().StringVarP(&file, "config", "c", configFromEnvironment(), "read a `file` alone")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	return cmd
}

// explainFile is what a file alone tells.
func explainFile(file, client, to string) (*admin.Explanation, error) {
	cfg, err := config.Load(file)
	if err != nil {
		return nil, err
	}
	q, err := ask(cfg, client, to)
	if err != nil {
		return nil, err
	}
	e := &q.answer
	e.From = "file " + file
	var files []control.PrefixList
	for _, path := range cfg.PrefixFiles() {
		list, _, err := config.ReadPrefixes(path, cfg.NeedsPrefixes(path))
		if err != nil {
			return nil, err
		}
		files = append(files, control.PrefixList{File: path, Prefixes: list})
	}
	q.admitted(files)
	if e.Bucket == nil {
		e.Why = "siphash has a key that is made when the cluster is founded and replicated by its nodes, so the file alone does not tell the bucket; ask on a running node, without --config"
		e.NextWhy = "the running cluster knows"
		return e, nil
	}
	e.Why = q.hashed() + "; "
	e.NextWhy = "the running cluster knows"
	for i := range cfg.Services {
		s := &cfg.Services[i]
		if s.Name == q.rows && len(s.Sharing.Homes) > 0 {
			e.Owner = s.Sharing.Homes[*e.Bucket]
		}
	}
	if *e.Bucket < len(q.homes) {
		e.Owner = q.homes[*e.Bucket]
	}
	if e.Owner == "" {
		e.Why += "the file does not say whose it is, for the nodes deal the buckets among themselves; ask on a running node, without --config"
		return e, nil
	}
	e.Why += fmt.Sprintf("%s in the file gives it to %s, which has it when the cluster is new and whenever it can serve; who has it now a running node tells, without --config", q.byFile(), e.Owner)
	return e, nil
}

// printWhy is an explanation for people.
func printWhy(out io.Writer, e *admin.Explanation) error {
	owner := e.Owner
	switch {
	case owner == "" && e.Bucket == nil:
		owner = "unknown"
	case owner == "" && strings.HasPrefix(e.From, "file "):
		owner = "the file does not say"
	case owner == "":
		owner = "nobody"
	case e.Foreign:
		owner += " (another system's node)"
	case e.OwnerAddress != "":
		owner += " (" + e.OwnerAddress + ")"
	}
	if e.Self {
		owner += ", this node"
	}
	service := e.Service
	if service == "" {
		service = "none"
	}
	bucket := "unknown"
	if e.Bucket != nil {
		bucket = fmt.Sprintf("%d of %d", *e.Bucket, e.Buckets)
	}
	if e.Number != nil {
		bucket += fmt.Sprintf(", number %d of %s", *e.Number, e.Hash)
	}
	next := e.Next
	if next == "" {
		next = "nobody"
	}
	access := e.AccessWhy
	if access != "" {
		access = map[bool]string{true: "NO: ", false: "yes: "}[e.Denied] + access
	}
	for _, row := range [][2]string{
		{"CLIENT", e.Client}, {"ASKS FOR", e.To}, {"SERVICE", service}, {"MAY CONNECT", access}, {"HASH", e.Hash + " of " + e.Affinity}, {"BUCKET", bucket},
		{"OWNER", owner}, {"WHY", e.Why}, {"IF IT DIES", next + ": " + e.NextWhy}, {"ASKED", e.From},
	} {
		if row[1] == "" || row[0] == "IF IT DIES" && e.Next == "" && strings.HasPrefix(e.From, "file ") {
			continue
		}
		if _, err := fmt.Fprintln(out, wrapped(fmt.Sprintf("%-13s", row[0]), row[1])); err != nil {
			return err
		}
	}
	return nil
}
