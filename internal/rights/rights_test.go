package rights

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// asHelper makes the test binary a process that gives rights up and says how what it
// then tries goes.
const asHelper = "ONEVOICE_TEST_RIGHTS"

func TestMain(m *testing.M) {
	if dir := os.Getenv(asHelper); dir != "" {
		help(dir)
		return
	}
	os.Exit(m.Run())
}

// outcome is what a helper says, of itself or of its child.
type outcome struct {
	Status      Status
	Confinement Confinement
	Inherited   bool
	Errors      []string
	Child       *outcome
}

func (o *outcome) note(what string, err error) {
	if err != nil {
		o.Errors = append(o.Errors, what+": "+err.Error())
	}
}

// help limits and confines itself to the folder may of dir, tries things, and starts a
// child that does the same once more.
func help(dir string) {
	var o outcome
	o.note("limit", Limit([]Capability{NetRaw}, []Capability{NetAdmin}))
	// Landlock sets no_new_privs, too.
	o.note("threads", limited())
	f := Files{Read: []string{"/proc", filepath.Join(dir, "read"), "/nonexistent"}, Write: []string{filepath.Join(dir, "may"), os.DevNull}, Execute: slices.Concat(Libraries(), []string{"/proc/self/exe"})}
	if os.Getenv(asHelper+"_MORE") != "" {
		f.Read = append(f.Read, filepath.Join(dir, "not"))
	}
	c, err := Confine(f)
	o.note("confine", err)
	o.Confinement, o.Inherited, o.Status = c, c.Inherited, Held("somebody", c.ABI)
	_, err = os.ReadFile(filepath.Join(dir, "read", "file"))
	o.note("read", err)
	o.note("write", os.WriteFile(filepath.Join(dir, "may", "file"), nil, 0o600))
	o.note("rename", os.Rename(filepath.Join(dir, "may", "file"), filepath.Join(dir, "may", "other")))
	_, err = os.ReadFile(filepath.Join(dir, "not", "file"))
	o.note("not", err)
	o.note("not written", os.WriteFile(filepath.Join(dir, "read", "new"), nil, 0o600))
	if os.Getenv(asHelper+"_CHILD") == "" {
		o.Child = child(dir)
	} else {
		o.note("use", Use(NetAdmin))
		o.Status = Held("somebody", c.ABI)
	}
	_ = json.NewEncoder(os.Stdout).Encode(&o)
}

// limited is what a thread of this process was left that it should not have.
func limited() error {
	files, err := filepath.Glob("/proc/self/task/*/status")
	if err != nil || len(files) < 2 {
		return fmt.Errorf("%d threads: %w", len(files), err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it has ended
		}
		for _, want := range []string{"NoNewPrivs:\t1\n", "CapInh:\t0000000000000000\n", "CapAmb:\t0000000000000000\n"} {
			if !strings.Contains(string(b), want) {
				err = fmt.Errorf("%s: no %q", file, want)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// child is this program once more, with one of its capabilities.
func child(dir string) *outcome {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), asHelper+"_CHILD=yes")
	Pass(cmd, []Capability{NetAdmin, SysNice})
	out, err := cmd.Output()
	var o outcome
	o.note("child", errors.Join(err, json.Unmarshal(out, &o)))
	return &o
}

func helped(t *testing.T, more ...string) (o outcome) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"read", "may", "not"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name, "file"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(append(os.Environ(), asHelper+"="+dir), more...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out, &o); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return o
}

// refusals are what a confined helper meets, in order: with landlock it may neither read
// nor write elsewhere.
func refusals(o *outcome) (out []string) {
	for _, e := range o.Errors {
		what, how, _ := strings.Cut(e, ": ")
		if strings.Contains(how, "permission denied") {
			how = "denied"
		}
		out = append(out, what+" "+how)
	}
	return out
}

// A process keeps what it is left, and its child what it is handed; neither confines
// itself twice.
func TestLimitConfineAndPass(t *testing.T) {
	if lacks := Missing([]Capability{NetRaw, NetAdmin}); len(lacks) > 0 {
		t.Skip("needs ", Names(lacks))
	}
	o := helped(t)
	want := []string{"not denied", "not written denied"}
	if ABI() == 0 {
		t.Log("this kernel has no landlock")
		want = nil
	}
	if got := refusals(&o); !slices.Equal(got, want) {
		t.Errorf("refused: %q, want %q", got, want)
	}
	s := o.Status
	if !slices.Equal(s.Capabilities, []string{"CAP_NET_RAW"}) || !slices.Equal(s.Reserve, []string{"CAP_NET_ADMIN"}) || !s.NoNewPrivs || s.Landlock != ABI() || o.Inherited {
		t.Errorf("it says %+v", o)
	}
	c := o.Child
	if c == nil {
		t.Fatal("no child")
	}
	// The file was renamed by its parent, which it may overwrite.
	if got := refusals(c); !slices.Equal(got, want) {
		t.Errorf("the child was refused: %q, want %q", got, want)
	}
	if s := c.Status; !slices.Equal(s.Capabilities, []string{"CAP_NET_ADMIN"}) || len(s.Reserve) > 0 || !c.Inherited {
		t.Errorf("the child says %+v", c)
	}
}

// What is in the environment is believed only of a process that is confined.
func TestForgedConfinement(t *testing.T) {
	if ABI() == 0 {
		t.Skip("this kernel has no landlock")
	}
	o := helped(t, confinementVariable+`={"abi":7,"read":["/"],"write":["/"],"execute":["/"]}`)
	if o.Inherited || !slices.Contains(refusals(&o), "not denied") {
		t.Errorf("it was believed: %+v", o)
	}
}

// A process that needs more than it has inherited is told what.
func TestBeyondWhatWasInherited(t *testing.T) {
	have := Files{Read: []string{"/etc/onevoice"}, Write: []string{"/var/lib/onevoice", "/"}, Execute: []string{"/usr/bin"}}
	for _, c := range []struct {
		want Files
		says string
	}{
		{Files{Read: []string{"/etc/onevoice/keys"}}, ""},
		{Files{Execute: []string{"/usr/bin/onevoice"}}, ""},
		{Files{Read: []string{"/var/lib/onevoice/x"}}, ""},
		{Files{Execute: []string{"/usr/binaries"}}, "execute /usr/binaries"},
		{Files{Execute: []string{"/"}}, "execute /"},
	} {
		if says := c.want.beyond(&have); says != c.says {
			t.Errorf("%v: %q, want %q", c.want, says, c.says)
		}
	}
	have.Write = have.Write[:1]
	if says := (&Files{Read: []string{"/etc/onevoicer"}}).beyond(&have); says != "read /etc/onevoicer" {
		t.Error(says)
	}
	if says := (&Files{Write: []string{"/etc/onevoice"}}).beyond(&have); says != "write to /etc/onevoice" {
		t.Error(says)
	}
}

// Names are those of the manual, and what is not there is said.
func TestNames(t *testing.T) {
	if got := Names([]Capability{NetRaw, BPF, SysResource}); !slices.Equal(got, []string{"CAP_NET_RAW", "CAP_BPF", "CAP_SYS_RESOURCE"}) {
		t.Error(got)
	}
	if !errors.Is(unix.EPERM, fs.ErrPermission) || !errors.Is(unix.EACCES, fs.ErrPermission) {
		t.Error("a missing right is no fs.ErrPermission")
	}
	if u, err := LookupUser("root"); err != nil || u.UID != 0 || u.Name != "root" {
		t.Errorf("%+v %v", u, err)
	}
}
