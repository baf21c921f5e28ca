package lab

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// copyBytes is the size of the file that is copied.
const copyBytes = 100 << 20

// copies: a file goes there and comes back the same.
func copies(ctx context.Context, n *narrator, w *watched) error {
	scp, err := exec.LookPath("scp")
	if w.SSH.sshd == "" || err != nil {
		return copyBuiltIn(n, w)
	}
	n.title("scp copies 100 MB there and back")
	dir := filepath.Join(RunDir, "copy")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	here, there, back := filepath.Join(dir, "here"), filepath.Join(dir, "there"), filepath.Join(dir, "back")
	want, err := writeRandom(here, copyBytes)
	if err != nil {
		return err
	}
	remote := "root@" + VIP().String() + ":" + there
	for _, way := range []struct{ name, src, dst string }{{"up", here, remote}, {"down", remote, back}} {
		n.progress("%s …", way.name)
		began := time.Now()
		text, err := w.output(ctx, w.LAN.Clients()[0], scp, "-q", "-i", w.SSH.ClientKeyFile(),
			"-o", "UserKnownHostsFile="+w.SSH.KnownHostsFile(), "-o", "BatchMode=yes", "-F", "none", way.src, way.dst)
		if err != nil {
			return fmt.Errorf("scp %s: %w: %s", way.name, err, text)
		}
		n.say("%-4s %s", way.name, rate(copyBytes, time.Since(began)))
	}
	got, err := sumOf(back)
	if err != nil {
		return err
	}
	n.claim(got == want, "its SHA-256 is the same: %x…", want[:8])
	return nil
}

func rate(bytes int, took time.Duration) string {
	return fmt.Sprintf("%.0f MB/s", float64(bytes)/1e6/took.Seconds())
}

func writeRandom(path string, bytes int64) ([32]byte, error) {
	f, err := os.Create(path)
	if err != nil {
		return [32]byte{}, err
	}
	h := sha256.New()
	_, err = io.CopyN(io.MultiWriter(f, h), rand.Reader, bytes)
	return [32]byte(h.Sum(nil)), errors.Join(err, f.Close())
}

func sumOf(path string) ([32]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return [32]byte{}, err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return [32]byte(h.Sum(nil)), err
}

// copyBuiltIn does the same without scp.
func copyBuiltIn(n *narrator, w *watched) error {
	n.title("100 MB go there and come back over SSH (no sshd with scp here)")
	data := make([]byte, copyBytes)
	if _, err := rand.Read(data); err != nil {
		return err
	}
	var back bytes.Buffer
	client := w.LAN.Clients()[0]
	n.progress("up and down …")
	up, down, err := w.SSH.Copy(client, client.Addrs[0], filepath.Join(RunDir, "copied"), bytes.NewReader(data), &back)
	if err != nil {
		return err
	}
	n.say("up   %s", rate(copyBytes, up))
	n.say("down %s", rate(copyBytes, down))
	n.claim(sha256.Sum256(back.Bytes()) == sha256.Sum256(data), "its SHA-256 is the same")
	return nil
}
