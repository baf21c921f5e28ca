package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

// services are judged by the programs that people use to judge them.
func (a *arena) services() {
	a.judged("wrk", "wrk", func(at target) string {
		out := a.run("wrk", "-t1", "-c64", "-d5s", "http://"+at.v4+"/")
		bad := found(`Non-2xx or 3xx responses: (\d+)`, out) + found(`(Socket errors:.*)`, out)
		return strings.TrimSpace(fmt.Sprintf("bad %s, %s requests", or(bad, "none"), or(found(`(\d+) requests in`, out), "no")))
	}, func(plain, ours string) string {
		return same(strings.Split(plain, ",")[0], strings.Split(ours, ",")[0])
	})
	for _, scheme := range []string{"https", "http"} {
		a.judged("h2load "+scheme, "h2load", func(at target) string {
			args := []string{"h2load", "-n", "20000", "-c", "32", "-m", "8"}
			if scheme == "http" {
				args = append(args, "--h1")
			}
			out := a.run(append(args, scheme+"://"+at.v4+"/")...)
			return found(`requests: (.*)`, out)
		}, same)
	}
	a.judged("dnsperf", "dnsperf", func(at target) string {
		file := filepath.Join(a.dir, "queries")
		a.must(os.WriteFile(file, []byte("cluster.test A\ncluster.test TXT\n"), 0o644))
		out := a.run("dnsperf", "-s", at.v4, "-d", file, "-c", "20", "-l", "5")
		return fmt.Sprintf("%s%% answered", found(`Queries completed:.*\(([\d.]+)%\)`, out))
	}, least(0.999))
	a.judged("dnsperf, TCP", "dnsperf", func(at target) string {
		out := a.run("dnsperf", "-m", "tcp", "-s", at.v4, "-d", filepath.Join(a.dir, "queries"), "-c", "20", "-l", "5")
		return fmt.Sprintf("%s%% answered", found(`Queries completed:.*\(([\d.]+)%\)`, out))
	}, least(0.999))
	for mode, args := range map[string][]string{"headers": {"-H"}, "bodies": {"-B"}, "reading": {"-X", "-w", "1", "-y", "1", "-n", "1", "-z", "1"}} {
		a.judged("slowhttptest, slow "+mode, "slowhttptest", func(at target) string {
			out := a.run(append([]string{"slowhttptest", "-c", "500", "-i", "5", "-r", "250", "-l", "12", "-p", "3", "-u", "http://" + at.v4 + "/large"}, args...)...)
			return "service available: " + last(`service available:\S*\s+\S*m?(YES|NO)`, out)
		}, func(plain, ours string) string {
			if !strings.HasSuffix(plain+ours, "YES") {
				return "it is of no use to others meanwhile"
			}
			return same(plain, ours)
		})
	}
	a.judged("testssl", "testssl", func(at target) string { return a.testssl(at.v4) }, same)
}

// last is the last match's group.
func last(pattern, in string) string {
	all := regexp.MustCompile(pattern).FindAllStringSubmatch(in, -1)
	if len(all) == 0 {
		return ""
	}
	return all[len(all)-1][1]
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// testssl counts its findings by severity; how long something took is none.
func (a *arena) testssl(at string) string {
	file := filepath.Join(a.t.TempDir(), "findings.json")
	a.run("testssl", "--quiet", "--warnings", "off", "--color", "0", "--nodns", "min", "--protocols", "--server-defaults", "--headers", "--jsonfile", file, at+":443")
	text, err := os.ReadFile(file)
	a.must(err)
	var findings []struct{ ID, Severity, Finding string }
	a.must(json.Unmarshal(text, &findings))
	var out []string
	for _, f := range findings {
		if !strings.Contains(f.ID, "time") && !strings.Contains(f.ID, "clock") && f.ID != "scanTime" && f.ID != "HTTP_headerAge" {
			out = append(out, f.ID+"="+f.Severity)
		}
	}
	slices.Sort(out)
	return fmt.Sprintf("%d findings: %s", len(out), strings.Join(out, " "))
}

// ssh are the options by which programs of OpenSSH log in.
func (a *arena) ssh() []string {
	return []string{"-F", "none", "-i", filepath.Join(a.dir, "user"), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no",
		"-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"}
}

// transfers bring a tree there or back, and compare.
func (a *arena) transfers() {
	compare := func(to string) string {
		out, err := exec.Command("diff", "-r", filepath.Join(a.dir, "tree"), to).CombinedOutput()
		if err != nil {
			return "differs: " + string(out)
		}
		return "200 files equal"
	}
	a.judged("rsync", "rsync", func(at target) string {
		to := filepath.Join(a.t.TempDir(), "there")
		out := a.run("rsync", "-a", "-e", "ssh "+strings.Join(a.ssh(), " "), a.dir+"/tree/", "root@"+at.v4+":"+to)
		return compare(to) + out
	}, same)
	a.judged("sftp", "sftp", func(at target) string {
		to, back := filepath.Join(a.t.TempDir(), "there"), filepath.Join(a.t.TempDir(), "back")
		batch := filepath.Join(a.t.TempDir(), "batch")
		a.must(os.WriteFile(batch, []byte(fmt.Sprintf("mkdir %s\nput -r %s/tree/* %[1]s\nget -r %[1]s %[3]s\n", to, a.dir, back)), 0o644))
		a.run(append(append([]string{"sftp", "-b", batch}, a.ssh()...), "root@["+at.v6+"]")...)
		return compare(to) + ", back " + compare(back)
	}, same)
	a.judged("sshfs", "sshfs", func(at target) string {
		to, mount := filepath.Join(a.t.TempDir(), "there"), a.t.TempDir()
		a.must(os.Mkdir(to, 0o755))
		said := a.run("sshfs", "-o", "IdentityFile="+filepath.Join(a.dir, "user")+",BatchMode=yes,StrictHostKeyChecking=no,UserKnownHostsFile=/dev/null", "root@"+at.v4+":"+to, mount)
		if out, err := exec.Command("cp", "-r", a.dir+"/tree/.", mount).CombinedOutput(); err != nil {
			said += string(out)
		}
		got := compare(mount)
		if out, err := exec.Command("fusermount", "-u", mount).CombinedOutput(); err != nil {
			said += string(out)
		}
		return got + said
	}, same)
	a.judged("scp while another node dies every 20 s", "scp", func(at target) string {
		defer a.dying()()
		large := filepath.Join(a.dir, "web", "large")
		n := 0
		for began := time.Now(); time.Since(began) < time.Minute; n++ {
			to := filepath.Join(a.t.TempDir(), "large")
			if out := a.run(append(append([]string{"scp", "-q"}, a.ssh()...), large, "root@"+at.v4+":"+to)...); out != "" {
				return out
			}
			if out, err := exec.Command("cmp", large, to).CombinedOutput(); err != nil {
				return string(out)
			}
			a.must(os.Remove(to))
		}
		if n == 0 {
			return "none in a minute"
		}
		return "every copy is equal"
	}, same)
}

// dying has the second and the third node die in turn, one every 20 s: its cable is
// cut and its control process killed, and it comes back 10 s later. What is returned
// ends that.
func (a *arena) dying() func() {
	stop, done := make(chan struct{}), make(chan struct{})
	pause := func(d time.Duration) bool {
		select {
		case <-stop:
			return false
		case <-time.After(d):
			return true
		}
	}
	go func() {
		defer close(done)
		for i := 1; pause(10 * time.Second); i = 3 - i {
			a.port(i, false)
			if err := a.runs[i].Process.Signal(syscall.SIGKILL); err != nil {
				a.whole.Error(err)
			}
			_ = a.runs[i].Wait()
			pause(10 * time.Second)
			a.port(i, true)
			a.runs[i] = a.nodes[i].begin("run")
			go a.watch(a.runs[i])
		}
	}()
	return func() { close(stop); <-done }
}

// captures are judged by what tshark and tcptrace find in them.
func (a *arena) captures() {
	capture := func(at target) string {
		file := filepath.Join(a.t.TempDir(), "capture.pcap")
		cmd := exec.Command("tcpdump", "-i", "eth0", "-s", "128", "-w", file, "-U", "-Z", "root", "-B", "65536", "host "+at.v4)
		a.background(a.client.NS, cmd)
		ticker := time.NewTicker(10 * time.Millisecond)
		defer ticker.Stop()
		for begun := time.Now(); ; <-ticker.C { // until it has begun to write
			if info, err := os.Stat(file); err == nil && info.Size() > 0 {
				break
			}
			if time.Since(begun) > patience {
				a.t.Fatal("tcpdump does not begin")
			}
		}
		a.run("curl", "-s", "-o", "/dev/null", "-o", "/dev/null", "http://"+at.v4+"/large", "http://"+at.v4+"/large")
		a.run(append(append([]string{"scp", "-q"}, a.ssh()...), filepath.Join(a.dir, "web", "large"), "root@"+at.v4+":/dev/null")...)
		a.run("wrk", "-t1", "-c8", "-d2s", "http://"+at.v4+"/")
		a.must(cmd.Process.Signal(syscall.SIGTERM))
		_, _ = cmd.Process.Wait()
		return file
	}
	a.judged("tshark's findings", "tshark", func(at target) string {
		file := capture(at)
		out, _ := exec.Command("tshark", "-r", file, "-q", "-z", "expert,warn").CombinedOutput()
		frames, _ := exec.Command("tshark", "-r", file, "-q", "-z", "io,stat,0").CombinedOutput()
		lost, kinds := 0.0, []string{}
		for _, line := range strings.Split(string(out), "\n") {
			n := number(`^\s+(\d+)\s+\S+\s+TCP`, line)
			if n <= 0 || strings.Contains(line, "RST") || strings.Contains(line, "capture start") {
				continue
			}
			kinds = append(kinds, strings.Join(strings.Fields(line), " "))
			// A window that is full is the service's pace, and no fault of the path.
			if !strings.Contains(strings.ToLower(line), "window") {
				lost += n
			}
		}
		return fmt.Sprintf("%.0f of loss in %s frames (%s)", lost, found(`\|\s+[\d.]+ <> \S+\s+\|\s+(\d+)`, string(frames)), strings.Join(kinds, "; "))
	}, func(plain, ours string) string {
		if number(`^(\d+)`, ours) > number(`^(\d+)`, plain)+3 { // a busy machine has a few of its own
			return "more loss than behind a plain server"
		}
		return ""
	})
	a.judged("tcptrace", "tcptrace", func(at target) string {
		out, _ := exec.Command("tcptrace", "-l", "-n", capture(at)).CombinedOutput()
		sum := func(what string) (n int) {
			for _, line := range strings.Split(string(out), "\n") {
				f := strings.Fields(line)
				for i := range f {
					if strings.HasPrefix(strings.Join(f[i:], " "), what+": ") {
						var v int
						fmt.Sscan(f[i+len(strings.Fields(what))], &v)
						n += v
					}
				}
			}
			return n
		}
		return fmt.Sprintf("%d sent again, %d out of order", sum("rexmt data pkts"), sum("outoforder pkts"))
	}, func(plain, ours string) string {
		if number(`^(\d+)`, ours) > number(`^(\d+)`, plain)+3 || number(`, (\d+)`, ours) > number(`, (\d+)`, plain)+3 {
			return "more than behind a plain server"
		}
		return ""
	})
}
