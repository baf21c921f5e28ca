package main

import (
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// newManCommand writes the manual pages that packages have. People read them, and
// nobody but `make package` runs this.
func newManCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "man DIRECTORY",
		Short:  "Write the manual pages",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			root.DisableAutoGenTag = true
			at, err := builtAt()
			if err != nil {
				return err
			}
			header := &doc.GenManHeader{Title: "ONEVOICE", Section: "1", Source: "onevoice " + version(), Date: &at}
			return doc.GenManTree(root, header, args[0])
		},
	}
}

// builtAt is the time that pages bear: SOURCE_DATE_EPOCH, so that the same source
// makes the same bytes (reproducible-builds.org), and 1970 without it.
func builtAt() (time.Time, error) {
	text := os.Getenv("SOURCE_DATE_EPOCH")
	if text == "" {
		return time.Unix(0, 0).UTC(), nil
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH is %q; write seconds since 1970", text)
	}
	return time.Unix(seconds, 0).UTC(), nil
}
