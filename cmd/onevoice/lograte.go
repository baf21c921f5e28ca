package main

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// Bounds of the log: of each message so many lines at once, and then one in a time.
const (
	logBurst    = 50
	logInterval = 5 * time.Second
	// maxLogMessages is how many messages are told apart; the rest counts as one.
	maxLogMessages = 256
)

// limited is a handler that leaves lines out when there are too many with one message,
// and says how many it has left out: with the next line of that message, or, once
// it would be let through, before the next line of any. Whoever can make this host say
// something again and again can so not fill its disk. The clock is that of the records.
type limited struct {
	slog.Handler
	*logRates
}

// logRates is shared by the handlers that come of one by WithAttrs and WithGroup.
type logRates struct {
	mu   sync.Mutex
	said map[string]*logRate
}

// logRate is of one message: paid is when what was said of it is paid for, at one line
// each logInterval, and leftOut is how many lines were left out.
type logRate struct {
	paid    time.Time
	leftOut int
}

func newLimited(h slog.Handler) *limited {
	return &limited{h, &logRates{said: map[string]*logRate{}}}
}

// WithAttrs implements slog.Handler.
func (l *limited) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &limited{l.Handler.WithAttrs(attrs), l.logRates}
}

// WithGroup implements slog.Handler.
func (l *limited) WithGroup(name string) slog.Handler {
	return &limited{l.Handler.WithGroup(name), l.logRates}
}

// Handle implements slog.Handler.
func (l *limited) Handle(ctx context.Context, r slog.Record) error {
	say, leftOut, others := l.admit(r.Message, r.Time)
	for _, o := range others {
		one := slog.NewRecord(r.Time, slog.LevelWarn, "lines were left out of the log", 0)
		one.AddAttrs(slog.String("of", o.message), slog.Int("left_out", o.lines))
		if err := l.Handler.Handle(ctx, one); err != nil {
			return err
		}
	}
	if !say {
		return nil
	}
	if leftOut > 0 {
		r = r.Clone()
		r.AddAttrs(slog.Int("left_out", leftOut))
	}
	return l.Handler.Handle(ctx, r)
}

// leftOut is how many lines of a message were left out.
type leftOut struct {
	message string
	lines   int
}

// admit says whether a line is let through, how many of its message were not before,
// and of which other messages it is time to say that.
func (l *logRates) admit(message string, now time.Time) (say bool, before int, others []leftOut) {
	l.mu.Lock()
	defer l.mu.Unlock()
	one := l.said[message]
	if one == nil {
		l.forget(now)
		if len(l.said) >= maxLogMessages {
			message = "messages of many kinds"
		}
		if one = l.said[message]; one == nil {
			one = &logRate{}
			l.said[message] = one
		}
	}
	if one.paid.Sub(now) > (logBurst-1)*logInterval {
		one.leftOut++
		return false, 0, nil
	}
	if one.paid.Before(now) {
		one.paid = now
	}
	one.paid = one.paid.Add(logInterval)
	before, one.leftOut = one.leftOut, 0
	for message, o := range l.said {
		if o.leftOut > 0 && o.paid.Sub(now) <= (logBurst-1)*logInterval {
			others = append(others, leftOut{message, o.leftOut})
			o.leftOut = 0
		}
	}
	slices.SortFunc(others, func(a, b leftOut) int { return b.lines - a.lines })
	return true, before, others
}

// forget forgets the messages that are paid for.
func (l *logRates) forget(now time.Time) {
	for message, o := range l.said {
		if o.leftOut == 0 && o.paid.Before(now) {
			delete(l.said, message)
		}
	}
}
