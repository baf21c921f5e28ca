package main

import (
	"io"
	"log/slog"
	"os"
)

// logVariable of the environment says how the daemon logs: "text", which is the
// default, or "json". Its workers have the same environment.
const logVariable = "ONEVOICE_LOG"

// newLog writes one line for each change of state, and of a flood of them a few.
func newLog(w io.Writer) *slog.Logger {
	form := os.Getenv(logVariable)
	var h slog.Handler = slog.NewTextHandler(w, nil)
	if form == "json" {
		h = slog.NewJSONHandler(w, nil)
	}
	log := slog.New(newLimited(h))
	if form != "" && form != "text" && form != "json" {
		log.Warn(logVariable+" is not a form of log; write text or json", "value", form)
	}
	return log
}

// auditOf is the same log for what operators have asked for. None of that is left out:
// only those can make lines of it who may end the daemon as well.
func auditOf(log *slog.Logger) *slog.Logger {
	if l, ok := log.Handler().(*limited); ok {
		return slog.New(l.Handler)
	}
	return log
}
