package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"onevoice/admin"
)

// lookEvery is how often a waiting drain looks at what is left.
const lookEvery = 500 * time.Millisecond

func newDrainCommand() *cobra.Command {
	var socket string
	var wait bool
	var deadline time.Duration
	cmd := &cobra.Command{
		Use:   "drain NODE",
		Short: "Give a node's buckets to the others; its running flows stay",
		Long: `Give a node's buckets to the others; its running flows stay.

NODE is a name or an address. It may be asked on any node of the cluster. With
--wait the command returns when the last flow is gone; with --deadline it ends
those that are left by then with a reset.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if deadline < 0 {
				return usageError{fmt.Errorf("--deadline is %v; write a time to come, such as 10m", deadline)}
			}
			ctx, out := cmd.Context(), cmd.ErrOrStderr()
			if err := admin.Tell(ctx, socket, admin.Wish{Do: admin.DoDrain, Node: args[0]}); err != nil {
				return err
			}
			if !wait && deadline == 0 {
				return nil
			}
			return waitDrained(ctx, out, socket, args[0], deadline)
		},
	}
	socketFlag(cmd, &socket)
	cmd.Flags().BoolVar(&wait, "wait", false, "return when the last flow is gone")
	cmd.Flags().DurationVar(&deadline, "deadline", 0, "end the flows that are left after this `time`")
	return cmd
}

func socketFlag(cmd *cobra.Command, socket *string) {
	cmd.Flags().StringVar(socket, "socket", socketFromEnvironment(), "ask at this `path`")
}

// waitDrained waits until a node owns nothing and holds no flow.
func waitDrained(ctx context.Context, out io.Writer, socket, node string, deadline time.Duration) error {
	begun, last, ended := time.Now(), "", false
	for {
		s, err := admin.Ask(ctx, socket, admin.Wanted{})
		if err != nil {
			return err
		}
		owns, drains, draining, err := left(s, node)
		switch {
		case err != nil:
			return err
		case !draining:
			return fmt.Errorf("somebody has taken %s back while it was drained", node)
		case owns+drains == 0:
			fmt.Fprintln(out, wrapped("", fmt.Sprintf("%s is drained, and may be stopped; `onevoice undrain %[1]s` takes it back", node)))
			return nil
		}
		if now := fmt.Sprintf("%s owns %d buckets and may hold flows in %d more, over all services and VIPs", node, owns, drains); now != last {
			last = now
			fmt.Fprintln(out, wrapped("", now))
		}
		if deadline > 0 && !ended && owns == 0 && time.Since(begun) >= deadline {
			ended = true
			fmt.Fprintf(out, "the deadline is over: ending the flows that are left\n")
			if err := admin.Tell(ctx, socket, admin.Wish{Do: admin.DoEndFlows, Node: node}); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lookEvery):
		}
	}
}

// left is what a node still has, over all services, and whether it is to drain.
func left(s *admin.Status, node string) (owns, drains int, draining bool, err error) {
	for i := range s.Nodes {
		n := &s.Nodes[i]
		if n.Name != node && n.Address != node && n.ID != node {
			continue
		}
		for _, k := range n.BucketsOf {
			owns += k
		}
		for _, k := range n.DrainsOf {
			drains += k
		}
		return owns, drains, n.Draining, nil
	}
	return 0, 0, false, fmt.Errorf("there is no node called %q", node)
}

func newUndrainCommand() *cobra.Command {
	var socket string
	cmd := &cobra.Command{
		Use:   "undrain NODE",
		Short: "Let a drained node take its share again",
		Long: `Let a drained node take its share again, bit by bit. NODE is a name or an
address. It may be asked on any node of the cluster.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return admin.Tell(cmd.Context(), socket, admin.Wish{Do: admin.DoUndrain, Node: args[0]})
		},
	}
	socketFlag(cmd, &socket)
	return cmd
}

func newWeightCommand() *cobra.Command {
	var socket string
	cmd := &cobra.Command{
		Use:   "weight NODE N",
		Short: "Change a node's share of the buckets",
		Long: `Change a node's share of the buckets. N, 0 to 1000, is relative to the others'
weights: a node of weight 200 gets twice as much as one of weight 100, which is
the usual one; a node of weight 0 gets nothing new. NODE is a name or an
address. It may be asked on any node of the cluster, and [node] weight counts
only for a node that the cluster does not know yet.`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := strconv.ParseUint(args[1], 10, 32)
			if err != nil {
				return usageError{fmt.Errorf("%q is no weight; write a whole number, such as 100", args[1])}
			}
			return admin.Tell(cmd.Context(), socket, admin.Wish{Do: admin.DoWeight, Node: args[0], Weight: uint32(n)})
		},
	}
	socketFlag(cmd, &socket)
	return cmd
}

// bucketOf reads a bucket of the command line.
func bucketOf(text string) (*uint8, error) {
	n, err := strconv.ParseUint(text, 10, 8)
	if err != nil {
		return nil, usageError{fmt.Errorf("%q is no bucket; write a number from 0 to 255", text)}
	}
	b := uint8(n)
	return &b, nil
}

func newMoveCommand() *cobra.Command {
	var socket, service string
	cmd := &cobra.Command{
		Use:   "move BUCKET NODE",
		Short: "Move a bucket to a node; its running flows stay where they are",
		Long: `Move a bucket to a node; its running flows stay where they are. BUCKET is 0 to
255, NODE a name or an address. The shares stay as the weights want them:
another bucket goes the other way, and this one may go on when shares change;
pin keeps it. "onevoice status --json" has the table. It may be asked on any
node of the cluster.`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			bucket, err := bucketOf(args[0])
			if err != nil {
				return err
			}
			return admin.Tell(cmd.Context(), socket, admin.Wish{Do: admin.DoMove, Service: service, Bucket: bucket, Node: args[1]})
		},
	}
	socketFlag(cmd, &socket)
	cmd.Flags().StringVar(&service, "service", "", "`name` of the service (default the first of the file)")
	return cmd
}

func newPinCommand() *cobra.Command {
	var socket, service string
	var undo bool
	cmd := &cobra.Command{
		Use:   "pin BUCKET NODE",
		Short: "Keep a bucket at a node for as long as that can serve",
		Long: `Keep a bucket at a node for as long as that can serve. BUCKET is 0 to 255, NODE
a name or an address; with --undo and without NODE it may go where it likes
again. It may be asked on any node of the cluster.`,
		Example: `  onevoice pin 17 n2
  onevoice pin --undo 17`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			bucket, err := bucketOf(args[0])
			switch {
			case err != nil:
				return err
			case undo && len(args) == 1:
				return admin.Tell(cmd.Context(), socket, admin.Wish{Do: admin.DoUnpin, Service: service, Bucket: bucket})
			case undo || len(args) == 1:
				return usageError{errors.New("pin takes a bucket and a node, and pin --undo a bucket alone")}
			}
			return admin.Tell(cmd.Context(), socket, admin.Wish{Do: admin.DoPin, Service: service, Bucket: bucket, Node: args[1]})
		},
	}
	socketFlag(cmd, &socket)
	cmd.Flags().StringVar(&service, "service", "", "`name` of the service (default the first of the file)")
	cmd.Flags().BoolVar(&undo, "undo", false, "let the bucket go where it likes again")
	return cmd
}
