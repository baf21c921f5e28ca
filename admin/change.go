package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"onevoice/config"
)

// What a change of the running process may Do.
const (
	// DoUpgrade starts the program that is on disk now; DoReload the one that runs,
	// with its file as it is now.
	DoUpgrade = "upgrade"
	DoReload  = "reload"
)

// States of a change.
const (
	ChangeRunning = "running"
	ChangeDone    = "done"
	ChangeFailed  = "failed"
)

// Change is the body of POST /v1/change, which is answered with a ChangeStatus as soon
// as the change has begun.
type Change struct {
	Do string `json:"do"`
}

// ChangeStatus is the last change, and the answer to GET /v1/change.
type ChangeStatus struct {
	// ID is 0 where there was none yet.
	ID uint64 `json:"id"`
	Do string `json:"do,omitempty"`
	// State is "running", "done" or "failed".
	State string `json:"state,omitempty"`
	// From and To are versions of the program.
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
	// Error says why it has failed: the process before serves on.
	Error string `json:"error,omitempty"`
	// Changes are the differences of the file; nil where nothing was compared.
	Changes []config.Change `json:"changes,omitempty"`
	// Seconds is how long it took, and Unserved how much of it this node accepted
	// nothing new.
	Seconds  float64 `json:"seconds,omitempty"`
	Unserved float64 `json:"unserved_seconds,omitempty"`
}

func beginChange(w http.ResponseWriter, r *http.Request, d *Daemon) {
	var c Change
	if !ReadBody(w, r, &c) {
		return
	}
	s, err := d.Change(c)
	d.Audit(by(r), err, "for", c.Do)
	if err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	answerChange(w, s)
}

func answerChange(w http.ResponseWriter, s ChangeStatus) {
	w.Header().Set("Content-Type", "application/json")
	// A caller that went away is nobody's error.
	_ = json.NewEncoder(w).Encode(s)
}

// BeginChange has the daemon on the socket at path begin a change.
func BeginChange(ctx context.Context, path string, c Change) (s ChangeStatus, err error) {
	text, err := post(ctx, path, "change", c)
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return s, fmt.Errorf("the answer on %s says nothing of a change: %w", path, err)
	}
	return s, nil
}

// LastChange asks the daemon on the socket at path for its last change. In the midst
// of one it answers when a process serves again.
func LastChange(ctx context.Context, path string) (s ChangeStatus, err error) {
	body, of, err := get(ctx, path, "/v1/change")
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(body, &s); err != nil {
		return s, fmt.Errorf("the answer on %s says nothing of a change: %w; %s", path, err, of)
	}
	return s, nil
}
