package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Who is written into deny_file while the daemon runs begins nothing more, and goes on
// with what has begun; who is taken out may again. A bad file changes nothing and is
// told; a worker that dies, a control process that dies, and their successors keep to
// the file.
func TestDenyFile(t *testing.T) {
	p := newPair(t)
	dir := filepath.Dir(p.file)
	deny, allow := filepath.Join(dir, "deny"), filepath.Join(dir, "allow")
	p.configure(fmt.Sprintf("deny_file = %q\ndeny_action = \"reset\"\n[access]\nallow_file = %q\n", deny, allow))
	const client = "10.77.0.101"
	write := func(path, text string) {
		t.Helper()
		if err := errors.Join(os.WriteFile(path+"~", []byte(text), 0o600), os.Rename(path+"~", path)); err != nil {
			t.Fatal(err)
		}
	}
	checks := func(code int, want string) {
		t.Helper()
		got, out := runProgram(t, program(t, "check", "--config", p.file), (*exec.Cmd).Start)
		if got != code || !strings.Contains(says(out), want) {
			t.Errorf("check: exit %d: %s; want %q", got, out, want)
		}
	}
	write(deny, "# nobody yet\n")
	checks(1, allow+": there is no such file; make it")
	if code, out := runProgram(t, program(t, "run", "--config", p.file), p.Start); code != 1 || !strings.Contains(out, allow+": there is no such file") {
		t.Errorf("a start without the file: exit %d: %s", code, out)
	}
	write(allow, "0.0.0.0/0\n")
	checks(0, deny+", 0 prefixes")

	run := p.start()
	run.until("answering: this node holds a lease")
	old := p.session()
	may := func(when string, want bool) {
		t.Helper()
		// The worker has the list a moment after control has read it.
		var err error
		for begun := time.Now(); time.Since(begun) < patience; {
			var c net.Conn
			if c, err = p.dial(patience); err == nil {
				c.Close()
			}
			if (err == nil) == want {
				break
			}
		}
		if want && err != nil || !want && !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("%s: %v; may connect: %v", when, err, want)
		}
	}
	may("at first", true)
	write(deny, "192.0.2.1 # another\n"+client+"\n")
	p.untilPrefixes(deny, 2)
	may("once denied", false)
	if code, out := runProgram(t, program(t, "explain", "--socket", p.socket(), client, testVIP+":7"), (*exec.Cmd).Start); code != 0 ||
		!strings.Contains(strings.Join(strings.Fields(out), " "), "NO: "+client+"/32 in "+deny+"; it meets reset") {
		t.Errorf("explain: exit %d: %s", code, out)
	}
	if err := echoes(old); err != nil {
		t.Errorf("what had begun before: %v", err)
	}
	code, out := runProgram(t, program(t, "status", "--socket", p.socket()), (*exec.Cmd).Start)
	if code != 0 || !strings.Contains(out, "2 prefixes of") || !strings.Contains(out, "TURNED AWAY") {
		t.Errorf("status: exit %d: %s", code, out)
	}

	write(deny, "everybody\n")
	p.untilWarned(deny+`:1: "everybody" is not a prefix`, true)
	may("under the list of before", false)

	p.prefixesSurvive(&run, old, deny, func(when string) { may(when, false) })

	write(deny, client+"/31\n")
	p.untilWarned(deny+":1", true)
	write(deny, "")
	p.untilPrefixes(deny, 0)
	p.untilWarned(deny, false)
	may("once taken out", true)
	write(allow, "192.0.2.0/24\n")
	p.untilPrefixes(allow, 1)
	may("once others alone are allowed", false)
	write(allow, "# a mistake\n")
	p.untilWarned("it would let nobody in", true)
}

// prefixesSurvive kills the worker and the control process, which find the file bad and
// then good.
func (p *pair) prefixesSurvive(run **controlProcess, old net.Conn, deny string, denied func(when string)) {
	p.t.Helper()
	(*run).end(syscall.SIGKILL)
	if code, out := runProgram(p.t, program(p.t, "run", "--config", p.file), p.Start); code != 1 || !strings.Contains(out, deny+":1:") {
		p.t.Errorf("a start with a bad file: exit %d: %s", code, out)
	}
	if err := os.WriteFile(deny, []byte("10.77.0.101\n192.0.2.0/24\n192.0.2.1\n"), 0o600); err != nil {
		p.t.Fatal(err)
	}
	*run = p.start()
	(*run).until("answering: this node holds a lease")
	p.untilPrefixes(deny, 3)
	denied("under the next control process")
	if err := echoes(old); err != nil {
		p.t.Errorf("what had begun long before: %v", err)
	}
	if err := syscall.Kill(p.status().Workers[0].Process.PID, syscall.SIGKILL); err != nil {
		p.t.Fatal(err)
	}
	(*run).until("the workers turn again")
	denied("under the next worker")
}

// untilPrefixes waits until the one worker has so many prefixes of a file.
func (p *pair) untilPrefixes(file string, want int) {
	p.t.Helper()
	for begun := time.Now(); ; {
		s := p.status()
		if len(s.Workers) == 1 {
			if n, known := s.Workers[0].Prefixes[file]; known && n == want {
				return
			}
		}
		if time.Since(begun) > patience {
			p.t.Fatalf("%s: the workers are %+v, the files %+v", file, s.Workers, s.PrefixFiles)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
