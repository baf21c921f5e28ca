package health

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
	"time"
)

// Kind is how a check asks.
type Kind uint8

const (
	TCP Kind = iota + 1
	UDP
	SSHBanner
	HTTP
	Exec
)

func (k Kind) String() string {
	switch k {
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	case SSHBanner:
		return "ssh-banner"
	case HTTP:
		return "http"
	case Exec:
		return "exec"
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// MinBannerInterval is the shortest interval of ssh-banner. OpenSSH 9.8 and
// later penalises an address by one second for each connection that ends
// without an attempt to log in (sshd_config(5), PerSourcePenalties noauth), and
// a penalty that is added before the last has run out accrues until the
// address is refused. Two seconds leave room for the jitter of a busy host.
const MinBannerInterval = 2 * time.Second

// Bounds of what a check may ask for.
const (
	MinInterval = 100 * time.Millisecond
	MaxInterval = time.Hour
	MaxRiseFall = 100
	MaxHoldDown = time.Hour
	MaxArgs     = 64
)

// Check is what is asked of a service, and how often.
type Check struct {
	Kind   Kind
	Target string   // TCP, SSHBanner: address:port, or unix:path. HTTP: URL. Exec: path of the program
	Args   []string // of Exec
	// Socket is the path of a unix socket that HTTP asks, "" for the URL's host.
	Socket string
	// Preface is sent first on each connection of SSHBanner and HTTP.
	Preface []byte
	// Interval is from the start of one probe to the start of the next, which
	// never overlap; Timeout is when a probe without an answer has failed, at
	// most Interval.
	Interval, Timeout time.Duration
	// Rise good answers in a row bring a service up, Fall bad ones take it down.
	// The very first answer decides alone, so that a start is quick.
	Rise, Fall int
	// HoldDown is how long a service that went down stays down at least. It
	// doubles while the service flaps, up to MaxHoldDownFactor times.
	HoldDown time.Duration
}

// ParseCheck reads a check as the configuration file writes it, with the
// service's backend for those that name no target. Times and counts are the
// kind's defaults and may be changed before Validate.
func ParseCheck(text string, backend netip.AddrPort) (Check, error) {
	kind, rest, _ := strings.Cut(text, ":")
	c := Check{Rise: 2, Fall: 3, HoldDown: 5 * time.Second}
	switch {
	case text == "tcp":
		c.Kind, c.Target = TCP, backend.String()
		c.Interval, c.Timeout = time.Second, time.Second
	case text == "udp":
		c.Kind, c.Target = UDP, backend.String()
		c.Interval, c.Timeout = time.Second, time.Second
	case text == "ssh-banner":
		c.Kind, c.Target, c.Fall = SSHBanner, backend.String(), 2
		c.Interval, c.Timeout = 3*time.Second, 2*time.Second
	case kind == "http" && rest != "":
		c.Kind, c.Target = HTTP, text
		if !strings.HasPrefix(rest, "//") {
			c.Target = "http://" + backend.String() + rest
		}
		c.Interval, c.Timeout = 2*time.Second, 2*time.Second
	case kind == "exec":
		c.Kind, c.Fall = Exec, 2
		if words := strings.Fields(rest); len(words) > 0 {
			c.Target, c.Args = words[0], words[1:]
		}
		c.Interval, c.Timeout = 5*time.Second, 4*time.Second
	default:
		return Check{}, fmt.Errorf("%q is not a check; write \"tcp\", \"udp\", \"ssh-banner\", \"http://HOST:PORT/PATH\" or \"exec:/PROGRAM ARGUMENTS\"", text)
	}
	return c, c.Validate()
}

// unixPrefix begins a target that is a unix socket.
const unixPrefix = "unix:"

// Validate says what is impossible about a check, in one sentence.
func (c *Check) Validate() error {
	if c.Kind == SSHBanner && c.Interval < MinBannerInterval {
		return fmt.Errorf("an interval of %v is too short for ssh-banner, for sshd would penalise it; write at least %v", c.Interval, MinBannerInterval)
	}
	if err := c.validateTiming(); err != nil {
		return err
	}
	return c.validateTarget()
}

func (c *Check) validateTiming() error {
	if err := validateInterval(c.Interval, c.Timeout); err != nil {
		return err
	}
	switch {
	case c.Rise < 1 || c.Rise > MaxRiseFall || c.Fall < 1 || c.Fall > MaxRiseFall:
		return fmt.Errorf("rise %d and fall %d are not possible; write numbers from 1 to %d", c.Rise, c.Fall, MaxRiseFall)
	case c.HoldDown < 0 || c.HoldDown > MaxHoldDown:
		return fmt.Errorf("a hold-down of %v is not possible; write at most %v", c.HoldDown, MaxHoldDown)
	}
	return nil
}

func validateInterval(interval, timeout time.Duration) error {
	switch {
	case interval < MinInterval || interval > MaxInterval:
		return fmt.Errorf("an interval of %v is not possible; write one from %v to %v", interval, MinInterval, MaxInterval)
	case timeout <= 0 || timeout > interval:
		return fmt.Errorf("a timeout of %v is not possible; write at most the interval, %v", timeout, interval)
	}
	return nil
}

func (c *Check) validateTarget() error {
	switch c.Kind {
	case UDP:
		if at, err := netip.ParseAddrPort(c.Target); err != nil || at.Port() == 0 {
			return fmt.Errorf("%q is no address to check; write ADDRESS:PORT", c.Target)
		}
	case TCP, SSHBanner:
		if path, ok := strings.CutPrefix(c.Target, unixPrefix); ok && filepath.IsAbs(path) {
			return nil
		}
		if _, port, err := net.SplitHostPort(c.Target); err != nil || port == "" || port == "0" {
			return fmt.Errorf("%q is no address to check; write ADDRESS:PORT", c.Target)
		}
	case HTTP:
		u, err := url.Parse(c.Target)
		if err != nil || u.Scheme != "http" || u.Hostname() == "" || u.User != nil {
			return fmt.Errorf("%q is no address to check; write \"http://HOST:PORT/PATH\"", c.Target)
		}
	case Exec:
		return validateProgram(c.Target, c.Args)
	default:
		return fmt.Errorf("%v is not a kind of check", c.Kind)
	}
	return nil
}

func validateProgram(path string, args []string) error {
	switch {
	case !filepath.IsAbs(path):
		return fmt.Errorf("%q is no program to run; write \"exec:/PROGRAM ARGUMENTS\" with the program's whole path", path)
	case len(args) > MaxArgs:
		return fmt.Errorf("%d arguments are too many for a check; write at most %d, or a script", len(args), MaxArgs)
	}
	return nil
}
