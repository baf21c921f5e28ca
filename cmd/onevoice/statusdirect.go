package main

import (
	"fmt"
	"io"

	"onevoice/admin"
)

// printDirect tells of the services that this host's own stack serves.
func printDirect(out io.Writer, s *admin.Status) error {
	if s.Rulings == nil {
		return nil
	}
	for i := range s.Workers {
		w := &s.Workers[i]
		if w.Direct == nil || w.Retired {
			continue
		}
		text := "in the kernel; connections outlive this program"
		if !w.Direct.Pinned {
			text = "in the kernel; connections stand still while this program is away, for " + w.Direct.Reason
		}
		fmt.Fprintln(out, "\n"+wrapped("DIRECT   ", text))
	}
	return printVerdicts(out, "RULINGS ON FRAMES OF THE DIRECT PATH", s.Rulings)
}
