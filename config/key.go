package config

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

// KeyBytes is the length of a cluster key.
const KeyBytes = 32

// maxKeyFileBytes bounds what is read of a key file.
const maxKeyFileBytes = 4 << 10

// ReadKey reads the cluster key: 64 hexadecimal digits on a line of their own,
// beside comment lines that begin with #. It refuses a file that
// others may read or replace.
func ReadKey(path string) ([]byte, error) {
	data, err := readSecret(path, maxKeyFileBytes, "join the cluster", "key file")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w; make it with `onevoice keygen --out %s` on one node and copy it to the others", err, path)
	}
	if err != nil {
		return nil, unreadSecret(path, err)
	}
	return parseKey(path, data)
}

func parseKey(path string, data []byte) ([]byte, error) {
	var key []byte
	lines := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		b, err := hex.DecodeString(line)
		if err != nil || len(b) != KeyBytes || key != nil {
			return nil, fmt.Errorf("%s:%d: this is not one key of %d hexadecimal digits; make a new file with `onevoice keygen`", path, n, 2*KeyBytes)
		}
		key = b
	}
	if key == nil {
		return nil, fmt.Errorf("%s: there is no key in it; make a new file with `onevoice keygen`", path)
	}
	return key, nil
}

// FormatKey is the text of a key file.
func FormatKey(key []byte) string {
	return "# Cluster key of onevoice. Whoever has it can join the cluster.\n" + hex.EncodeToString(key) + "\n"
}
