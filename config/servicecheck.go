package config

import (
	"net/netip"
	"net/url"
	"strings"
	"time"
	"unicode"
)

// serviceCheck reads how a service is watched.
func (p *problems) serviceCheck(key string, raw *rawService, backend netip.AddrPort) Check {
	c := p.checkTarget(key+".check", or(raw.Check, string(CheckTCP)), backend)
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

func (p *problems) checkTarget(key, text string, backend netip.AddrPort) Check {
	kind, rest, _ := strings.Cut(text, ":")
	switch {
	case text == string(CheckTCP) || text == string(CheckSSHBanner):
		return Check{Kind: CheckKind(text), Target: backend.String()}
	case kind == string(CheckHTTP) && isURL(text):
		return Check{Kind: CheckHTTP, Target: text}
	case kind == string(CheckHTTP):
		p.at(key, "%s is no address to ask; write one like \"http://127.0.0.1:8080/health\"", shown(text))
	case kind == string(CheckExec):
		program, args, _ := p.command(key, rest)
		return Check{Kind: CheckExec, Target: program, Args: args}
	default:
		p.at(key, "%s is not a check; write \"tcp\", \"ssh-banner\", \"http://HOST:PORT/PATH\" or \"exec:/PROGRAM ARGUMENTS\"", shown(text))
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
