package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"onevoice/config"
)

func newKeygenCommand() *cobra.Command {
	var file string
	var token bool
	cmd := &cobra.Command{
		Use:   "keygen",
		Short: "Make a cluster key",
		Long: `Make a cluster key: the secret that the nodes share.

Make it once, on one node, and copy the file to the others; whoever has it can
join the cluster. Only its owner may read it: that is you; or, where root makes
it, whoever owns the directory, as the daemon's user does /etc/onevoice.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			key := make([]byte, config.KeyBytes)
			// crypto/rand does not fail: it ends the program instead.
			_, _ = rand.Read(key)
			text := config.FormatKey(key)
			if token {
				text = hex.EncodeToString(key) + "\n"
			}
			if file == "" {
				_, err := fmt.Fprint(cmd.OutOrStdout(), text)
				return err
			}
			return writeKey(file, text)
		},
	}
	cmd.Flags().BoolVar(&token, "token", false, "make a token for [admin] token_file instead")
	cmd.Flags().StringVarP(&file, "out", "o", "", "write it to this new `file`, which only its owner may read")
	return cmd
}

// writeKey makes a new file; a key that is there is never overwritten.
func writeKey(file, text string) error {
	err := writeNew(file, text, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already, and a key in use must not be lost; name another file, or move it away", file)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no directory %s; make it first: mkdir -p %[1]s", filepath.Dir(file))
	}
	return err
}

// writeNew makes a new file, or none where it cannot be written to its end.
func writeNew(file, text string, mode fs.FileMode) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, giveToOwner(f, filepath.Dir(file)), f.Close()); err != nil {
		return errors.Join(err, os.Remove(file))
	}
	return nil
}

// giveToOwner gives what root has made to the owner of the directory, which is the
// daemon's user where a package has made that.
func giveToOwner(f *os.File, dir string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || owner.Uid == 0 {
		return nil
	}
	return f.Chown(int(owner.Uid), int(owner.Gid))
}
