package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
)

// Explanation is which node answers a client, and why.
type Explanation struct {
	// Client is an address, or an address with a port where ports are hashed. To is
	// what it asks for.
	Client string `json:"client"`
	To     string `json:"to"`
	// Service is "" where the VIP has none on that port.
	Service  string `json:"service,omitempty"`
	Hash     string `json:"hash"`
	Affinity string `json:"affinity"`
	// Bucket is from 0 on, of Buckets; null where it cannot be told. Number is the same
	// as the other system counts, where the hash is one's.
	Bucket  *int `json:"bucket"`
	Buckets int  `json:"buckets"`
	Number  *int `json:"number,omitempty"`
	// Owner is the name of the node that answers, "" for nobody.
	Owner        string `json:"owner"`
	OwnerAddress string `json:"owner_address,omitempty"`
	// Foreign: the owner is another system's node. Self: it is the one that was asked.
	Foreign bool `json:"foreign"`
	Self    bool `json:"self"`
	// Answers: it may accept something new now, as far as is known here.
	Answers bool   `json:"answers"`
	Why     string `json:"why"`
	// Next is who would answer were the owner to die, "" for nobody.
	Next    string `json:"next"`
	NextWhy string `json:"next_why"`
	// Denied: the client may begin nothing with the service, by AccessWhy, which is ""
	// where everybody may.
	Denied    bool   `json:"denied"`
	AccessWhy string `json:"access_why,omitempty"`
	// Drainers may hold running flows of the bucket.
	Drainers []string `json:"drainers,omitempty"`
	// From is what was asked: a node, or a file alone.
	From string `json:"from"`
}

// Explainer tells who answers a client, an address with or without a port, that asks
// for an address with a port.
type Explainer func(client, to string) (*Explanation, error)

// AskWhy has the daemon on the socket at path explain who answers a client. The error
// is a sentence for the person who called.
func AskWhy(ctx context.Context, path, client, to string) (*Explanation, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	body, of, err := get(ctx, path, "/v1/explain?"+url.Values{"client": {client}, "to": {to}}.Encode())
	if err != nil {
		return nil, err
	}
	var e Explanation
	if err := json.Unmarshal(body, &e); err != nil {
		return nil, fmt.Errorf("the answer on %s is not an explanation: %w; %s", path, err, of)
	}
	return &e, nil
}

func answerWhy(w http.ResponseWriter, r *http.Request, explain Explainer) {
	q := r.URL.Query()
	e, err := explain(q.Get("client"), q.Get("to"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	// A caller that went away is nobody's error.
	_ = enc.Encode(e)
}
