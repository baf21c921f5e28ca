package local

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// bootID names this boot of the machine (random(4)).
const bootID = "/proc/sys/kernel/random/boot_id"

// here is an empty record of this boot and this network namespace.
func here() (*record, error) {
	boot, err := os.ReadFile(bootID)
	if err != nil {
		return nil, fmt.Errorf("local: %w", err)
	}
	ns, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		return nil, fmt.Errorf("local: %w", err)
	}
	return &record{Boot: strings.TrimSpace(string(boot)), Namespace: ns}, nil
}

// read is the record of this boot and namespace; an empty one where there is none, for
// with those all that was set is gone.
func read(path string) (*record, error) {
	r, err := here()
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return nil, fmt.Errorf("local: %w", err)
	}
	var was record
	if err := json.Unmarshal(b, &was); err != nil {
		return nil, fmt.Errorf("local: %s says what was changed on this host, and cannot be read (%w); look at the interface's arp_ignore and arp_announce and at `ip route show table local proto 178`, and remove the file", path, err)
	}
	if was.Boot != r.Boot || was.Namespace != r.Namespace {
		return r, nil
	}
	return &was, nil
}

// write puts a record in the place of another, durably.
func write(path string, r *record) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("local: %w", err)
	}
	next := path + ".new"
	f, err := os.OpenFile(next, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("local: %w", err)
	}
	_, err = f.Write(append(b, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("local: %w", err)
	}
	if err := os.Rename(next, path); err != nil {
		return fmt.Errorf("local: %w", err)
	}
	return nil
}
