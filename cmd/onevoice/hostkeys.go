package main

import (
	"errors"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"onevoice/config"
)

// hostKeys are the keys that the SSH servers behind this host's services show, as
// clients see them. A server is asked by beginning a handshake, which its log may tell
// of, so it is not asked often.
type hostKeys struct {
	mu sync.Mutex
	at time.Time // zero for never
	// keys by service, of those that answered.
	keys map[string][]string
}

// Times of asking for host keys: how long they are taken for known, how soon a server
// is asked again where it has not answered, and how soon where somebody wants to know.
const (
	hostKeysKeep   = 10 * time.Minute
	hostKeysMissed = time.Minute
	hostKeysAsked  = 3 * time.Second
	hostKeyTimeout = time.Second
)

// sshPort is where a service is taken for SSH though its check does not say so.
const sshPort = 22

// of are the keys of the services of a file; asked is that somebody waits for them.
func (h *hostKeys) of(c *config.Config, now time.Time, asked bool) map[string][]string {
	h.mu.Lock()
	defer h.mu.Unlock()
	keep := hostKeysKeep
	for i := range c.Services {
		if s := &c.Services[i]; isSSH(s) && len(h.keys[s.Name]) == 0 {
			keep = hostKeysMissed
		}
	}
	if asked {
		keep = hostKeysAsked
	}
	if !h.at.IsZero() && now.Sub(h.at) < keep {
		return h.keys
	}
	h.at, h.keys = now, map[string][]string{}
	for i := range c.Services {
		if s := &c.Services[i]; isSSH(s) {
			h.keys[s.Name] = askHostKeys(s.Backend.String())
		}
	}
	return h.keys
}

// isSSH reports whether a service is an SSH server that can be asked plainly.
func isSSH(s *config.Service) bool {
	plain := s.Source != config.SourceProxyV1 && s.Source != config.SourceProxyV2
	return !s.UDP && plain && s.Backend.IsValid() && (s.Check.Kind == config.CheckSSHBanner || s.Listen.Port() == sshPort)
}

// errKeySeen ends a handshake as soon as the key is known.
var errKeySeen = errors.New("the host key is known")

// askHostKeys are the host keys of the server at an address: each kind's name and
// SHA-256. A server that does not answer has none.
func askHostKeys(address string) (out []string) {
	for _, kind := range []string{ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoRSASHA256} {
		conn, err := net.DialTimeout("tcp", address, hostKeyTimeout)
		if err != nil {
			return nil
		}
		_ = conn.SetDeadline(time.Now().Add(hostKeyTimeout))
		_, _, _, err = ssh.NewClientConn(conn, address, &ssh.ClientConfig{
			User: "onevoice", HostKeyAlgorithms: []string{kind},
			HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error {
				out = append(out, key.Type()+" "+ssh.FingerprintSHA256(key))
				return errKeySeen
			},
		})
		conn.Close()
		if err == nil {
			break // nobody lets us in so far
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
