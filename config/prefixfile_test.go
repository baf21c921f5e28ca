package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestPrefixFile(t *testing.T) {
	for text, want := range map[string]string{
		"":                             "[]",
		"# nobody yet\n\n":             "[]",
		"192.0.2.1\n2001:db8::/32\n":   "[192.0.2.1/32 2001:db8::/32]",
		"192.0.2.0/24 ; SBL1\r\n":      "[192.0.2.0/24]",
		" 192.0.2.0/24\t# a comment\n": "[192.0.2.0/24]",
		"192.0.2.1\n192.0.2.1/32\n":    "[192.0.2.1/32 192.0.2.1/32]",
		"192.0.2.0/2":                  "f:1: the last line does not end, so a part of it may be missing; write a newline behind it",
		"10.0.0.1\n192.0.2.0/23#":      "f:2: the last line does not end, so a part of it may be missing; write a newline behind it",
		"# a\nhost.example\n":          `f:2: "host.example" is not a prefix; write one like "198.51.100.0/24" or "2001:db8::/32"`,
		"10.1.2.3/8\n":                 `f:1: 10.1.2.3/8 is an address in a network; write the network, "10.0.0.0/8", or the address alone`,
		"10.0.0.1 10.0.0.2\n":          `f:1: "10.0.0.1 10.0.0.2" is not a prefix; write one like "198.51.100.0/24" or "2001:db8::/32"`,
		"a\n10.0.0.1\nb\nc\n":          `f:1: "a" is not a prefix; write one like "198.51.100.0/24" or "2001:db8::/32" (and 2 more bad lines)`,
		"::ffff:10.0.0.1\n":            `f:1: "::ffff:10.0.0.1" is not a prefix; write one like "198.51.100.0/24" or "2001:db8::/32"`,
		"fe80::1%eth0\n":               `f:1: "fe80::1%eth0" is not a prefix; write one like "198.51.100.0/24" or "2001:db8::/32"`,
	} {
		list, err := ParsePrefixes("f", text)
		got := fmt.Sprint(list)
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q\nmeans %s\nwant  %s", text, got, want)
		}
	}
	if list, err := ParsePrefixes("f", strings.Repeat("192.0.2.1\n", MaxListedPrefixes)); err != nil || len(list) != MaxListedPrefixes {
		t.Errorf("as many as possible: %d, %v", len(list), err)
	}
	if _, err := ParsePrefixes("f", strings.Repeat("192.0.2.1\n", MaxListedPrefixes+1)); err == nil || err.Error() != "f:262145: there are more than 262144 prefixes; write shorter ones in place of many long ones" {
		t.Errorf("one more: %v", err)
	}
}

func TestReadPrefixes(t *testing.T) {
	dir := t.TempDir()
	at := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	long := at("long", "")
	if err := os.Truncate(long, MaxPrefixFileBytes+1); err != nil {
		t.Fatal(err)
	}
	pipe := filepath.Join(dir, "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	empty := at("empty", "# nobody\n")
	for path, want := range map[string]string{
		filepath.Join(dir, "none"): ": there is no such file; make it, and leave it empty where there is nobody to write down",
		long:                       ": it has 16777217 bytes, and at most 16777216 are read; write shorter prefixes in place of many long ones",
		pipe:                       ": it is no regular file; write the prefixes into one",
		dir:                        ": it is no regular file; write the prefixes into one",
		at("bad", "\nx\n"):         `:2: "x" is not a prefix; write one like "198.51.100.0/24" or "2001:db8::/32"`,
	} {
		if _, _, err := ReadPrefixes(path, false); err == nil || err.Error() != path+want {
			t.Errorf("%s\nsays %v\nwant %s%s", path, err, path, want)
		}
	}
	list, info, err := ReadPrefixes(at("good", "192.0.2.1\n"), true)
	if err != nil || len(list) != 1 || info.Size() != 10 || info.Mode()&fs.ModeType != 0 {
		t.Errorf("a good one: %v, %v, %v", list, info, err)
	}
	if _, _, err := ReadPrefixes(empty, false); err != nil {
		t.Errorf("one that denies nobody: %v", err)
	}
	if _, _, err := ReadPrefixes(empty, true); err == nil || !strings.Contains(err.Error(), "as allow_file it would let nobody in") {
		t.Errorf("one that would let nobody in: %v", err)
	}
}

// What is written to while it is read may be half of two, and is not used.
func TestPrefixFileThatChanges(t *testing.T) {
	// The kernel writes it anew for whoever reads it, and says that nothing is in it.
	const path = "/proc/self/status"
	if _, _, err := ReadPrefixes(path, false); !errors.Is(err, ErrChanging) || !strings.HasPrefix(err.Error(), path+": ") {
		t.Errorf("%s: %v", path, err)
	}
	file := filepath.Join(t.TempDir(), "deny")
	at := func(modified int64) os.FileInfo {
		if err := errors.Join(os.WriteFile(file, []byte("192.0.2.1\n"), 0o600), os.Chtimes(file, time.Time{}, time.Unix(modified, 0))); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	first, again, later := at(7), at(7), at(8)
	if changed(first, again, 10) || !changed(first, again, 9) || !changed(first, again, 11) || !changed(first, later, 10) {
		t.Error("a file that has changed is taken, or one that has not is left")
	}
}

func TestPrefixFilesOfAConfiguration(t *testing.T) {
	c := parsed(t, `name = "ssh"`, "name = \"ssh\"\ndeny_file = \"/l/deny\"\nallow_file = \"/l/allow\"")
	c.Access.DenyFile = "/l/all"
	c.Services = append(c.Services, Service{Access: Access{DenyFile: "/l/deny"}})
	if got := c.PrefixFiles(); !slices.Equal(got, []string{"/l/all", "/l/allow", "/l/deny"}) {
		t.Errorf("they are %v", got)
	}
	if c.NeedsPrefixes("/l/deny") || !c.NeedsPrefixes("/l/allow") {
		t.Error("the wrong one may not be empty")
	}
	var more strings.Builder
	for i := range MaxPrefixFiles + 1 {
		fmt.Fprintf(&more, "[[service]]\nname = \"s%d\"\nlisten = \"10.77.0.2:%d\"\nbackend = \"127.0.0.1:80\"\ndeny_file = \"/l/%d\"\n", i, 8000+i, i)
	}
	if _, err := Parse("f", []byte(good+more.String()), "h"); err == nil || !strings.HasSuffix(err.Error(), "service: they name 17 different files of prefixes; write at most 16") {
		t.Errorf("too many: %v", err)
	}
}

func FuzzParsePrefixes(f *testing.F) {
	f.Add("192.0.2.0/24 # a\n2001:db8::1\n")
	f.Add("10.0.0.0/8")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := ParsePrefixes("f", text)
		if err != nil && (list != nil || !strings.HasPrefix(err.Error(), "f:")) {
			t.Fatalf("%v and %v", list, err)
		}
		var again strings.Builder
		for _, p := range list {
			fmt.Fprintln(&again, p)
		}
		if second, err := ParsePrefixes("f", again.String()); err != nil || !slices.Equal(second, list) {
			t.Fatalf("%v, then %v, %v", list, second, err)
		}
	})
}
