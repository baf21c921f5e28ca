package journal

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// stateDir is where a journal may be.
func stateDir(t testing.TB) string { return filepath.Join(t.TempDir(), "state") }

func mustOpen(t testing.TB, dir string) (*Journal, Loaded) {
	t.Helper()
	j, l, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j, l
}

func TestStateSurvives(t *testing.T) {
	dir := stateDir(t)
	j, l := mustOpen(t, dir)
	if len(l.Snapshot) != 0 || len(l.Records) != 0 || l.Note() != "" {
		t.Errorf("a new directory holds %+v", l)
	}
	var want held
	for _, s := range history() {
		if err := s.do(j.store); err != nil {
			t.Fatal(err)
		}
		want = want.after(s)
		size, generation := j.Size(), j.Generation()
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		j, l = mustOpen(t, dir)
		if got := heldBy(l); got.String() != want.String() {
			t.Fatalf("%v, want %v", got, want)
		}
		if j.Size() != size || j.Generation() != generation {
			t.Errorf("size %d and generation %d, were %d and %d", j.Size(), j.Generation(), size, generation)
		}
	}
	if err := j.Append([][]byte{[]byte("x")}); err != nil {
		t.Error(err)
	}
	if err := j.Replace([]byte("y"), nil); err != nil {
		t.Error(err)
	}
	st, err := os.Stat(dir)
	if err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
}

func TestTornWriteIsNoted(t *testing.T) {
	dir := stateDir(t)
	j, _ := mustOpen(t, dir)
	if err := j.Append([][]byte{[]byte("kept")}); err != nil {
		t.Fatal(err)
	}
	size := j.Size()
	if err := j.Append([][]byte{[]byte("torn")}); err != nil {
		t.Fatal(err)
	}
	j.Close()
	name := filepath.Join(dir, "journal")
	if err := os.Truncate(name, size+7); err != nil {
		t.Fatal(err)
	}
	_, l := mustOpen(t, dir)
	if len(l.Records) != 1 || l.Note() != fmt.Sprintf("a write that was never finished was cut off: 7 bytes from byte %d", size) {
		t.Errorf("%q, %q", l.Records, l.Note())
	}
	if st, err := os.Stat(name); err != nil || st.Size() != size {
		t.Errorf("%d bytes, %v", st.Size(), err)
	}
}

func TestDamageNamesFileAndOffset(t *testing.T) {
	dir := stateDir(t)
	j, _ := mustOpen(t, dir)
	at := j.Size()
	for range 2 {
		if err := j.Append([][]byte{[]byte("promise")}); err != nil {
			t.Fatal(err)
		}
	}
	j.Close()
	name := filepath.Join(dir, "journal")
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	b[at+batchHeader+5] ^= 1
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, err = Open(dir)
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%s is damaged at byte %d: a batch does not match its sum", name, at)) || !strings.Contains(err.Error(), "join as a new one") {
		t.Error(err)
	}
	if after, err := os.ReadFile(name); err != nil || string(after) != string(b) {
		t.Error("a damaged file was changed")
	}
	// The lock is free again.
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	mustOpen(t, dir)
}

func TestOneHolder(t *testing.T) {
	dir := stateDir(t)
	j, _ := mustOpen(t, dir)
	want := fmt.Sprintf("is in use by process %d (", os.Getpid())
	if _, _, err := Open(dir); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %q", err, want)
	}
	if err := os.Remove(filepath.Join(dir, holderName)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Error(err)
	}
	j.Close()
	if err := j.Append([][]byte{{1}}); !errors.Is(err, errClosed) || !errors.Is(j.Broken(), errClosed) {
		t.Error(err)
	}
	mustOpen(t, dir)
}

// The lock goes from process to process without a moment in between.
func TestSuccessorHasTheLock(t *testing.T) {
	if dir := os.Getenv("JOURNAL_TEST_ADOPT"); dir != "" {
		succeed(dir)
		return
	}
	dir := stateDir(t)
	j, _ := mustOpen(t, dir)
	if err := j.Append([][]byte{[]byte("of the first")}); err != nil {
		t.Fatal(err)
	}
	lock, err := j.Pass()
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Append([][]byte{{1}}); !errors.Is(err, errPassed) {
		t.Errorf("after passing: %v", err)
	}
	if _, err := j.Pass(); err == nil {
		t.Error("passed twice")
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestSuccessorHasTheLock$")
	cmd.Env = append(os.Environ(), "JOURNAL_TEST_ADOPT="+dir)
	cmd.ExtraFiles = []*os.File{lock}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lock.Close()
	j.Close()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "adopted [of the first]\n" {
		t.Errorf("the successor says %q, %v", line, err)
	}
	if _, _, err := Open(dir); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("process %d", cmd.Process.Pid)) {
		t.Errorf("beside the successor: %v", err)
	}
	in.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if _, l := mustOpen(t, dir); len(l.Records) != 2 {
		t.Errorf("%q", l.Records)
	}
}

// succeed is the second process: it holds the journal until its input ends.
func succeed(dir string) {
	j, l, err := Adopt(dir, os.NewFile(3, "lock"))
	if err == nil {
		err = j.Append([][]byte{[]byte("of the second")})
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Printf("adopted %s\n", l.Records)
	io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

// Without a successor the lock can be taken back.
func TestPassedLockIsTakenBack(t *testing.T) {
	dir := stateDir(t)
	j, _ := mustOpen(t, dir)
	lock, err := j.Pass()
	if err != nil {
		t.Fatal(err)
	}
	// As a file inherited by exec.
	if _, err := unix.FcntlInt(lock.Fd(), unix.F_SETFD, 0); err != nil {
		t.Fatal(err)
	}
	j, _, err = Adopt(dir, lock)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if flags, err := unix.FcntlInt(lock.Fd(), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("a worker would inherit the lock: %d, %v", flags, err)
	}
	if err := j.Append([][]byte{{1}}); err != nil {
		t.Error(err)
	}
}

func TestAdoptWantsTheDirectoryItself(t *testing.T) {
	dir, other := stateDir(t), stateDir(t)
	held, _ := mustOpen(t, dir)
	j, _ := mustOpen(t, other)
	lock, err := j.Pass()
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := Adopt(dir, lock); err == nil || !strings.Contains(err.Error(), "another directory") {
		t.Error(err)
	}
	unlocked, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := Adopt(dir, unlocked); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a lock that was never passed: %v", err)
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := Adopt(dir, file); err == nil || !strings.Contains(err.Error(), "no directory") {
		t.Error(err)
	}
	for _, f := range []*os.File{lock, unlocked, file} {
		if err := f.Close(); !errors.Is(err, os.ErrClosed) {
			t.Errorf("a refused lock was left open: %v", err)
		}
	}
	if err := held.Append([][]byte{{1}}); err != nil {
		t.Error(err)
	}
}

func TestRights(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(t *testing.T, dir string) string // returns the path to open
		want  string
	}{
		{"others may look", func(t *testing.T, dir string) string { must(t, os.Chmod(dir, 0o750)); return dir }, "has mode 0750; run chmod 0700"},
		{"sticky", func(t *testing.T, dir string) string {
			must(t, os.Chmod(dir, 0o700|os.ModeSticky))
			return dir
		}, "has mode 1700"},
		{"symbolic link", func(t *testing.T, dir string) string {
			must(t, os.Symlink(dir, dir+".link"))
			return dir + ".link"
		}, "symbolic link"},
		{"a file", func(t *testing.T, dir string) string {
			must(t, os.WriteFile(dir+".file", nil, 0o600))
			return dir + ".file"
		}, "no directory"},
		{"no parent", func(t *testing.T, dir string) string { return dir + ".no/state" }, "make that directory first"},
		{"others may replace it", func(t *testing.T, dir string) string {
			must(t, os.Chmod(filepath.Dir(dir), 0o777))
			return dir
		}, "run chmod go-w"},
		{"another's directory", func(t *testing.T, dir string) string { chown(t, dir); return dir }, "belongs to user 12345"},
		{"another's parent", func(t *testing.T, dir string) string { chown(t, filepath.Dir(dir)); return dir }, "who could replace it"},
		{"journal is a link", func(t *testing.T, dir string) string {
			must(t, os.Rename(filepath.Join(dir, "journal"), filepath.Join(dir, "elsewhere")))
			must(t, os.Symlink("elsewhere", filepath.Join(dir, "journal")))
			return dir
		}, "too many levels of symbolic links"},
		{"journal is a directory", func(t *testing.T, dir string) string {
			must(t, os.Remove(filepath.Join(dir, "journal")))
			must(t, os.Mkdir(filepath.Join(dir, "journal"), 0o700))
			return dir
		}, "no regular file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := stateDir(t)
			j, _ := mustOpen(t, dir)
			j.Close()
			if _, _, err := Open(c.spoil(t, dir)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func chown(t *testing.T, path string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to give a directory away")
	}
	must(t, os.Chown(path, 12345, 12345))
}

func TestMeasureSync(t *testing.T) {
	dir := stateDir(t)
	mustOpen(t, dir)
	s, err := MeasureSync(dir, 20)
	if err != nil || s.P50 <= 0 || s.P50 > s.P99 || s.P99 > s.Max {
		t.Errorf("%+v, %v", s, err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "measure-*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	if _, err := MeasureSync(filepath.Join(dir, "no"), 1); err == nil {
		t.Error("measured nowhere")
	}
	if _, err := MeasureSync(dir, 0); err == nil {
		t.Error("measured nothing")
	}
}

func BenchmarkAppend(b *testing.B) {
	j, _ := mustOpen(b, stateDir(b))
	record := [][]byte{make([]byte, 200)}
	for b.Loop() {
		if j.Size() > MaxFileBytes/2 {
			must(b, j.Replace(nil, nil))
		}
		must(b, j.Append(record))
	}
}
