package control

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"onevoice/config"
)

// prefixFilesOf watches a file as a daemon does.
type prefixFilesOf struct {
	*testing.T
	*PrefixFiles
	path string
	told chan PrefixList
	log  *lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.String()
}

const pace = 10

// watchPrefixes watches path as deny_file, and looks at it unasked each slow.
func watchPrefixes(t *testing.T, path string, slow time.Duration) *prefixFilesOf {
	t.Helper()
	f := readPrefixes(t, path, slow)
	f.Watch(func(l PrefixList) { f.told <- l })
	return f
}

// readPrefixes has read path, and does not watch it yet.
func readPrefixes(t *testing.T, path string, slow time.Duration) *prefixFilesOf {
	t.Helper()
	f := &prefixFilesOf{T: t, path: path, told: make(chan PrefixList, 100), log: &lockedBuffer{}}
	begun := time.Now()
	var err error
	c := &config.Config{Access: config.Access{DenyFile: path}}
	f.PrefixFiles, err = ReadPrefixFiles(c, func() time.Duration { return pace * time.Since(begun) }, slog.New(slog.NewTextHandler(f.log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	f.pace, f.slow = pace, slow
	t.Cleanup(func() { f.Close() })
	return f
}

// until waits until a list is told that has just these.
func (f *prefixFilesOf) until(what string, want ...string) {
	f.Helper()
	late := time.After(time.Minute)
	for {
		select {
		case l := <-f.told:
			var got []string
			for _, p := range l.Prefixes {
				got = append(got, p.Addr().String())
			}
			if l.File == f.path && fmt.Sprint(got) == fmt.Sprint(want) {
				return
			}
			f.Logf("%s: %v came first", what, got)
		case <-late:
			f.Fatalf("%s: %v was never told; status %+v", what, want, f.Status())
		}
	}
}

// untilTrouble waits until the status has a trouble, while no list is told.
func (f *prefixFilesOf) untilTrouble(want string) {
	f.Helper()
	for late := time.Now().Add(time.Minute); !strings.Contains(f.Status()[0].Error, want); {
		select {
		case l := <-f.told:
			f.Fatalf("%v was told", l)
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(late) {
			f.Fatalf("the status is %+v, without %q", f.Status()[0], want)
		}
	}
}

func (f *prefixFilesOf) write(path, text string) {
	f.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		f.Fatal(err)
	}
}

func (f *prefixFilesOf) must(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

// All ways in which programs write a file are seen: over it, behind it, by a file in
// its place, by another file of the same length, removed and made anew, by a link that
// is led elsewhere, in a directory that was made anew. What cannot be used changes
// nothing, and is told once.
func TestPrefixFilesAreWatched(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "etc")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "deny")
	if err := os.WriteFile(path, []byte("192.0.2.1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := watchPrefixes(t, path, slowLook)
	if got := f.Lists(); len(got) != 1 || got[0].File != path || len(got[0].Prefixes) != 1 || got[0].Prefixes[0] != netip.MustParsePrefix("192.0.2.1/32") {
		t.Fatalf("at first %v", got)
	}
	f.write(path, "192.0.2.2\n")
	f.until("written over", "192.0.2.2")

	behind, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	f.must(err)
	_, err = behind.WriteString("192.0.2.3\n")
	f.must(err)
	f.must(behind.Close())
	f.until("written behind", "192.0.2.2", "192.0.2.3")

	f.write(path+"~", "192.0.2.4\n")
	f.must(os.Rename(path+"~", path))
	f.until("another in its place", "192.0.2.4")

	f.write(path+"~", "192.0.2.5\n192.0.2")
	f.must(os.Rename(path+"~", path))
	f.untilTrouble("deny:2: the last line does not end")
	if s := f.Status()[0]; s.Prefixes != 1 || s.File != path {
		t.Errorf("a half file: %+v", s)
	}
	f.write(path, "192.0.2.5\n192.0.2.6\n")
	f.until("the other half", "192.0.2.5", "192.0.2.6")
	if s := f.Status()[0]; s.Error != "" || s.Prefixes != 2 {
		t.Errorf("mended: %+v", s)
	}

	f.must(os.Remove(path))
	f.untilTrouble("there is no such file")
	f.write(path, "192.0.2.7\n")
	f.until("removed and made anew", "192.0.2.7")

	elsewhere := filepath.Join(t.TempDir(), "list")
	f.write(elsewhere, "192.0.2.8\n")
	f.must(os.Remove(path))
	f.must(os.Symlink(elsewhere, path))
	f.until("a link in its place", "192.0.2.8")
	f.write(elsewhere, "192.0.2.9\n")
	f.until("written where the link leads", "192.0.2.9")

	f.must(os.RemoveAll(dir))
	f.untilTrouble("there is no such file")
	f.must(os.Mkdir(dir, 0o700))
	f.write(path, "192.0.2.10\n")
	f.until("in a directory that was made anew", "192.0.2.10")

	log := f.log.String()
	if n := strings.Count(log, "the last line does not end"); n != 1 {
		t.Errorf("a half file was told %d times:\n%s", n, log)
	}
	if n := strings.Count(log, "level=WARN"); n != 3 {
		t.Errorf("%d warnings instead of 3:\n%s", n, log)
	}
}

// The kernel tells of a change, so that nobody waits for the next look; also where a link
// leads.
func TestTheKernelTellsOfPrefixFiles(t *testing.T) {
	dir, elsewhere := t.TempDir(), filepath.Join(t.TempDir(), "list")
	path := filepath.Join(dir, "deny")
	for _, name := range []string{path, elsewhere} {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f := watchPrefixes(t, path, 1000*time.Hour)
	f.write(path, "192.0.2.1\n")
	f.until("written over", "192.0.2.1")
	f.write(path+"~", "192.0.2.2\n")
	f.must(os.Rename(path+"~", path))
	f.until("another in its place", "192.0.2.2")
	f.must(os.Symlink(elsewhere, path+"~"))
	f.must(os.Rename(path+"~", path))
	f.until("a link in its place")
	f.write(elsewhere, "192.0.2.3\n")
	f.until("written where the link leads", "192.0.2.3")
}

// Where the kernel tells of nothing a file is looked at now and then.
func TestPrefixFilesAreLookedAtUnasked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deny")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f := readPrefixes(t, path, slowLook)
	f.tell = func(l PrefixList) { f.told <- l }
	go f.run()
	f.write(path, "192.0.2.1\n")
	f.until("written over", "192.0.2.1")
	f.write(path, "192.0.2.2\n")
	f.until("written over again", "192.0.2.2")
}

// What is wrong with a file is logged once, however often it is read.
func TestTroubleOfAPrefixFileIsToldOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deny")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f := readPrefixes(t, path, slowLook)
	close(f.done) // nobody watches it
	for i, text := range []string{"half", "half", "x\n", "x\n", "half"} {
		f.write(path, text)
		f.read(f.files[0], stamp{})
		if n, want := strings.Count(f.log.String(), "level=WARN"), []int{1, 1, 2, 2, 3}[i]; n != want {
			t.Errorf("after reading it %d times it was told %d times, want %d:\n%s", i+1, n, want, f.log)
		}
	}
}

// What cannot be read at the start keeps the daemon from starting.
func TestPrefixFilesAtTheStart(t *testing.T) {
	c := &config.Config{Access: config.Access{AllowFile: filepath.Join(t.TempDir(), "allow")}}
	if _, err := ReadPrefixFiles(c, nil, nil); err == nil || !strings.Contains(err.Error(), "allow: there is no such file; make it") {
		t.Errorf("without the file: %v", err)
	}
	f, err := ReadPrefixFiles(&config.Config{}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	f.Watch(nil)
	if f.Lists() != nil || f.Close() != nil {
		t.Error("where there is none")
	}
}
