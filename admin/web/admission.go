package web

// admission is who was turned away, and the files that say who is.
func (c collector) admission() []family {
	turned := counter("turned_away_total", "What was new and not admitted, by why.").by("service", "why")
	for i := range c.Services {
		s := &c.Services[i]
		if t := s.TurnedAway; t != nil {
			turned.values = append(turned.values, count(t.Denied, s.Name, "denied"), count(t.OverRate, s.Name, "over-rate"),
				count(t.SourceFull, s.Name, "source-full"), count(t.NodeFull, s.Name, "node-full"))
		}
	}
	prefixes := gauge("prefix_file_prefixes", "How many prefixes of allow_file or deny_file are in force.").by("file")
	usable := gauge("prefix_file_usable", "1 while what is in force is what the file says; 0 when it cannot be used, and what it said before is in force.").by("file")
	read := gauge("prefix_file_read_seconds", "When what is in force was read, in seconds ago.").by("file")
	for i := range c.PrefixFiles {
		f := &c.PrefixFiles[i]
		prefixes.values = append(prefixes.values, count(f.Prefixes, f.File))
		usable.values = append(usable.values, is(f.Error == "", f.File))
		read.values = append(read.values, value{f.Seconds, []string{f.File}})
	}
	return []family{turned, prefixes, usable, read}
}
