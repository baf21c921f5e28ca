package main

import (
	"io"
	"log/slog"
	"os"
)

// logVariable of the environment says how the daemon logs: "text", which is the
// default, or "json". Its workers have the same environment.
const logVariable = "ONEVOICE_LOG"

// newLog writes one line for each change of state.
func newLog(w io.Writer) *slog.Logger {
	form := os.Getenv(logVariable)
	if form == "json" {
		return slog.New(slog.NewJSONHandler(w, nil))
	}
	log := slog.New(slog.NewTextHandler(w, nil))
	if form != "" && form != "text" {
		log.Warn(logVariable+" is not a form of log; write text or json", "value", form)
	}
	return log
}
