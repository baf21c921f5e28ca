package local

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Config is what is to be set.
type Config struct {
	// Record is the file in which is written what has been changed.
	Record string
	// On are the interfaces with VIPs of the direct path.
	On []Interface
	// Detach takes the programs from an interface, and from the directory of their pins.
	Detach func(name, pins string) error
}

// Interface is what is set for one.
type Interface struct {
	Name string
	// VIPs become addresses of this host, and MACs are heard.
	VIPs []netip.Addr
	MACs []net.HardwareAddr
	// Self is this host's own address there, by which it asks its own services; not
	// valid where it has none of IPv4.
	Self netip.Addr
	// Pins is the directory of the programs' pins.
	Pins string
}

// record is what was changed: it counts for one boot of the machine and one network
// namespace, for all of it is gone with either.
type record struct {
	Boot      string    `json:"boot"`
	Namespace string    `json:"namespace"`
	Settings  []setting `json:"settings,omitempty"`
	Routes    []route   `json:"routes,omitempty"`
	MACs      []heard   `json:"macs,omitempty"`
	Hooks     []hook    `json:"hooks,omitempty"`
}

// hook is an interface with programs.
type hook struct {
	Interface string `json:"interface"`
	Pins      string `json:"pins"`
}

// setting is a file below /proc/sys, and what was in it before.
type setting struct {
	Path string `json:"path"`
	Was  string `json:"was"`
}

type route struct {
	VIP netip.Addr `json:"vip"`
}

type heard struct {
	Interface string `json:"interface"`
	MAC       string `json:"mac"`
}

// Install sets what is wanted, and takes back what an earlier process has set and is not
// wanted any more. On an error nothing is changed that was not before. An error says
// what somebody else has set, and the mend.
func Install(c Config) error {
	have, err := read(c.Record)
	if err != nil {
		return err
	}
	want, todo, err := plan(c, have)
	if err != nil {
		return err
	}
	// What is wanted and what is there still: a crash between here and the end leaves
	// nothing unknown.
	both := *want
	both.Settings = merged(want.Settings, have.Settings, func(a, b setting) bool { return a.Path == b.Path })
	both.Routes = merged(want.Routes, have.Routes, func(a, b route) bool { return a == b })
	both.MACs = merged(want.MACs, have.MACs, func(a, b heard) bool { return a == b })
	both.Hooks = merged(want.Hooks, have.Hooks, func(a, b hook) bool { return a == b })
	if err := write(c.Record, &both); err != nil {
		return err
	}
	if err := set(c, todo); err != nil {
		return withRest(err, errors.Join(rest(&both, have).takeBack(c.Detach), write(c.Record, have)))
	}
	if err := rest(have, want).takeBack(c.Detach); err != nil {
		return err
	}
	return write(c.Record, want)
}

// withRest adds to an error what could not be undone after it. The first one says why.
func withRest(why, undo error) error {
	if undo == nil {
		return why
	}
	return fmt.Errorf("%w; and besides: %s", why, strings.ReplaceAll(undo.Error(), "\n", ", "))
}

// Remove takes back what the file says, and removes the file. Where there is none it does
// nothing. The programs go last: without them the kernel would speak for the VIPs.
// detach is Config's.
func Remove(path string, detach func(name, pins string) error) error {
	have, err := read(path)
	if err != nil {
		return err
	}
	if err := have.takeBack(detach); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("local: %w", err)
	}
	return nil
}

// Installed reports whether the file says that anything is set.
func Installed(path string) (bool, error) {
	have, err := read(path)
	return err == nil && len(have.Routes)+len(have.Settings)+len(have.MACs)+len(have.Hooks) > 0, err
}

func merged[T any](a, b []T, same func(T, T) bool) []T {
	out := slices.Clone(a)
	for _, v := range b {
		if !slices.ContainsFunc(a, func(w T) bool { return same(v, w) }) {
			out = append(out, v)
		}
	}
	return out
}

// rest is what of a record is not in another.
func rest(of, but *record) *record {
	r := &record{Boot: of.Boot, Namespace: of.Namespace}
	for _, s := range of.Settings {
		if !slices.ContainsFunc(but.Settings, func(o setting) bool { return o.Path == s.Path }) {
			r.Settings = append(r.Settings, s)
		}
	}
	for _, v := range of.Routes {
		if !slices.Contains(but.Routes, v) {
			r.Routes = append(r.Routes, v)
		}
	}
	for _, h := range of.Hooks {
		if !slices.Contains(but.Hooks, h) {
			r.Hooks = append(r.Hooks, h)
		}
	}
	for _, m := range of.MACs {
		if !slices.Contains(but.MACs, m) {
			r.MACs = append(r.MACs, m)
		}
	}
	return r
}

// plan is the record of what is wanted, and the settings that are still to be made.
func plan(c Config, have *record) (want *record, todo []setting, err error) {
	want = &record{Boot: have.Boot, Namespace: have.Namespace}
	for _, on := range c.On {
		want.Hooks = append(want.Hooks, hook{on.Name, on.Pins})
		for _, vip := range on.VIPs {
			if err := foreignRoute(vip); err != nil {
				return nil, nil, err
			}
			want.Routes = append(want.Routes, route{vip})
		}
		for _, m := range on.MACs {
			want.MACs = append(want.MACs, heard{on.Name, m.String()})
		}
		if !slices.ContainsFunc(on.VIPs, netip.Addr.Is4) {
			continue
		}
		for _, s := range arpSettings() {
			path := s.path(on.Name)
			now, err := value(path)
			if err != nil {
				return nil, nil, err
			}
			all, err := value(s.path("all"))
			if err != nil {
				return nil, nil, err
			}
			if !s.does(greater(s.set, all)) {
				return nil, nil, fmt.Errorf("local: %s is %s, and it counts for %s as well; with it this host's kernel claims the VIPs for itself; set another value: sysctl -w %s=%s", key(s.path("all")), all, on.Name, key(s.path("all")), s.set)
			}
			if i := slices.IndexFunc(have.Settings, func(o setting) bool { return o.Path == path }); i >= 0 {
				want.Settings = append(want.Settings, have.Settings[i])
			} else if s.does(greater(now, all)) {
				continue
			} else {
				want.Settings = append(want.Settings, setting{path, now})
			}
			if !s.does(greater(now, all)) {
				todo = append(todo, setting{path, s.set})
			}
		}
	}
	return want, todo, nil
}

// set does what is wanted: the kernel is silent before the VIPs are its own.
func set(c Config, todo []setting) error {
	for _, s := range todo {
		if err := put(s.Path, s.Was); err != nil {
			return fmt.Errorf("local: %s has to be %s, or this host's kernel claims the VIPs for itself, and it cannot be set (%w); set it: sysctl -w %s=%s", s.Path, s.Was, err, key(s.Path), s.Was)
		}
	}
	for _, on := range c.On {
		for _, m := range on.MACs {
			if err := hear(on.Name, m); err != nil {
				return err
			}
		}
		for _, vip := range on.VIPs {
			if err := addRoute(vip, on.Self); err != nil {
				return err
			}
		}
	}
	return nil
}

// takeBack undoes it, in the other order. What somebody has changed since is left alone.
func (r *record) takeBack(detach func(name, pins string) error) error {
	var errs []error
	for _, v := range r.Routes {
		errs = append(errs, removeRoute(v.VIP))
	}
	for _, m := range r.MACs {
		mac, err := net.ParseMAC(m.MAC)
		if err == nil {
			err = unhear(m.Interface, mac)
		}
		errs = append(errs, err)
	}
	for _, s := range r.Settings {
		errs = append(errs, s.takeBack())
	}
	for _, h := range r.Hooks {
		errs = append(errs, detach(h.Interface, h.Pins))
	}
	return errors.Join(errs...)
}

func (s setting) takeBack() error {
	now, err := value(s.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the interface is gone
	}
	if err != nil {
		return err
	}
	for _, a := range arpSettings() {
		if strings.HasSuffix(s.Path, "/"+a.name) && now != a.set {
			return nil
		}
	}
	return put(s.Path, s.Was)
}

// arp is a setting of ARP: its name, the values that do, and which is set.
type arp struct {
	name string
	good []string
	set  string
}

// arpSettings are those that keep the kernel from answering for a VIP, which no
// interface has, and from naming it as its own in questions.
func arpSettings() []arp {
	return []arp{{"arp_ignore", []string{"1", "2", "3", "8"}, "1"}, {"arp_announce", []string{"2"}, "2"}}
}

// confRoot is where the settings of interfaces are.
const confRoot = "/proc/sys/net/ipv4/conf"

func (a *arp) path(name string) string { return filepath.Join(confRoot, name, a.name) }

func (a *arp) does(value string) bool { return slices.Contains(a.good, value) }

// greater is the greater of two values: the kernel goes by that of the interface and that
// for all.
func greater(a, b string) string {
	x, _ := strconv.Atoi(a)
	y, _ := strconv.Atoi(b)
	return strconv.Itoa(max(x, y))
}

func value(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("local: %w", err)
	}
	v := strings.TrimSpace(string(b))
	if _, err := strconv.Atoi(v); err != nil {
		return "", fmt.Errorf("local: %s: %w", path, err)
	}
	return v, nil
}

func put(path, v string) error { return os.WriteFile(path, []byte(v+"\n"), 0) }

// key is a setting's name for sysctl(8).
func key(path string) string {
	return strings.ReplaceAll(strings.TrimPrefix(path, "/proc/sys/"), "/", ".")
}
