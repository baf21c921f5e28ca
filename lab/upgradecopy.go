package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// What scp copies while a node is upgraded: so much that it takes two seconds, of which
// an upgrade takes one.
const (
	liveCopyBytes = 16 << 20
	liveCopyKbits = 64_000
)

// liveCopy is a scp that runs while something is done to the node that serves it.
type liveCopy struct {
	dir  string
	cmd  *exec.Cmd
	out  bytes.Buffer
	want [32]byte
	end  chan error
}

// copyThrough begins to copy a file to the VIP from an address, by the machine's scp, and
// waits until a part of it has come. It is nil where the machine has no scp or no sshd.
func (w *watched) copyThrough(ctx context.Context, f from) (c *liveCopy, err error) {
	scp, err := exec.LookPath("scp")
	if w.SSH.sshd == "" || err != nil {
		return nil, nil
	}
	c = &liveCopy{dir: filepath.Join(RunDir, "copy"), end: make(chan error, 1)}
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return nil, err
	}
	if c.want, err = writeRandom(c.path("here"), liveCopyBytes); err != nil {
		return nil, err
	}
	c.cmd = exec.CommandContext(ctx, scp, "-q", "-l", fmt.Sprint(liveCopyKbits), "-i", w.SSH.ClientKeyFile(), "-o", "BindAddress="+f.addr.String(),
		"-o", "UserKnownHostsFile="+w.SSH.KnownHostsFile(), "-o", "BatchMode=yes", "-F", "none", c.path("here"), "root@"+VIP().String()+":"+c.path("there"))
	c.cmd.Stdout, c.cmd.Stderr = &c.out, &c.out
	if err := f.host.Start(c.cmd); err != nil {
		return nil, err
	}
	go c.wait()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for c.copied() == 0 {
		select {
		case err := <-c.end:
			return nil, fmt.Errorf("scp has ended before it began to copy: %w: %s", err, c.out.Bytes())
		case <-tick.C:
		}
	}
	return c, nil
}

// wait is the goroutine `lab.liveCopy.wait`; it ends with scp.
func (c *liveCopy) wait() { c.end <- c.cmd.Wait() }

func (c *liveCopy) path(name string) string { return filepath.Join(c.dir, name) }

// copied is how much has come; of no scp nothing.
func (c *liveCopy) copied() int64 {
	if c == nil {
		return 0
	}
	info, err := os.Stat(c.path("there"))
	if err != nil {
		return 0
	}
	return info.Size()
}

// finish waits for the end of the copy, and compares what has come.
func (c *liveCopy) finish() error {
	err := <-c.end
	if err != nil {
		return errors.Join(fmt.Errorf("scp: %w: %s", err, c.out.Bytes()), os.RemoveAll(c.dir))
	}
	got, err := sumOf(c.path("there"))
	if err == nil && got != c.want {
		err = errors.New("what has come is not what was sent")
	}
	return errors.Join(err, os.RemoveAll(c.dir))
}
