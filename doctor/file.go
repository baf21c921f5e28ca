package doctor

// file is a configuration that cannot be used. Config tells what to write.
func file(f *Facts) []Finding {
	if f.File == "" {
		return nil
	}
	return []Finding{{Code: "file", Harms: true, Text: "the configuration file cannot be used: " + f.File, Mend: "write what it says, and try `onevoice check`"}}
}

// fileWarns is what is allowed in the file and may bite.
func fileWarns(f *Facts) (out []Finding) {
	for _, w := range f.Warnings {
		out = append(out, Finding{Code: "file-warning", Text: w, Mend: "see `onevoice check`"})
	}
	return out
}
