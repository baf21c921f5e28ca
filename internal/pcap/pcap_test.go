package pcap

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"os"
)

func written(frames ...[]byte) []byte {
	var b bytes.Buffer
	w := NewWriter(&b)
	for i, f := range frames {
		w.Frame(1_700_000_000*time.Second+time.Duration(i)*1234567*time.Nanosecond, f)
	}
	_ = w.Flush()
	return b.Bytes()
}

func frame(n int) []byte {
	f := make([]byte, n)
	copy(f, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 0x88, 0xb5})
	return f
}

func readAll(b []byte) (out []Frame, err error) {
	r, err := NewReader(bytes.NewReader(b))
	for err == nil {
		var f Frame
		if f, err = r.Next(); err == nil {
			f.Data = bytes.Clone(f.Data)
			out = append(out, f)
		}
	}
	if err == io.EOF {
		err = nil
	}
	return out, err
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	in := [][]byte{frame(60), frame(1514), frame(14)}
	out, err := readAll(written(in...))
	if err != nil || len(out) != len(in) {
		t.Fatalf("%d frames, %v", len(out), err)
	}
	for i, f := range out {
		if !bytes.Equal(f.Data, in[i]) || f.Bytes != len(in[i]) || f.At != 1_700_000_000*time.Second+time.Duration(i)*1234567 {
			t.Errorf("frame %d: %d bytes at %v", i, len(f.Data), f.At)
		}
	}
}

// tcpdump reads what is written.
func TestTcpdumpReadsIt(t *testing.T) {
	tcpdump, err := exec.LookPath("tcpdump")
	if err != nil {
		t.Skip("tcpdump is not here")
	}
	file := filepath.Join(t.TempDir(), "x.pcap")
	if err := os.WriteFile(file, written(frame(60), frame(99)), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(tcpdump, "-enr", file).CombinedOutput()
	if err != nil || strings.Count(string(out), "length 60")+strings.Count(string(out), "length 99") != 2 {
		t.Errorf("%v: %s", err, out)
	}
}

// bigEndianMicro is a file as another machine would write it, by hand.
func bigEndianMicro() []byte {
	b := binary.BigEndian.AppendUint32(nil, magicMicro)
	b = append(b, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 0, 0, 0, 1)
	b = append(b, 0, 0, 0, 7, 0, 0, 0, 9, 0, 0, 0, 14, 0, 0, 0, 60)
	return append(b, frame(14)...)
}

// ng is a pcapng file with an interface in nanoseconds, a block that nobody
// knows, an enhanced and a simple packet.
func ng(order binary.AppendByteOrder, link uint16) []byte {
	var out []byte
	block := func(kind uint32, body []byte) {
		for len(body)%4 != 0 {
			body = append(body, 0)
		}
		n := uint32(12 + len(body))
		out = order.AppendUint32(order.AppendUint32(out, kind), n)
		out = order.AppendUint32(append(out, body...), n)
	}
	section := order.AppendUint32(nil, byteOrderMagic)
	block(blockSection, append(section, 0, 1, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255))
	desc := order.AppendUint16(nil, link)
	desc = order.AppendUint32(append(desc, 0, 0), 0)
	desc = order.AppendUint16(order.AppendUint16(desc, optionTsresol), 1)
	block(blockInterface, append(desc, 9, 0, 0, 0, 0, 0, 0, 0))
	block(0x40000bad, []byte("unknown"))
	at := uint64(3*time.Second + 5)
	packet := order.AppendUint32(nil, 0)
	packet = order.AppendUint32(order.AppendUint32(packet, uint32(at>>32)), uint32(at))
	packet = order.AppendUint32(order.AppendUint32(packet, 62), 62)
	block(blockEnhanced, append(packet, frame(62)...))
	block(blockSimple, append(order.AppendUint32(nil, 61), frame(61)...))
	return out
}

func TestOtherWriters(t *testing.T) {
	out, err := readAll(bigEndianMicro())
	if err != nil || len(out) != 1 || out[0].At != 7*time.Second+9*time.Microsecond || out[0].Bytes != 60 {
		t.Errorf("%+v, %v", out, err)
	}
	for _, order := range []binary.AppendByteOrder{binary.LittleEndian, binary.BigEndian} {
		out, err := readAll(ng(order, 1))
		if err != nil || len(out) != 2 || out[0].At != 3*time.Second+5 || !bytes.Equal(out[0].Data, frame(62)) || !bytes.Equal(out[1].Data, frame(61)) {
			t.Errorf("%v: %+v, %v", order, out, err)
		}
	}
}

func TestBadCapturesAreRefused(t *testing.T) {
	good := written(frame(60))
	long := slices.Clone(good)
	binary.LittleEndian.PutUint32(long[32:], MaxFrame+1)
	cooked := slices.Clone(good)
	cooked[20] = 113
	hugeBlock := ng(binary.LittleEndian, 1)
	binary.LittleEndian.PutUint32(hugeBlock[28+4:], maxBlock+4)
	for name, c := range map[string]struct {
		data []byte
		says string
	}{
		"nothing":     {nil, "only 0 bytes"},
		"text":        {[]byte("hello, world"), "neither pcap nor pcapng"},
		"gzip":        {[]byte{0x1f, 0x8b, 8, 0}, "gunzip"},
		"header":      {good[:20], "within its header"},
		"cut":         {good[:70], "ends within frame 1"},
		"cut stamp":   {good[:30], "ends within frame 1"},
		"too long":    {long, "said to have"},
		"link type":   {cooked, "link type is 113"},
		"ng link":     {ng(binary.LittleEndian, 113), "link type is 113"},
		"ng cut":      {ng(binary.LittleEndian, 1)[:70], "cut off"},
		"ng block":    {hugeBlock, "said to have"},
		"ng no order": {append([]byte{0x0a, 0x0d, 0x0d, 0x0a}, make([]byte, 24)...), "without a byte order"},
	} {
		_, err := readAll(c.data)
		if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
}

// FuzzReader: no file makes it panic, or read for ever.
func FuzzReader(f *testing.F) {
	f.Add(written(frame(60)))
	f.Add(bigEndianMicro())
	f.Add(ng(binary.LittleEndian, 1))
	f.Add(ng(binary.BigEndian, 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		out, err := readAll(b)
		if len(out) > len(b) {
			t.Errorf("%d frames out of %d bytes, %v", len(out), len(b), err)
		}
	})
}
