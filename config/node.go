package config

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// maxCommandBytes bounds a program with its arguments, and a URL.
const maxCommandBytes = 1024

func (p *problems) node(raw *rawNode, n *Node, host string) {
	*n = Node{
		Name: or(raw.Name, host), StateDir: or(raw.StateDir, DefaultStateDir), User: or(raw.User, ""),
		StopTimeout:   p.duration("node.stop_timeout", raw.StopTimeout, DefaultStopTimeout, 0, MaxStopTimeout),
		Weight:        p.number("node.weight", raw.Weight, DefaultWeight, 1, MaxWeight),
		Voter:         raw.Voter,
		AgentInterval: p.duration("node.agent_interval", raw.AgentInterval, DefaultAgentInterval, MinCheckInterval, MaxCheckInterval),
		GatewayCheck:  or(raw.GatewayCheck, true),
	}
	if raw.MemoryMiB != nil {
		n.MemoryMiB = p.number("node.memory_mib", raw.MemoryMiB, 1024, MinMemoryMiB, MaxMemoryMiB)
	}
	if !isName(n.Name) {
		p.at("node.name", "%s is no name; write one without spaces, of at most %d bytes", shown(n.Name), maxNameBytes)
	}
	if !isPath(n.StateDir) {
		p.at("node.state_dir", "%s is not an absolute path; write one, such as %q", shown(n.StateDir), DefaultStateDir)
	}
	if raw.User != nil && !isUser(n.User) {
		p.at("node.user", "%s is no name of a user; write one of /etc/passwd, such as %q, or \"root\"", shown(n.User), DefaultUser)
	}
	if raw.Agent != nil {
		n.Agent = p.agent("node.agent", *raw.Agent)
	}
	p.ping(raw.Ping, n)
}

// isUser reports what useradd(8) takes for a name, and what others write.
func isUser(name string) bool {
	return isName(name) && !strings.ContainsAny(name, ":/")
}

func (p *problems) agent(key, text string) Agent {
	const mend = `write "exec:/PROGRAM ARGUMENTS" or "file:/PATH", which says a number from 0 to 100`
	if line, ok := strings.CutPrefix(text, "exec:"); ok {
		program, args, _ := p.command(key, line)
		return Agent{Program: program, Args: args}
	}
	file, ok := strings.CutPrefix(text, "file:")
	if !ok || !isPath(file) || len(file) > maxCommandBytes {
		p.at(key, "%s is not an agent; %s", shown(text), mend)
	}
	return Agent{File: file}
}

// command splits a program and its arguments at spaces. No shell reads them, so
// what would mean something to one is refused.
func (p *problems) command(key, line string) (program string, args []string, ok bool) {
	words := strings.Fields(line)
	switch {
	case len(words) == 0 || !filepath.IsAbs(words[0]) || !isPath(line):
		p.at(key, "%s names no program; write \"exec:/PROGRAM ARGUMENTS\" with the program's whole path", shown("exec:"+line))
	case len(line) > maxCommandBytes || len(words) > maxArguments+1:
		p.at(key, "the command is too long, at most %d bytes and %d arguments can be run; write a script", maxCommandBytes, maxArguments)
	case strings.ContainsAny(line, "'\"\\`$|&;<>*?"):
		p.at(key, "%s has signs that only a shell understands, and none reads it; write a script", shown("exec:"+line))
	default:
		return words[0], words[1:], true
	}
	return "", nil, false
}

func (p *problems) ping(raw []string, n *Node) {
	const key = "node.ping"
	if len(raw) > MaxPings {
		p.at(key, "there are %d; write at most %d addresses", len(raw), MaxPings)
		return
	}
	for i, text := range raw {
		key := fmt.Sprintf("%s[%d]", key, i)
		a, ok := p.hostAddress(key, text, "192.0.2.1")
		if ok && slices.Contains(n.Ping, a) {
			p.at(key, "%s is there twice; write each host once", a)
		}
		n.Ping = append(n.Ping, a)
	}
}

// pingsOwn refuses to ping what this cluster itself answers.
func (p *problems) pingsOwn(c *Config) {
	for i, a := range c.Node.Ping {
		if slices.ContainsFunc(c.VIPs, func(v VIP) bool { return v.Address.Addr() == a }) {
			p.at(fmt.Sprintf("node.ping[%d]", i), "%s is a VIP, which this cluster answers itself; write a host beyond the uplink", a)
		}
	}
}

// duration is a time within bounds, or the default.
func (p *problems) duration(key string, raw *string, byDefault, least, most time.Duration) time.Duration {
	if raw == nil {
		return byDefault
	}
	d, err := time.ParseDuration(*raw)
	if err != nil || d < least || d > most {
		p.at(key, "%s is not a time from %q to %q; write one like %q", shown(*raw), inFile(least), inFile(most), inFile(min(max(byDefault, least), most)))
		return byDefault
	}
	return d
}

// inFile is a time as people write it: "10m", and not "10m0s".
func inFile(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
