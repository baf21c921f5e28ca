package config

import (
	"cmp"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"time"
	"unicode"
)

// serviceCheck reads how a service is watched.
func (p *problems) serviceCheck(key string, raw *rawService, s *Service) Check {
	byDefault := CheckTCP
	if s.UDP {
		byDefault = CheckUDP
	}
	c := p.checkTarget(key+".check", or(raw.Check, string(byDefault)), s)
	c.Interval, c.Timeout = p.checkTimes(key, raw, c.Kind)
	c.Rise = p.number(key+".check_rise", raw.Rise, DefaultCheckRise, 1, MaxRiseFall)
	c.Fall = p.number(key+".check_fall", raw.Fall, DefaultCheckFall, 1, MaxRiseFall)
	c.HoldDown = p.duration(key+".hold_down", raw.HoldDown, DefaultHoldDown, 0, MaxHoldDown)
	return c
}

// checkTimes: a probe ends before the next begins, and sshd is not asked so
// often that it takes offence.
func (p *problems) checkTimes(key string, raw *rawService, kind CheckKind) (interval, timeout time.Duration) {
	interval = p.duration(key+".check_interval", raw.Interval, DefaultCheckInterval, MinCheckInterval, MaxCheckInterval)
	if kind == CheckSSHBanner && interval < MinBannerInterval {
		p.at(key+".check_interval", "%q is too short for ssh-banner, sshd would refuse this host for a while; write at least %q", inFile(interval), inFile(MinBannerInterval))
	}
	timeout = p.duration(key+".check_timeout", raw.Timeout, min(DefaultCheckTimeout, interval), minCheckTimeout, MaxCheckInterval)
	if timeout > interval && !p.toldIn(key+".check_interval") {
		p.at(key+".check_timeout", "%q is longer than check_interval, %q; write at most that, or a longer interval", inFile(timeout), inFile(interval))
	}
	return interval, timeout
}

func (p *problems) checkTarget(key, text string, s *Service) Check {
	kind, rest, _ := strings.Cut(text, ":")
	switch {
	case text == string(CheckUDP) && !s.UDP:
		p.at(key, "\"udp\" is for UDP services; write \"tcp\"")
	case text == string(CheckUDP):
		return Check{Kind: CheckUDP, Target: s.checked()}
	case text == string(CheckSSHBanner) && s.UDP:
		p.at(key, "\"ssh-banner\" is for TCP services; write \"udp\", \"exec:/PROGRAM ARGUMENTS\" or, where the service has the same port in TCP, \"tcp\"")
	case text == string(CheckTCP) || text == string(CheckSSHBanner):
		return Check{Kind: CheckKind(text), Target: s.checked(), Backend: true}
	case kind == string(CheckHTTP) && isURL(text):
		return Check{Kind: CheckHTTP, Target: text, Backend: s.BackendPath == "" && hostOf(text) == s.Backend.String()}
	case kind == string(CheckHTTP) && strings.HasPrefix(rest, "/") && !strings.HasPrefix(rest, "//") && isURL("http://localhost"+rest):
		return Check{Kind: CheckHTTP, Target: "http://" + s.hostOfURL() + rest, Backend: true}
	case kind == string(CheckHTTP):
		p.at(key, "%s is no address to ask; write one like \"http://127.0.0.1:8080/health\", or \"http:/health\" for the backend itself", shown(text))
	case kind == string(CheckExec):
		program, args, _ := p.command(key, rest)
		return Check{Kind: CheckExec, Target: program, Args: args}
	default:
		p.at(key, "%s is not a check; write \"tcp\", \"udp\", \"ssh-banner\", \"http://HOST:PORT/PATH\" or \"exec:/PROGRAM ARGUMENTS\"", shown(text))
	}
	return Check{}
}

// isURL reports a plain http URL of a host.
func isURL(text string) bool {
	strange := func(r rune) bool { return r > unicode.MaxASCII || !unicode.IsPrint(r) || r == ' ' }
	if len(text) > maxCommandBytes || strings.ContainsFunc(text, strange) {
		return false
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" || u.Hostname() == "" || u.User != nil || u.Fragment != "" {
		return false
	}
	port := u.Port()
	if port == "" {
		return !strings.HasSuffix(u.Host, ":")
	}
	at, err := netip.ParseAddrPort("127.0.0.1:" + port)
	return err == nil && at.Port() != 0
}

// checked is where a check finds the backend: at the first of its ports.
func (s *Service) checked() string {
	if s.BackendPath != "" {
		return unixPrefix + s.BackendPath
	}
	return s.Backend.String()
}

// hostOf is the host and port of a URL that isURL has taken.
func hostOf(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	return net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "80"))
}

// hostOfURL is the backend in a URL. A unix socket has no name, so localhost
// stands there, as a server behind one expects it.
func (s *Service) hostOfURL() string {
	if s.BackendPath != "" {
		return "localhost"
	}
	return s.Backend.String()
}

// Text is the check as the file writes it.
func (c *Check) Text() string {
	switch c.Kind {
	case CheckHTTP:
		return c.Target
	case CheckExec:
		return strings.Join(append([]string{"exec:" + c.Target}, c.Args...), " ")
	default:
		return string(c.Kind)
	}
}

// minCheckTimeout is what a service on loopback may take.
const minCheckTimeout = 10 * time.Millisecond
