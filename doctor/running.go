package doctor

import "strings"

// running is a daemon that is not there: what only it sees of the LAN is not known; and
// what it tells by itself.
func running(f *Facts) (out []Finding) {
	if f.NotRunning != "" && f.File == "" {
		why, mend, told := strings.Cut(f.NotRunning, "; ")
		if !told {
			mend = "start the daemon; when it does not stay, its log says why: `journalctl -u onevoice`"
		}
		return []Finding{{Code: "not-running", Harms: true, Text: "what this LAN does is not known: " + why, Mend: mend}}
	}
	for _, w := range f.Told {
		text, mend, found := strings.Cut(w, "; ")
		if !found {
			mend = "see `onevoice status`, here and there, and look at cables and at the switch's ports"
		}
		out = append(out, Finding{Code: "status", Harms: true, Text: text, Mend: mend})
	}
	return out
}
