package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"onevoice/admin"
	"onevoice/config"
	"onevoice/internal/rights"
	"onevoice/link/ingress"
	"onevoice/proxy"
)

// held is what this process has kept.
type held struct {
	user        rights.User
	confinement rights.Confinement
	// became: it was another user's before. lacks are capabilities that the daemon can do
	// without.
	became bool
	lacks  []rights.Capability
}

func (h *held) status() *rights.Status {
	s := rights.Held(h.user.Name, h.confinement.ABI)
	return &s
}

// controlUses are the capabilities of the control process: heartbeats on packet sockets
// that are opened anew when an interface comes back, and pings; rules, routes and
// settings; checks and pages at ports below 1024; and the priority of its threads.
func controlUses() []rights.Capability {
	return []rights.Capability{rights.NetRaw, rights.NetAdmin, rights.NetBindService, rights.SysNice}
}

// controlReserves are for the workers, and for the next control process, that it
// starts: programs in the kernel, and more descriptors than the limit.
func controlReserves() []rights.Capability {
	return []rights.Capability{rights.BPF, rights.Perfmon, rights.SysResource}
}

// directUses are the capabilities of the processes of a daemon with services of the direct
// path, beyond those that others have: their programs, one for heartbeats among them, are
// exchanged and taken away while they run. They stay root, whose the file system of the pins
// is; but the key and the state directory may be another user's.
func directUses() []rights.Capability { return []rights.Capability{rights.BPF, rights.DACOverride} }

// passed is what a process starts with that this one starts to serve, as far as this one
// has it.
func passed() []rights.Capability { return append(inheritance(), rights.DACOverride) }

// inheritance is what such a process has use for where no service is of the direct path.
func inheritance() []rights.Capability { return slices.Concat(controlUses(), controlReserves()) }

// takeRights makes this process the user that the file names, before it opens anything,
// and leaves it the capabilities and files that a control process goes on to need: so
// what it could open once it can open again. capture is "" for none.
func takeRights(cfg *config.Config, file, capture string) (*held, error) {
	if lacks := rights.Names(rights.Missing(controlUses()[:2])); len(lacks) > 0 {
		return nil, fmt.Errorf("this process lacks %s, without which no frame can be taken or sent; start onevoice as root, or by its unit, or with --inh-caps and --ambient-caps of setpriv(1), both %s", strings.Join(lacks, " and "), setprivCaps())
	}
	lacks := rights.Missing(inheritance()[2:])
	// Who cannot is told when they are opened.
	_ = makeFolders(cfg)
	if direct(cfg) {
		return takeDirectRights(cfg, file, capture, lacks)
	}
	before := rights.Current()
	user, err := becomeUser(cfg)
	if err != nil {
		return nil, err
	}
	if err := rights.Limit(controlUses(), controlReserves()); err != nil {
		return nil, err
	}
	c, err := rights.Confine(controlFiles(cfg, file, capture))
	return &held{user: user, confinement: c, became: user.UID != before.UID, lacks: lacks}, err
}

// takeDirectRights is takeRights with services of the direct path: the user stays, and may
// open no more files than another would.
func takeDirectRights(cfg *config.Config, file, capture string, lacks []rights.Capability) (*held, error) {
	// Where that fails, whoever wants to pin says so.
	_ = ingress.MountPins()
	if err := rights.Limit(slices.Concat(controlUses(), directUses()), controlReserves()); err != nil {
		return nil, err
	}
	f := controlFiles(cfg, file, capture)
	f.Write = append(f.Write, ingress.PinPath(""))
	c, err := rights.Confine(f)
	return &held{user: rights.Current(), confinement: c, lacks: lacks}, err
}

// tell logs what has become of the process. It is for a daemon that has started: who
// reads why another has not needs one line.
func (h *held) tell(log *slog.Logger) {
	if h.became {
		log.Info("runs on as another user", "user", h.user.Name)
	}
	for _, c := range h.lacks {
		log.Info("a capability is missing that this daemon can do without", "capability", rights.Name(c), "then", withoutRight(c))
	}
	h.became, h.lacks = false, nil
}

// takeWitnessRights is takeRights for a witness, which needs neither packets nor routes.
func takeWitnessRights(cfg *config.Config, file string) (*held, error) {
	before := rights.Current()
	user, err := becomeUser(cfg)
	if err != nil {
		return nil, err
	}
	if err := rights.Limit([]rights.Capability{rights.NetBindService, rights.SysNice}, nil); err != nil {
		return nil, err
	}
	f := controlFiles(cfg, file, "")
	f.Execute = nil
	c, err := rights.Confine(f)
	return &held{user: user, confinement: c, became: user.UID != before.UID}, err
}

// direct reports services that the kernel serves. Their programs are kept in a file
// system of the kernel's that is root's, so that a daemon which has any stays the user that
// it was started as.
func direct(cfg *config.Config) bool {
	return slices.ContainsFunc(cfg.Services, func(s config.Service) bool { return s.Direct })
}

// setprivCaps is inheritance as setpriv(1) wants it.
func setprivCaps() string {
	var out []string
	for _, c := range inheritance() {
		out = append(out, "+"+strings.TrimPrefix(c.String(), "cap_"))
	}
	return strings.Join(out, ",")
}

// withoutRight says what a daemon without a capability does.
func withoutRight(c rights.Capability) string {
	switch c {
	case rights.NetBindService:
		return "clients whose port is below 1024 are not served"
	case rights.SysNice:
		return "heartbeats may wait for other programs, and a lease may be lost"
	case rights.SysResource:
		return "there may be fewer flows, by the limit on open files"
	}
	return "the kernel does not filter; this daemon decides by itself, which costs more"
}

// becomeUser makes this process the user that it is to be, and returns who that is.
func becomeUser(cfg *config.Config) (rights.User, error) {
	now, name := rights.Current(), cfg.Node.User
	// One that has given that up already, or was started without it, stays who it is.
	may := len(rights.Missing([]rights.Capability{rights.SetUID, rights.SetGID})) == 0
	if name == "" && now.UID == 0 && may {
		name = config.DefaultUser
	}
	if name == "" {
		return now, nil
	}
	wanted, err := rights.LookupUser(name)
	switch {
	case err != nil && cfg.Node.User == "":
		// There is no package here, which would have made it.
		return now, nil
	case err != nil:
		return now, fmt.Errorf("[node] user: %w; make it with `useradd --system %s`, or write another", err, name)
	case wanted.UID == now.UID:
		return wanted, nil
	case now.UID != 0 || !may:
		return now, fmt.Errorf("[node] user is %s, and this daemon runs as %s and cannot become another; stop it and start it as root, or leave the line out", name, now.Name)
	}
	if err := giveFolders(cfg, wanted); err != nil {
		return now, err
	}
	if err := wanted.Become(); err != nil {
		return now, fmt.Errorf("%w; write [node] user = \"root\" to stay root", err)
	}
	return wanted, readable(cfg, wanted)
}

// readable says what to do where the user may not read what the file names.
func readable(cfg *config.Config, user rights.User) error {
	for _, path := range []string{cfg.Cluster.KeyFile, cfg.Cluster.OtherKeyFile, cfg.Admin.TokenFile} {
		f, err := os.Open(path)
		if err == nil {
			f.Close()
		}
		if path != "" && errors.Is(err, fs.ErrPermission) {
			return fmt.Errorf("%w: this daemon runs as %s, who has to be able to read it, also when it is started anew: chown %s %s, or write [node] user = \"root\"", err, user.Name, user.Name, path)
		}
	}
	return nil
}

// makeFolders makes the state directory and the folder of the admin socket, which a
// process that is confined cannot.
func makeFolders(cfg *config.Config) error {
	if err := os.Mkdir(cfg.Node.StateDir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("state directory: %w; make the folder above it first", err)
	}
	if err := os.MkdirAll(filepath.Dir(cfg.Admin.Socket), 0o755); err != nil {
		return fmt.Errorf("folder of the admin socket: %w", err)
	}
	return nil
}

// giveFolders gives the state directory to the user, and the folder of the admin socket
// where nothing else is in it. What belongs to somebody else than root stays theirs.
func giveFolders(cfg *config.Config, to rights.User) error {
	state, dir := cfg.Node.StateDir, filepath.Dir(cfg.Admin.Socket)
	if err := makeFolders(cfg); err != nil {
		return err
	}
	give := func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if s, ok := info.Sys().(*syscall.Stat_t); !ok || s.Uid != 0 {
			return nil
		}
		return os.Lchown(path, to.UID, to.GID)
	}
	if err := filepath.WalkDir(state, give); err != nil {
		return fmt.Errorf("give the state directory to %s: %w", to.Name, err)
	}
	there, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("folder of the admin socket: %w", err)
	}
	if slices.ContainsFunc(there, func(e fs.DirEntry) bool { return e.Name() != filepath.Base(cfg.Admin.Socket) }) {
		return nil
	}
	if err := filepath.WalkDir(dir, give); err != nil {
		return fmt.Errorf("give the admin socket's folder to %s: %w", to.Name, err)
	}
	return nil
}

// controlFiles are those that a control process opens, and those that its workers open
// when they begin.
func controlFiles(cfg *config.Config, file, capture string) rights.Files {
	f := rights.Files{
		Read:    []string{"/proc", "/sys/class/net", "/sys/fs/cgroup", "/sys/devices", "/etc/passwd", "/etc/group", "/etc/localtime", "/usr/share/zoneinfo"},
		Write:   []string{cfg.Node.StateDir, filepath.Dir(cfg.Admin.Socket), "/proc/sys/net", os.DevNull},
		Execute: slices.Concat(rights.Libraries(), []string{"/proc/self/exe"}),
	}
	if program, err := os.Executable(); err == nil {
		// The next version of this program comes in its place.
		f.Execute = append(f.Execute, filepath.Dir(program))
	}
	f.Read = append(f.Read, foldersOf(absolute(file), cfg.Cluster.KeyFile, cfg.Cluster.OtherKeyFile, cfg.Admin.TokenFile, cfg.Node.Agent.File)...)
	f.Read = append(f.Read, watchedFolders(cfg)...)
	if capture != "" {
		f.Write = append(f.Write, filepath.Dir(absolute(capture)))
	}
	programs := cfg.Node.Agent.Program != ""
	for i := range cfg.Services {
		c := &cfg.Services[i].Check
		programs = programs || c.Kind == config.CheckExec
		if c.Kind == config.CheckHTTP && named(c.Target) {
			// Who asks for a host by name reads how that is done here.
			f.Read = append(f.Read, "/etc", "/run/systemd/resolve")
		}
	}
	if programs {
		// Nobody knows what a program of the operator's reads.
		f.Execute = append(f.Execute, "/")
		f.Write = append(f.Write, "/tmp", "/var/tmp")
	}
	return f
}

// watchedFolders are where a worker looks for prefixes, again and again: in the folder,
// for a file that is changed is often a new one.
func watchedFolders(cfg *config.Config) []string {
	out := foldersOf(cfg.Access.AllowFile, cfg.Access.DenyFile)
	for i := range cfg.Services {
		a := &cfg.Services[i].Access
		out = append(out, foldersOf(a.AllowFile, a.DenyFile)...)
	}
	return out
}

// foldersOf are the folders of files, and of what symbolic links lead to; "" is no file.
func foldersOf(paths ...string) (out []string) {
	for _, path := range paths {
		if path == "" {
			continue
		}
		out = append(out, filepath.Dir(path))
		if real, err := filepath.EvalSymlinks(path); err == nil && real != path {
			out = append(out, filepath.Dir(real))
		}
	}
	return out
}

// named reports a URL whose host is no address.
func named(target string) bool {
	u, err := url.Parse(target)
	if err != nil {
		return false
	}
	_, err = netip.ParseAddr(u.Hostname())
	return err != nil
}

func absolute(path string) string {
	if a, err := filepath.Abs(path); err == nil {
		return a
	}
	return path
}

// giveUp leaves a worker that has opened everything what it goes on to need: packets
// and connections from clients' addresses, and in reserve what takes the host's
// settings back when it is left alone. Kernels before 5.17 want CAP_NET_ADMIN for a
// mark (sock_setsockopt in net/core/sock.c), and those before 6.0 CAP_BPF for each look
// at a map (kernel/bpf/syscall.c): what is refused without it is kept.
func (s *serving) giveUp() error {
	user := rights.Current()
	files := rights.Files{
		Read: append(watchedFolders(s.settings.Config), "/proc/self"), Write: []string{"/proc/sys/net"}, Alone: true,
	}
	if direct(s.settings.Config) {
		// Connections are ended, and programs exchanged, to the end.
		uses := []rights.Capability{rights.NetRaw, rights.NetBindService, rights.NetAdmin, rights.BPF}
		if err := rights.Limit(uses, nil); err != nil {
			return err
		}
		files.Write, files.Read = append(files.Write, ingress.PinPath("")), append(files.Read, lockdownFile)
		return s.confine(user, files)
	}
	use := []rights.Capability{rights.NetRaw, rights.NetBindService}
	if err := rights.Limit(use, []rights.Capability{rights.NetAdmin, rights.BPF}); err != nil {
		return err
	}
	if errors.Is(proxy.TryMark(), fs.ErrPermission) {
		use = append(use, rights.NetAdmin)
	}
	if len(s.parts.Guards) > 0 {
		if _, err := s.parts.Guards[0].Stats(); errors.Is(err, fs.ErrPermission) {
			use = append(use, rights.BPF)
		}
	}
	if err := rights.Limit(use, []rights.Capability{rights.NetAdmin}); err != nil {
		return err
	}
	return s.confine(user, files)
}

// confine leaves a worker some files.
func (s *serving) confine(user rights.User, files rights.Files) error {
	// The log has this host's time, which is read from a file once.
	_, _ = time.Now().Zone()
	c, err := rights.ConfineMore(files)
	if err != nil {
		return err
	}
	s.parts.Rights = (&held{user: user, confinement: c}).status
	return nil
}

// printRights says what each process may.
func printRights(out io.Writer, s *admin.Status) {
	if s.Rights != nil {
		fmt.Fprintln(out, "\n"+wrapped("RIGHTS   ", rightsText("control", s.Process.PID, s.Rights)))
	}
	for i := range s.Workers {
		if w := &s.Workers[i]; w.Rights != nil {
			fmt.Fprintln(out, wrapped("         ", rightsText("worker", w.Process.PID, w.Rights)))
		}
	}
}

func rightsText(what string, pid int, r *rights.Status) string {
	text := fmt.Sprintf("%s, process %d: user %s", what, pid, r.User)
	if len(r.Capabilities) > 0 {
		text += "; " + strings.Join(r.Capabilities, " ")
	}
	if len(r.Reserve) > 0 {
		text += "; in reserve " + strings.Join(r.Reserve, " ")
	}
	if r.NoNewPrivs {
		text += "; no new privileges"
	}
	if r.Landlock == 0 {
		return text + "; no landlock here"
	}
	return fmt.Sprintf("%s; landlock ABI %d", text, r.Landlock)
}
