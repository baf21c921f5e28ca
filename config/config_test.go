package config

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	flag.Bool("update", false, "rewrite the golden files")
	os.Exit(m.Run())
}

func reference(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile("testdata/reference.toml")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestReferenceIsReadAndItsDefaultsAreTheDefaults(t *testing.T) {
	text := reference(t)
	c, err := Parse("reference.toml", []byte(text), "unix1")
	if err != nil {
		t.Fatal(err)
	}
	if len(c.VIPs) != 1 || c.VIPs[0].MAC.String() != "01:00:5e:4d:00:02" || c.VIPs[0].Address.String() != "10.77.0.2/24" {
		t.Errorf("VIPs %+v", c.VIPs)
	}
	if s := c.Services[0]; s.Listen.String() != "10.77.0.2:22" || s.Backend.String() != "127.0.0.1:22" || s.Source != SourceTransparent || s.Affinity != SourceIP {
		t.Errorf("service %+v", s)
	}
	if s := c.Services[1]; !s.UDP || s.ListenText() != "udp://10.77.0.2:53" || s.Idle != 30*time.Second || s.Check.Kind != CheckUDP {
		t.Errorf("UDP service %+v", s)
	}
	if c.Node.StopTimeout != 10*time.Second || len(c.Cluster.Peers) != 4 || len(c.Warnings) != 0 {
		t.Errorf("%+v", c)
	}
	// Every commented key is written with its default: taking the comment signs
	// away changes nothing. Those that have no default show a value.
	commented := regexp.MustCompile(`(?m)^# (name|control_port|timing|state_dir|stop_timeout|weight|agent_interval|ping|gateway_check|socket|mac_mode|mac|path|affinity|hash|source|check|check_interval|check_timeout|check_rise|check_fall|hold_down|idle_timeout|allow|deny|deny_action) = `)
	full, err := Parse("reference.toml", []byte(commented.ReplaceAllString(text, "$1 = ")), "unix1")
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprintf("%+v", full) != fmt.Sprintf("%+v", c) {
		t.Errorf("with its defaults written out the file means\n%+v, want\n%+v", full, c)
	}
	for _, key := range writtenKeys(reflect.TypeFor[rawFile](), "") {
		name := key[strings.LastIndexByte(key, '.')+1:]
		isLater := slices.ContainsFunc(notYets(), func(n notYet) bool { return n.key == key && n.values == nil })
		if !isLater && !regexp.MustCompile(`(?m)(^(# )?|[{,] )`+name+` = `).MatchString(text) {
			t.Errorf("%s is not in the reference", key)
		}
	}
}

// writtenKeys are the keys with values of a raw struct, such as "vip.address".
func writtenKeys(table reflect.Type, path string) (out []string) {
	for i, k := range keysOf(table) {
		kind := table.Field(i).Type
		if kind.Kind() == reflect.Slice || kind.Kind() == reflect.Pointer {
			kind = kind.Elem()
		}
		if kind.Kind() == reflect.Struct {
			out = append(out, writtenKeys(kind, join(path, k))...)
		} else {
			out = append(out, join(path, k))
		}
	}
	return out
}

// Each case of testdata/errors.txt is an edit of a good file, and the errors.
func TestErrors(t *testing.T) {
	path := filepath.Join("testdata", "errors.txt")
	golden, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, c := range strings.Split(string(golden), "====\n") {
		input, _, _ := strings.Cut(c, "----\n")
		if input == "" {
			continue
		}
		_, err := Parse("cluster.toml", []byte(input), "unix1")
		if err == nil {
			t.Errorf("no error for\n%s", input)
			continue
		}
		checkLines(t, input, err)
		fmt.Fprintf(&out, "====\n%s----\n%s\n", input, err)
	}
	if flag.Lookup("update").Value.String() == "true" {
		if err := os.WriteFile(path, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if out.String() != string(golden) {
		t.Errorf("%s differs:\n%s", path, out.String())
	}
}

// checkLines: every error names the file, a line that is in it, and more.
func checkLines(t testing.TB, input string, err error) {
	t.Helper()
	form := regexp.MustCompile(`^cluster\.toml:(\d+): .+`)
	count := strings.Count(input, "\n") + 1
	for _, line := range strings.Split(err.Error(), "\n") {
		m := form.FindStringSubmatch(line)
		if m == nil {
			t.Errorf("the error %q does not name file and line", line)
			continue
		}
		if n, _ := strconv.Atoi(m[1]); n < 1 || n > count {
			t.Errorf("the error %q names a line that is not there", line)
		}
	}
}

func TestWarnings(t *testing.T) {
	text := strings.Replace(reference(t), `"10.77.0.14"]`, `"10.78.0.14"]`, 1) + "[[vip]]\naddress = \"10.205.0.2/24\"\n"
	c, err := Parse("f", []byte(text), "h")
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(c.Warnings, "\n")
	if !strings.Contains(all, "share the cluster MAC") || !strings.Contains(all, "10.78.0.14 is outside") {
		t.Errorf("warnings:\n%s", all)
	}
}

func TestBoundsAreReached(t *testing.T) {
	base := reference(t)
	grow := func(n int, form string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, form, i, i)
		}
		return base + b.String()
	}
	service := "[[service]]\nname = \"s%d\"\nlisten = \"10.77.0.2:1%04d\"\nbackend = \"127.0.0.1:1\"\n"
	vip := "[[vip]]\naddress = \"10.77.%d.9/24\" # %d\n"
	for name, c := range map[string]struct {
		text string
		ok   bool
	}{
		"most services":     {grow(MaxServices-2, service), true},
		"too many services": {grow(MaxServices-1, service), false},
		"most VIPs":         {grow(MaxVIPs-1, vip), true},
		"too many VIPs":     {grow(MaxVIPs, vip), false},
		"too long":          {base + strings.Repeat("#", MaxFileBytes), false},
	} {
		if _, err := Parse("f", []byte(c.text), "h"); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	many := "[cluster]\n"
	for i := range 3 * maxErrors {
		many += fmt.Sprintf("key%d = 1\n", i)
	}
	if _, err := Parse("f", []byte(many), "h"); strings.Count(err.Error(), "\n") != maxErrors {
		t.Errorf("%d errors are reported", strings.Count(err.Error(), "\n")+1)
	}
}

func TestKeyFile(t *testing.T) {
	dir := t.TempDir()
	key := make([]byte, KeyBytes)
	key[3] = 7
	good := FormatKey(key)
	for name, c := range map[string]struct {
		text string
		mode os.FileMode
		want string
	}{
		"good":           {good, 0o600, ""},
		"group may read": {good, 0o640, "chmod 600"},
		"all may read":   {good, 0o604, "chmod 600"},
		"empty":          {"", 0o600, "no key"},
		"only comments":  {"# x\n", 0o600, "no key"},
		"too short":      {"abcd\n", 0o600, ":1:"},
		"not digits":     {"# c\n" + strings.Repeat("zz", KeyBytes) + "\n", 0o600, ":2:"},
		"two keys":       {good + good, 0o600, ":4:"},
		"too long":       {strings.Repeat("#\n", maxKeyFileBytes), 0o600, "no key file"},
	} {
		path := filepath.Join(dir, strings.ReplaceAll(name, " ", "-"))
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, c.mode); err != nil {
			t.Fatal(err)
		}
		got, err := ReadKey(path)
		switch {
		case c.want == "" && (err != nil || string(got) != string(key)):
			t.Errorf("%s: %x, %v", name, got, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want %q in it", name, err, c.want)
		}
	}
	if _, err := ReadKey(filepath.Join(dir, "nothing")); err == nil || !strings.Contains(err.Error(), "onevoice keygen") {
		t.Errorf("a missing file: %v", err)
	}
}

// FuzzParse: whatever the file, it is taken, or every error has its line.
func FuzzParse(f *testing.F) {
	f.Add(reference(f))
	f.Add("[cluster]\nname = 1\n")
	f.Add("[[vip]]\naddress = \"10.0.0.2/24\"\n[vip.x]\n")
	f.Add("x.y = {a = [1, {b = 2}]}")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := Parse("cluster.toml", []byte(text), "h")
		if err != nil {
			checkLines(t, text, err)
			checkPlain(t, err)
			return
		}
		if len(c.VIPs) == 0 || len(c.Services) == 0 || len(c.Cluster.Peers) == 0 {
			t.Errorf("taken without what it needs: %+v", c)
		}
	})
}
