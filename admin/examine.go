package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"onevoice/control"
)

// examineFor is how long the other nodes get to answer.
const examineFor = 3 * time.Second

// Examine has the daemon on the socket at path ask the other nodes of themselves, and
// have them send to the shared MACs. The error is a sentence for the person who called.
func Examine(ctx context.Context, path string) (out control.Examined, err error) {
	text, err := post(ctx, path, "examine", struct{}{})
	if err != nil {
		return out, err
	}
	if err := json.Unmarshal(text, &out); err != nil {
		return out, fmt.Errorf("the answer on %s says nothing of other nodes: %w", path, err)
	}
	return out, nil
}

func answerExamine(w http.ResponseWriter, r *http.Request, d *Daemon) {
	ctx, cancel := context.WithTimeout(r.Context(), examineFor)
	defer cancel()
	found, err := d.Examine(ctx)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(found)
}
