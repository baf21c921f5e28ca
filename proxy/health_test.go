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
	h.Probing()
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
