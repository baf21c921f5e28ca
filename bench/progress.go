package bench

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"
)

// progress tells how far a run is: on a terminal always, else with a line for
// each round.
type progress struct {
	out   io.Writer
	live  bool
	total int
	done  int
	round int
	began time.Time
}

func newProgress(out io.Writer, total int) *progress {
	f, ok := out.(*os.File)
	return &progress{out: out, live: ok && term.IsTerminal(int(f.Fd())), total: total, began: time.Now()}
}

// columns is how wide everything is at most.
const columns = 80

// step tells that a measurement begins.
func (p *progress) step(round, rounds int, test, path string) {
	left := ""
	if p.done > 0 {
		each := time.Since(p.began) / time.Duration(p.done)
		left = fmt.Sprintf(", %s left", (each * time.Duration(p.total-p.done)).Round(time.Second))
	}
	p.done++
	if p.live {
		p.line(fmt.Sprintf("round %d of %d, %d of %d: %s, %s%s", round, rounds, p.done, p.total, test, path, left))
		return
	}
	if p.round != round {
		p.round = round
		fmt.Fprintf(p.out, "round %d of %d%s\n", round, rounds, left)
	}
}

// line writes over the terminal's line.
func (p *progress) line(text string) {
	fmt.Fprintf(p.out, "\r%-*.*s", columns-1, columns-1, text)
}

// failed tells at once what is also in the report.
func (p *progress) failed(test, path string, err error) {
	if p.live {
		p.line("")
		fmt.Fprint(p.out, "\r")
	}
	fmt.Fprintf(p.out, "%s, %s: %v\n", test, path, err)
}

// end leaves the terminal's line empty.
func (p *progress) end() {
	if p.live {
		p.line("")
		fmt.Fprint(p.out, "\r")
	}
}
