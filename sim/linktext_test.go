package sim

import (
	"strings"
	"testing"
	"time"
)

func TestParseLink(t *testing.T) {
	for text, want := range map[string]Link{
		"":                            {},
		"speed=100M":                  {BitsPerSecond: 100_000_000},
		"speed=1G queue=64K":          {BitsPerSecond: 1_000_000_000, QueueBytes: 65536},
		"speed=9600 queue=1":          {BitsPerSecond: 9600, QueueBytes: 1},
		"delay=1ms":                   {DelayMin: ms, DelayMax: ms},
		"delay=1ms..5ms loss=1%":      {DelayMin: ms, DelayMax: 5 * ms, Loss: 0.01},
		"dup=100% corrupt=0.5%":       {Dup: 1, Corrupt: 0.005},
		" reorder=2%/10ms\tloss=0% ":  {Reorder: 0.02, HoldBack: 10 * ms},
		"speed=10T queue=1G delay=1h": {BitsPerSecond: MaxBitsPerSecond, QueueBytes: MaxQueueBytes, DelayMin: time.Hour, DelayMax: time.Hour},
	} {
		if got, err := ParseLink(text); err != nil || got != want {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	for text, want := range map[string]string{
		"speed=0":            "nothing ever leaves a link of speed 0",
		"speed=0G":           "nothing ever leaves a link of speed 0",
		"queue=0 speed=1M":   "nothing can wait in a queue of 0 bytes",
		"queue=64K":          "a queue needs a speed",
		"speed=-1":           "not a number from 1",
		"speed=11T":          "not a number from 1",
		"speed=":             "not a number from 1",
		"speed=99999999999T": "not a number from 1",
		"queue=2G speed=1":   "not a number from 1",
		"delay=5":            "not a time",
		"delay=-1ms":         "not a time",
		"delay=5ms..1ms":     "longest delay, 1ms, is below its shortest, 5ms",
		"delay=2h":           "not a time",
		"delay=1ms..":        "not a time",
		"loss=5":             "not a share",
		"loss=101%":          "not a share",
		"loss=-1%":           "not a share",
		"loss=NaN%":          "not a share",
		"reorder=1%":         "holds back for some time",
		"reorder=1%/x":       "not a time",
		"loss=1% loss=2%":    "there are two of loss",
		"jitter=1ms":         "a link has speed, queue",
		"fast":               "write speed=",
	} {
		if _, err := ParseLink(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestLinkCheck(t *testing.T) {
	for want, l := range map[string]Link{
		"loss is from 0":            {Loss: -0.1},
		"dup is from 0":             {Dup: 2},
		"delay is from 0":           {DelayMin: -1},
		"holds back for 0":          {HoldBack: -1},
		"speed is from 1 bit/s":     {BitsPerSecond: -1},
		"queue is from 1 to":        {BitsPerSecond: 1, QueueBytes: -1},
		"longest delay, 0s, is bel": {DelayMin: 1},
	} {
		if err := l.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", l, err, want)
		}
	}
	if err := (&Link{}).Check(); err != nil {
		t.Error(err)
	}
}

func FuzzParseLink(f *testing.F) {
	f.Add("speed=100M queue=64K delay=1ms..5ms loss=1% dup=1% corrupt=1% reorder=1%/10ms")
	f.Fuzz(func(t *testing.T, text string) {
		if l, err := ParseLink(text); err == nil && l.Check() != nil {
			t.Errorf("%q is taken as %+v, which cannot be", text, l)
		}
	})
}
