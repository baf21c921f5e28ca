package doctor

// running is a daemon that is not there: what only it sees of the LAN is not known.
func running(f *Facts) []Finding {
	if f.NotRunning == "" || f.File != "" {
		return nil
	}
	return []Finding{{
		Code: "not-running", Harms: true,
		Text: "no daemon answers here, so that nothing is known of the LAN: " + f.NotRunning,
		Mend: "start it with `onevoice run`, or name its socket with --socket",
	}}
}
