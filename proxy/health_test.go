package proxy

import (
	"testing"
	"time"
)

func TestHealthDialsOnceASecondWhileRefused(t *testing.T) {
	var h Health
	if _, due := h.Next(); due || !h.Up() {
		t.Fatal("a backend that was never dialled is not up, or is to be dialled")
	}
	if !h.Refused(10*time.Second) || h.Up() {
		t.Error("the first refusal is no news")
	}
	at, due := h.Next()
	if !due || at != 11*time.Second {
		t.Errorf("next dial at %v, %v", at, due)
	}
	h.Probing(11 * time.Second)
	if _, due := h.Next(); due {
		t.Error("a second dial while one is under way")
	}
	if h.Refused(11*time.Second) || h.Since() != 10*time.Second {
		t.Error("a repeated refusal is news")
	}
	if at, due := h.Next(); !due || at != 12*time.Second {
		t.Errorf("next dial at %v, %v", at, due)
	}
	if !h.Connected(12*time.Second) || !h.Up() || h.Since() != 12*time.Second {
		t.Error("the backend that is back is no news")
	}
	if _, due := h.Next(); due {
		t.Error("a backend that is up is to be dialled")
	}
}

// A client whose dial nobody takes may be banned by a packet filter: that alone takes the
// backend down for nobody.
func TestHealthDoubtsWhatAClientMeets(t *testing.T) {
	var h Health
	due := func(want time.Duration) {
		t.Helper()
		if at, due := h.Next(); !due || at != want {
			t.Errorf("a dial without a client is due at %v, %v; want %v", at, due, want)
		}
	}
	h.Doubt(5 * time.Second)
	due(5 * time.Second)
	if !h.Up() {
		t.Error("one client's refusal is everybody's")
	}
	h.Probing(5 * time.Second)
	if h.Connected(5*time.Second) || !h.Up() {
		t.Error("the backend was never down, and it is news that it is up")
	}
	// It goes on being refused.
	h.Doubt(5*time.Second + 300*time.Millisecond)
	h.Doubt(5*time.Second + 400*time.Millisecond)
	due(6 * time.Second)
	h.Probing(6 * time.Second)
	if !h.Refused(6*time.Second) || h.Up() {
		t.Error("a backend that refuses without a client too is up")
	}
	due(7 * time.Second)
	h.Doubt(6*time.Second + 1)
	due(7 * time.Second)
	if !h.Connected(7 * time.Second) {
		t.Error("the backend that is back is no news")
	}
	if _, due := h.Next(); due {
		t.Error("a backend that is up is to be dialled")
	}
}
