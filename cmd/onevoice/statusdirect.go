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
		if n := w.Direct.Before; n > 0 {
			text += fmt.Sprintf("; %d programs of others come before it at the interface, and what these let pass or drop for good it does not see: have them return TCX_NEXT, or stop and start onevoice, which puts its own before them", n)
		}
		fmt.Fprintln(out, "\n"+wrapped("DIRECT   ", text))
	}
	return printVerdicts(out, "RULINGS ON FRAMES OF THE DIRECT PATH", s.Rulings)
}
