package main

import (
	"fmt"
	"io"

	"onevoice/admin"
	"onevoice/control"
)

// prefixWarnings tell of files of prefixes that cannot be used.
func prefixWarnings(files []control.PrefixFileStatus) (out []string) {
	for i := range files {
		if f := &files[i]; f.Error != "" {
			out = append(out, fmt.Sprintf("%s. Until then what it said before stays in force: %d prefixes", f.Error, f.Prefixes))
		}
	}
	return out
}

// printPrefixFiles tells what files of prefixes say.
func printPrefixFiles(out io.Writer, s *admin.Status) {
	for i := range s.PrefixFiles {
		f := &s.PrefixFiles[i]
		head, text := "", fmt.Sprintf("%d prefixes of %s, read %s ago", f.Prefixes, f.File, duration(f.Seconds))
		if i == 0 {
			head = "\n"
		}
		if f.Error != "" {
			text += "; what it says now CANNOT BE USED"
		}
		fmt.Fprintln(out, head+wrapped("LIST     ", text))
	}
}
