package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
)

// admin reads how the daemon is asked.
func (p *problems) admin(raw *rawAdmin, a *Admin) {
	a.Socket = or(raw.Socket, DefaultSocket)
	if len(a.Socket) > maxSocketPathBytes || !isPath(a.Socket) {
		p.at("admin.socket", "%s is no place for a socket; write an absolute path of at most %d bytes", shown(a.Socket), maxSocketPathBytes)
	}
	if a.TokenFile = or(raw.Token, ""); raw.Token != nil && !isPath(a.TokenFile) {
		p.at("admin.token_file", "%s is no absolute path; write one like \"/etc/onevoice/admin.token\"", shown(a.TokenFile))
	}
	if raw.Listen == nil {
		return
	}
	at, err := netip.ParseAddrPort(*raw.Listen)
	switch {
	case err != nil || at.Port() == 0 || at.Addr().Zone() != "":
		p.at("admin.listen", "%s is not an address and port; write one like \"127.0.0.1:7177\"", shown(*raw.Listen))
	case !at.Addr().IsLoopback() && a.TokenFile == "":
		p.at("admin.listen", "%s can be reached from other hosts, and without a token anybody there would see the cluster; write token_file beside it, or 127.0.0.1", at)
	default:
		a.Listen = at
	}
}

// Bounds of a token, in bytes.
const (
	minTokenBytes     = 16
	maxTokenFileBytes = 4 << 10
)

// ReadToken reads what opens the page: the file's only line. A file that others may
// read or replace is refused. The error says what to do.
func ReadToken(path string) ([]byte, error) {
	data, err := readSecret(path, maxTokenFileBytes, "drain nodes", "token")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w; make it with `onevoice keygen --token --out %s`", err, path)
	}
	if err != nil {
		return nil, unreadSecret(path, err)
	}
	token := bytes.TrimSpace(data)
	if len(token) < minTokenBytes || bytes.ContainsAny(token, " \t\r\n") {
		return nil, fmt.Errorf("%s is not one word of at least %d letters; make it with `onevoice keygen --token --out FILE`", path, minTokenBytes)
	}
	return token, nil
}
