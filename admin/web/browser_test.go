package web

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"image/png"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"

	"onevoice/admin"
)

// browser is a Chromium that is driven by the DevTools protocol over two pipes.
type browser struct {
	t    *testing.T
	to   *os.File
	from *bufio.Reader
	id   int
	page string // session of the page
}

func newBrowser(t *testing.T) *browser {
	t.Helper()
	if testing.Short() {
		t.Skip("a browser takes seconds")
	}
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil && path == "" {
			path = found
		}
	}
	if path == "" {
		t.Skip("there is no Chromium here; apt-get install chromium")
	}
	theirIn, ourOut, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	ourIn, theirOut, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	cmd := exec.Command(path, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--user-data-dir="+filepath.Join(home, "profile"), "about:blank")
	cmd.Env = append(os.Environ(), "HOME="+home)
	cmd.ExtraFiles = []*os.File{theirIn, theirOut} // descriptors 3 and 4
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirIn.Close()
	theirOut.Close()
	b := &browser{t: t, to: ourOut, from: bufio.NewReader(ourIn)}
	t.Cleanup(func() {
		b.call("Browser.close", nil, nil)
		ourOut.Close()
		_ = cmd.Wait()
		ourIn.Close()
	})
	var target struct{ TargetID string }
	b.call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct{ SessionID string }
	b.call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	b.page = attached.SessionID
	return b
}

// call makes one request and waits for its answer; events are passed over.
func (b *browser) call(method string, params, result any) {
	b.t.Helper()
	b.id++
	m := map[string]any{"id": b.id, "method": method}
	if params != nil {
		m["params"] = params
	}
	if b.page != "" && method != "Browser.close" {
		m["sessionId"] = b.page
	}
	data, err := json.Marshal(m)
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.to.Write(append(data, 0)); err != nil {
		b.t.Fatal(err)
	}
	for {
		line, err := b.from.ReadBytes(0)
		if err != nil {
			if method == "Browser.close" {
				return
			}
			b.t.Fatalf("%s: %v", method, err)
		}
		var answer struct {
			ID     int
			Result json.RawMessage
			Error  *struct{ Message string }
		}
		if err := json.Unmarshal(bytes.TrimSuffix(line, []byte{0}), &answer); err != nil {
			b.t.Fatal(err)
		}
		if answer.ID != b.id {
			continue
		}
		if answer.Error != nil {
			b.t.Fatalf("%s: %s", method, answer.Error.Message)
		}
		if result != nil {
			if err := json.Unmarshal(answer.Result, result); err != nil {
				b.t.Fatal(err)
			}
		}
		return
	}
}

// run runs a function body in the page and returns what it returns. It may await
// until(condition), which gives up after a minute.
func (b *browser) run(body string) string {
	b.t.Helper()
	const until = `const until = async what => { for (let i = 0; i < 1200; i++) { let v; try { v = what(); } catch {} if (v) return v; await new Promise(r => setTimeout(r, 50)); } throw new Error('never: ' + what); };`
	var out struct {
		Result           struct{ Value any }
		ExceptionDetails *struct{ Exception struct{ Description string } }
	}
	b.call("Runtime.evaluate", map[string]any{
		"expression": "(async () => {" + until + body + "})()", "awaitPromise": true, "returnByValue": true,
	}, &out)
	if e := out.ExceptionDetails; e != nil {
		b.t.Fatalf("%s: %s", body, e.Exception.Description)
	}
	return fmt.Sprint(out.Result.Value)
}

// look sets size and colours, and keeps a picture when PICTURES names a folder.
func (b *browser) look(name string, width, height int, scheme string) {
	b.t.Helper()
	b.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}, nil)
	b.call("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}}, nil)
	var shot struct{ Data string }
	b.call("Page.captureScreenshot", map[string]any{"captureBeyondViewport": true}, &shot)
	data, err := base64.StdEncoding.DecodeString(shot.Data)
	if err != nil {
		b.t.Fatal(err)
	}
	if dir := os.Getenv("PICTURES"); dir != "" {
		if err := os.WriteFile(filepath.Join(dir, name+".png"), data, 0o600); err != nil {
			b.t.Fatal(err)
		}
	}
	img, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		b.t.Fatal(err)
	}
	seen := map[any]bool{}
	for x := 0; x < img.Bounds().Dx(); x += 3 {
		for y := 0; y < img.Bounds().Dy(); y += 3 {
			seen[img.At(x, y)] = true
		}
	}
	if len(seen) < 8 {
		b.t.Errorf("%s: the picture has %d colours", name, len(seen))
	}
}

// A person opens the page, gives the token, sees the ring of two nodes, drains one
// with the keyboard, and sees the ring change. The page is never wider than the
// screen, asks for nothing elsewhere, and takes markup in names for text.
func TestDrainFromThePage(t *testing.T) {
	b := newBrowser(t)
	d := &daemon{now: epoch()}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var upgraded atomic.Bool
	source := func(want admin.Wanted) (*admin.Status, error) {
		s, err := d.status(want)
		if upgraded.Load() {
			s.Version = "1.1"
		}
		s.Cluster = "campus <b>ssh</b>"
		s.Warnings = []string{"n2 was heard 3 s ago <script>alert(1)</script>"}
		return s, err
	}
	s := Serve(Config{Version: "1.0", Listener: l, Token: []byte(secret), Daemon: admin.Daemon{Status: source, Wish: d.wish}, Log: slog.New(slog.DiscardHandler)})
	defer s.Close()
	b.call("Page.navigate", map[string]any{"url": "http://" + l.Addr().String() + "/"}, nil)
	b.run(`await until(() => !document.getElementById('login').hidden && document.activeElement.id === 'token');`)
	if got := b.run(`return document.getElementById('main').hidden + ' ' + document.body.innerText.includes('n2')`); got != "true false" {
		t.Errorf("before the token the page shows %s", got)
	}
	b.run(`document.getElementById('token').value = 'wrong'; document.querySelector('#login button').click();
		await until(() => document.getElementById('trouble').textContent.includes('not the token'));
		document.getElementById('token').value = '` + secret + `'; document.querySelector('#login button').click();
		await until(() => document.querySelectorAll('#ring path').length === 256);`)
	count := func(cls string) string {
		return b.run(`return document.querySelectorAll('#ring path.` + cls + `').length`)
	}
	if count("f0") != "128" || count("f1") != "128" {
		t.Errorf("the ring has %s and %s", count("f0"), count("f1"))
	}
	if got := b.run(`return document.querySelector('h1').textContent + document.querySelectorAll('main b:not(figcaption b), h1 b').length`); got != "campus <b>ssh</b>0" {
		t.Errorf("a name is shown as %s", got)
	}
	for _, look := range []struct {
		name          string
		width, height int
		scheme        string
	}{{"wide", 1280, 900, "light"}, {"wide-dark", 1280, 900, "dark"}, {"phone", 360, 740, "light"}, {"phone-dark", 360, 740, "dark"}} {
		b.look(look.name, look.width, look.height, look.scheme)
		if got := b.run(`return document.documentElement.scrollWidth - document.documentElement.clientWidth`); got != "0" {
			t.Errorf("%s: the page is %s pixels wider than the screen", look.name, got)
		}
		bright := b.run(`const [r, g, b] = getComputedStyle(document.body).backgroundColor.match(/\d+/g).map(Number); return r + g + b > 380`)
		if bright != fmt.Sprint(look.scheme == "light") {
			t.Errorf("%s: the page's ground is bright: %s", look.name, bright)
		}
	}
	b.run(`const button = [...document.querySelectorAll('button.drain')].find(b => b.getAttribute('aria-label') === 'Drain n2'); button.focus();`)
	b.call("Input.dispatchKeyEvent", map[string]any{"type": "keyDown", "key": "Enter", "code": "Enter", "text": "\r", "windowsVirtualKeyCode": 13}, nil)
	b.call("Input.dispatchKeyEvent", map[string]any{"type": "keyUp", "key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13}, nil)
	b.run(`await until(() => document.getElementById('ask').open && document.activeElement.id === 'no');`)
	if len(d.asked()) != 0 {
		t.Error("nobody said yes, and the node drains")
	}
	b.look("ask", 900, 700, "light")
	b.run(`document.getElementById('yes').click(); await until(() => document.querySelectorAll('#ring path.f0').length === 256);
		await until(() => document.querySelector('[data-node="n2"] .state').textContent === 'drained');`)
	if got := d.asked(); len(got) != 1 || got[0] != (admin.Wish{Do: "drain", Node: "n2"}) {
		t.Errorf("asked for %v", got)
	}
	b.run(`await until(() => document.getElementById('events').innerText.includes('asked: drain n2'));`)
	if got := b.run(`return performance.getEntriesByType('resource').filter(e => !e.name.startsWith(location.origin)).map(e => e.name).join()`); got != "" {
		t.Errorf("the page asked for %s", got)
	}
	if got := b.run(`return document.getElementById('trouble').textContent`); got != "" {
		t.Errorf("the page is troubled: %s", got)
	}
	upgraded.Store(true)
	b.run(`await until(() => document.getElementById('trouble').textContent === 'This page is of another version than the daemon, which is onevoice 1.1 now: load the page anew.');`)
	b.run(`document.getElementById('logout').click(); await until(() => document.getElementById('main').hidden);`)
}
