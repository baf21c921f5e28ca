package doctor

// running is a daemon that is not there: what only it sees of the LAN is not known.
func running(f *Facts) []Finding {
	if f.NotRunning == "" || f.File != "" {
		return nil
	}
	return []Finding{{
		Code: "not-running", Harms: true,
		Text: "what this LAN does is not known: " + f.NotRunning,
		Mend: "start the daemon; when it does not stay, its log says why: `journalctl -u onevoice`",
	}}
}
