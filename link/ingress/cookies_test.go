package ingress

import (
	"net/netip"
	"testing"
)

// answeringFilter is a filter that can answer on the near end of a wire.
func answeringFilter(t testing.TB) *Filter {
	t.Helper()
	f := loaded(t, every())
	if err := f.AttachHost("near"); err != nil {
		t.Fatal(err)
	}
	if err := f.NoAnswers(); err != nil {
		t.Fatalf("%+v", err)
	}
	return f
}

func TestCookiesLoad(t *testing.T) {
	newWire(t)
	f := answeringFilter(t)
	c := Cookies{Port: 22, Plain: make([]byte, plainBytes), Stamped: make([]byte, stampedBytes)}
	f.SetCookies(0, &c)
	all := [4]uint64{^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0)}
	f.SetAnswerLease(0, 1<<62)
	f.AnswerSYNs(0, &all)
	for range 10 {
		b := segment(netip.MustParseAddrPort("198.51.100.7:40000"), netip.AddrPortFrom(vip, 22), syn, 0)
		out, err := f.Answer(b)
		t.Logf("%x %v %+v", out, err, f.Stats())
	}
}
