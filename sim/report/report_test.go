package report

import (
	"fmt"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// sample is a report with something in every part, and what might break a page.
func sample() *Report {
	r := &Report{
		Name: "sample", Title: "A title that is <b>no</b> markup & long enough to be broken into several lines of a telephone",
		About: "Why.", Links: []string{"https://example.com/a/very/long/address/that/cannot/be/broken/anywhere/but/has/to/fit/a/telephone"},
		Command: "onevoice sim --nodes 4 --kill 'n2@5s' --partition 'n1,n2|n3,n4@6s+3s'", Duration: Time(20 * time.Second),
		Settings: []Setting{{"nodes", "10"}, {"lan", "switch"}},
		Answers:  []Answers{{"pings", 100, 97, 2, 1}, {"connections", 100, 100, 0, 0}},
		Sessions: Sessions{Open: 10, Untouched: 7, Reset: 3, SlowestReset: Time(3400 * time.Millisecond)},
		Moved:    Moved{Clients: 20, Moved: 4, Kernel: 10}, Failover: Time(260 * time.Millisecond), Waited: Time(time.Second),
		Findings: []Finding{{"two-answers", "two nodes answered 1 of 100 pings", "use one rule"}, {"node-out", strings.Repeat("words ", 40), ""}},
		Quiet:    []string{"break n2@8s"}, Limits: []string{"what cannot be done"},
		Clients: []Client{{"192.0.2.1", 12, 3, []string{"n1"}}, {"192.0.2.2", 1, 0, nil}},
	}
	for i := range 10 {
		r.Nodes = append(r.Nodes, Node{Name: fmt.Sprintf("n%d", i+1), Buckets: 26 - i/4, Served: i * 7, Clients: i, Alive: i != 1})
	}
	for i := range 5 {
		s := Sample{At: Time(time.Duration(4*i) * time.Second)}
		for j := range 10 {
			s.Buckets = append(s.Buckets, (20+(i+j)%5)*min(i, 1))
		}
		r.Samples = append(r.Samples, s)
	}
	r.Tell(5*time.Second, Fault, "kill n2@5s")
	r.Tell(5253*time.Millisecond, Cluster, "n2 was evicted: nobody has heard it, or it does not hear; its buckets went to the others")
	r.Tell(6*time.Second, Clients, "<script>alert(1)</script>")
	return r
}

func TestTextFitsATerminal(t *testing.T) {
	var plain, coloured strings.Builder
	if err := sample().Text(&plain, false); err != nil {
		t.Fatal(err)
	}
	if err := sample().Text(&coloured, true); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(plain.String(), "\x1b") || !strings.Contains(coloured.String(), "\x1b[31m") {
		t.Error("colour where none is wanted, or none where it is")
	}
	for _, line := range strings.Split(plain.String(), "\n") {
		if utf8.RuneCountInString(line) > Columns && !strings.Contains(line, "http") && !strings.HasPrefix(line, "again: ") {
			t.Errorf("%d columns: %s", utf8.RuneCountInString(line), line)
		}
	}
	for _, want := range []string{"Verdict: two-answers, node-out", "mend: use one rule", "struck nothing: break n2@8s", "CLUSTERIP's hash", "note: what"} {
		if !strings.Contains(plain.String(), want) {
			t.Errorf("it does not tell %q:\n%s", want, plain.String())
		}
	}
}

// TestTimelineIsBounded: what is beyond MaxEvents is counted.
func TestTimelineIsBounded(t *testing.T) {
	r := &Report{}
	for i := range MaxEvents + 3 {
		r.Tell(time.Duration(i), LAN, "event")
	}
	if len(r.Timeline) != MaxEvents || r.Untold != 3 {
		t.Errorf("%d told, %d not", len(r.Timeline), r.Untold)
	}
}

// page writes the sample, with a script behind it that says in the title what the
// browser made of it.
func pageFile(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	if err := sample().HTML(&b); err != nil {
		t.Fatal(err)
	}
	const look = `<script>
const boxes = [...document.querySelectorAll("path")].filter(p => p.getBoundingClientRect().height > 0).length;
const small = [...document.querySelectorAll("p, td, li, h1")].filter(e => e.textContent.trim() && parseFloat(getComputedStyle(e).fontSize) < 12).length;
const wide = document.documentElement.scrollWidth;
const dark = matchMedia("(prefers-color-scheme: dark)").matches;
document.title = "wide=" + wide + " view=" + innerWidth + " paths=" + boxes + " marks=" + document.querySelectorAll(".mark").length +
  " small=" + small + " dark=" + dark + " page=" + getComputedStyle(document.body).backgroundColor + " ink=" + getComputedStyle(document.body).color;
</script>`
	file := filepath.Join(t.TempDir(), "page.html")
	if err := os.WriteFile(file, []byte(strings.Replace(b.String(), "</body>", look+"</body>", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestPageNeedsNothing: it loads nothing, runs nothing, and takes markup in names
// for text.
func TestPageNeedsNothing(t *testing.T) {
	var b strings.Builder
	if err := sample().HTML(&b); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"<script", "<link", "src=", "@import", "url(", "<b>no</b>"} {
		if strings.Contains(b.String(), bad) {
			t.Errorf("the page has %q", bad)
		}
	}
}

// browser is a Chromium, if there is one.
func browser(t *testing.T) func(args ...string) string {
	t.Helper()
	if testing.Short() {
		t.Skip("a browser takes seconds")
	}
	var path string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil && path == "" {
			path = found
		}
	}
	if path == "" {
		t.Skip("there is no Chromium here; apt-get install chromium")
	}
	home := t.TempDir()
	return func(args ...string) string {
		cmd := exec.Command(path, append([]string{"--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--user-data-dir=" + home}, args...)...)
		cmd.Env = append(os.Environ(), "HOME="+home)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		return string(out)
	}
}

// TestPageInABrowser: on a telephone nothing is wider than the screen, every node
// with a share is drawn, faults are marked, no text is tiny, and by night the page
// is dark. A picture of it is not one colour.
func TestPageInABrowser(t *testing.T) {
	run := browser(t)
	file := pageFile(t)
	for _, c := range []struct {
		width int
		dark  bool
	}{{500, false}, {500, true}, {1280, false}} {
		args := []string{fmt.Sprintf("--window-size=%d,1600", c.width), "--dump-dom"}
		if c.dark {
			args = append(args, "--blink-settings=preferredColorScheme=0")
		}
		dom := run(append(args, "file://"+file)...)
		title := regexp.MustCompile(`<title>([^<]*)</title>`).FindStringSubmatch(dom)
		if title == nil {
			t.Fatalf("no title in %s", dom)
		}
		wide, view := number(t, title[1], "wide"), number(t, title[1], "view")
		if wide > view || view > c.width || number(t, title[1], "paths") != 10 || number(t, title[1], "marks") != 1 || number(t, title[1], "small") != 0 {
			t.Errorf("%d wide: %s", c.width, title[1])
		}
		if !strings.Contains(title[1], fmt.Sprintf("dark=%v", c.dark)) || strings.Contains(title[1], "page=rgb(23, 23, 21)") != c.dark {
			t.Errorf("dark %v: %s", c.dark, title[1])
		}
	}
	picture := filepath.Join(t.TempDir(), "page.png")
	run("--window-size=500,1600", "--screenshot="+picture, "file://"+file)
	if n := coloursIn(t, picture); n < 20 {
		t.Errorf("the picture has %d colours", n)
	}
}

func number(t *testing.T, title, name string) int {
	t.Helper()
	m := regexp.MustCompile(name + `=(\d+)`).FindStringSubmatch(title)
	if m == nil {
		t.Fatalf("no %s in %q", name, title)
	}
	n, _ := strconv.Atoi(m[1])
	return n
}

func coloursIn(t *testing.T, file string) int {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	img, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[[3]uint32]bool{}
	for y := img.Bounds().Min.Y; y < img.Bounds().Max.Y; y += 3 {
		for x := img.Bounds().Min.X; x < img.Bounds().Max.X; x += 3 {
			r, g, b, _ := img.At(x, y).RGBA()
			seen[[3]uint32{r, g, b}] = true
		}
	}
	return len(seen)
}
