package config

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Bounds of the files of prefixes.
const (
	// MaxPrefixFiles is how many different files a configuration may name.
	MaxPrefixFiles = 16
	// MaxListedPrefixes bounds the prefixes of one file, those that are there twice
	// included.
	MaxListedPrefixes = 1 << 18
	// MaxPrefixFileBytes bounds the length of one.
	MaxPrefixFileBytes = 16 << 20
)

// prefixFile reads the path of a file of prefixes.
func (p *problems) prefixFile(key string, raw *string) string {
	path := or(raw, "")
	if raw != nil && !isPath(path) {
		p.at(key, "%s is no absolute path; write one like \"/etc/onevoice/lists/ssh.deny\"", shown(path))
	}
	return path
}

// PrefixFiles are the files of prefixes that a configuration names, each once, in the
// order of the file.
func (c *Config) PrefixFiles() (out []string) {
	add := func(paths ...string) {
		for _, path := range paths {
			if path != "" && !slices.Contains(out, path) {
				out = append(out, path)
			}
		}
	}
	add(c.Access.AllowFile, c.Access.DenyFile)
	for i := range c.Services {
		add(c.Services[i].Access.AllowFile, c.Services[i].Access.DenyFile)
	}
	return out
}

// NeedsPrefixes reports whether a file of prefixes may not be empty: as a list of those
// who may, it would let nobody in.
func (c *Config) NeedsPrefixes(path string) bool {
	return c.Access.AllowFile == path || slices.ContainsFunc(c.Services, func(s Service) bool { return s.Access.AllowFile == path })
}

// prefixFiles looks at the files of prefixes of all services together.
func (p *problems) prefixFiles(c *Config) {
	if n := len(c.PrefixFiles()); n > MaxPrefixFiles {
		p.at("service", "they name %d different files of prefixes; write at most %d", n, MaxPrefixFiles)
	}
}

// ErrChanging says that a file was written to while it was read.
var ErrChanging = errors.New("it changes while it is read")

// ReadPrefixes reads a file of prefixes, see ParsePrefixes, and what it was when it
// was read. needed says that it may not be empty. The error says what to do.
func ReadPrefixes(path string, needed bool) ([]netip.Prefix, os.FileInfo, error) {
	// Nobody may write to a pipe in its place.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, nil, fmt.Errorf("%s: there is no such file; make it, and leave it empty where there is nobody to write down", path)
	case errors.Is(err, os.ErrPermission):
		return nil, nil, fmt.Errorf("%s: no right to read it; let the user that runs the daemon read it, and pass through its directories", path)
	case err != nil:
		return nil, nil, err
	}
	defer f.Close()
	before, err := f.Stat()
	switch {
	case err != nil:
		return nil, nil, err
	case !before.Mode().IsRegular():
		return nil, nil, fmt.Errorf("%s: it is no regular file; write the prefixes into one", path)
	case before.Size() > MaxPrefixFileBytes:
		return nil, nil, fmt.Errorf("%s: it has %d bytes, and at most %d are read; write shorter prefixes in place of many long ones", path, before.Size(), MaxPrefixFileBytes)
	}
	data, err := io.ReadAll(io.LimitReader(f, MaxPrefixFileBytes))
	if err != nil {
		return nil, nil, err
	}
	after, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	if changed(before, after, len(data)) {
		return nil, nil, fmt.Errorf("%s: %w", path, ErrChanging)
	}
	list, err := ParsePrefixes(path, string(data))
	if err == nil && needed && len(list) == 0 {
		err = fmt.Errorf("%s: there is no prefix in it, and as allow_file it would let nobody in; write some, such as 0.0.0.0/0 and ::/0 for everybody", path)
	}
	return list, after, err
}

// changed reports whether a file was another one after so many bytes of it were read.
func changed(before, after os.FileInfo, bytes int) bool {
	return !after.ModTime().Equal(before.ModTime()) || after.Size() != int64(bytes)
}

// ParsePrefixes reads the text of a file of prefixes: one on a line, or an address,
// which stands for itself alone; what follows # or ; is a comment. The last line has
// to end, or it might be the first half of another. The error is about the first bad
// line, "NAME:LINE: what is wrong; what to write".
func ParsePrefixes(name, text string) ([]netip.Prefix, error) {
	// A prefix takes some 16 bytes.
	out := make([]netip.Prefix, 0, min(len(text)/16, MaxListedPrefixes))
	var first error
	bad, n := 0, 0
	for line := range strings.Lines(text) {
		n++
		if !strings.HasSuffix(line, "\n") {
			return nil, fmt.Errorf("%s:%d: the last line does not end, so a part of it may be missing; write a newline behind it", name, n)
		}
		if at := strings.IndexAny(line, "#;"); at >= 0 {
			line = line[:at]
		}
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		prefix, wrong := parsePrefix(line)
		switch {
		case wrong != "":
			bad++
			if first == nil {
				first = fmt.Errorf("%s:%d: %s", name, n, wrong)
			}
		case len(out) == MaxListedPrefixes:
			return nil, fmt.Errorf("%s:%d: there are more than %d prefixes; write shorter ones in place of many long ones", name, n, MaxListedPrefixes)
		default:
			out = append(out, prefix)
		}
	}
	if bad > 1 {
		first = fmt.Errorf("%w (and %d more bad lines)", first, bad-1)
	}
	if first != nil {
		return nil, first
	}
	return out, nil
}

// parsePrefix reads a prefix, or an address, which stands for itself alone; wrong is
// what is wrong with it and what to write.
func parsePrefix(text string) (prefix netip.Prefix, wrong string) {
	prefix, err := netip.ParsePrefix(text)
	if a, alone := parseAddr(text); alone == nil {
		prefix, err = netip.PrefixFrom(a, a.BitLen()), nil
	}
	switch {
	case err != nil || prefix.Addr().Is4In6():
		return prefix, fmt.Sprintf("%s is not a prefix; write one like \"198.51.100.0/24\" or \"2001:db8::/32\"", shown(text))
	case prefix != prefix.Masked():
		return prefix, fmt.Sprintf("%s is an address in a network; write the network, \"%s\", or the address alone", prefix, prefix.Masked())
	}
	return prefix, ""
}
