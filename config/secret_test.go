package config

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Whoever could read a secret, or put another in its place, makes it none: each way to
// it is refused with a word that says the mend, and none is waited for.
func TestSecretsOfOthers(t *testing.T) {
	good := FormatKey(make([]byte, KeyBytes))
	rootOnly := func(t *testing.T) {
		if os.Geteuid() != 0 {
			t.Skip("needs root to give files away")
		}
	}
	must := func(t *testing.T, err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		spoil func(t *testing.T, dir, file string) string
		want  string
	}{
		"nothing": {func(_ *testing.T, _, file string) string { return file }, ""},
		"a link to it": {func(t *testing.T, dir, file string) string {
			must(t, os.Symlink(file, filepath.Join(dir, "link")))
			return filepath.Join(dir, "link")
		}, ""},
		"a link to a folder of everybody's": {func(t *testing.T, dir, file string) string {
			open := filepath.Join(dir, "open")
			must(t, os.Mkdir(open, 0o700))
			must(t, os.Rename(file, filepath.Join(open, "key")))
			must(t, os.Chmod(open, 0o777))
			must(t, os.Symlink(filepath.Join(open, "key"), file))
			return file
		}, "chmod go-w"},
		"the folder is everybody's": {func(t *testing.T, dir, file string) string { must(t, os.Chmod(dir, 0o777)); return file }, "chmod go-w"},
		"the folder is a group's":   {func(t *testing.T, dir, file string) string { must(t, os.Chmod(dir, 0o770)); return file }, "chmod go-w"},
		"a sticky folder":           {func(t *testing.T, dir, file string) string { must(t, os.Chmod(dir, 0o777|os.ModeSticky)); return file }, ""},
		"another's in a sticky folder": {func(t *testing.T, dir, file string) string {
			rootOnly(t)
			must(t, os.Chmod(dir, 0o777|os.ModeSticky))
			must(t, os.Chown(file, 12345, 12345))
			return file
		}, "belongs to user 12345"},
		"another's in a folder of his": {func(t *testing.T, dir, file string) string {
			rootOnly(t)
			must(t, os.Chown(dir, 12345, 12345))
			must(t, os.Chown(file, 12345, 12345))
			return file
		}, ""},
		"a pipe": {func(t *testing.T, dir, _ string) string {
			must(t, syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600))
			return filepath.Join(dir, "pipe")
		}, "no regular file"},
		"a folder": {func(_ *testing.T, dir, _ string) string { return dir }, "no regular file"},
		"a device": {func(*testing.T, string, string) string { return "/dev/zero" }, "no regular file"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, "key")
			must(t, os.Chmod(dir, 0o700))
			must(t, os.WriteFile(file, []byte(good), 0o600))
			path := c.spoil(t, dir, file)
			_, err := ReadKey(path)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}
