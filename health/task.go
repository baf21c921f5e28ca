package health

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Status is the state of one thing that is watched.
type Status struct {
	Name    string // "service ssh", "agent /path", "uplink 192.0.2.1", "gateway 192.0.2.254"
	Known   bool   // there was an answer
	Up      bool   // of a service or gateway
	Percent int    // weight, of an agent or uplink; 100 or 0 for the others
	Since   time.Duration
	Text    string // the last answer, for people, one line
}

// answer is what a probe has found.
type answer struct {
	text string
	rtt  time.Duration
	err  error
}

// result is an answer on its way to the loop.
type result struct {
	task   *task
	answer answer
}

// task is one thing to ask again and again. ask runs beside the loop, finish in
// it.
type task struct {
	schedule *Schedule
	ask      func(context.Context) answer
	finish   func(now time.Duration, a answer)
}

// plan makes the tasks of the options. First probes are due soon after now.
func (m *Monitor) plan(now time.Duration) error {
	o := &m.opts
	count := len(o.Services) + len(o.Agents) + len(o.Uplinks.Hosts) + 1
	if count > MaxTasks {
		return fmt.Errorf("%d things to watch are too many; at most %d are possible", count, MaxTasks)
	}
	// Spread, so that a start is no burst.
	first := func() time.Duration {
		return now + time.Duration(len(m.tasks))*100*time.Millisecond/time.Duration(count)
	}
	for i := range o.Services {
		if err := o.Services[i].Check.Validate(); err != nil {
			return fmt.Errorf("service %s: %w", o.Services[i].Name, err)
		}
		m.planService(&o.Services[i], first())
	}
	for i := range o.Agents {
		if err := o.Agents[i].validate(); err != nil {
			return err
		}
		m.planAgent(i, first())
	}
	if err := m.planUplinks(first); err != nil {
		return err
	}
	return m.planGateway(first())
}

// add takes up a task and returns its number in the report.
func (m *Monitor) add(t *task, name string) int {
	m.tasks = append(m.tasks, t)
	m.report = append(m.report, Status{Name: name, Percent: FullWeight})
	return len(m.tasks) - 1
}

// note records a status, keeping the name.
func (m *Monitor) note(i int, s Status) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s.Name, s.Known, s.Text = m.report[i].Name, true, oneLine(s.Text)
	m.report[i] = s
}

func (m *Monitor) noteChecker(i int, c *Checker, err error) {
	s := Status{Up: c.up, Since: c.since, Text: "answers"}
	if c.up {
		s.Percent = FullWeight
	}
	if err != nil {
		s.Text = err.Error()
	}
	m.note(i, s)
}

func (m *Monitor) planService(s *Service, first time.Duration) {
	check := s.Check
	c := NewChecker(s.Name, &check, first)
	t := &task{schedule: &c.Schedule}
	i := m.add(t, "service "+s.Name)
	t.ask = func(ctx context.Context) answer { return answer{err: check.Probe(ctx)} }
	t.finish = func(now time.Duration, a answer) {
		change, changed := c.Step(now, a.err)
		m.noteChecker(i, c, a.err)
		if changed && m.opts.OnChange != nil {
			m.opts.OnChange(change)
		}
	}
}

func (m *Monitor) planGateway(first time.Duration) error {
	g := m.opts.Gateway
	if !g.Addr.IsValid() {
		return nil
	}
	timing := Check{Interval: g.Interval, Timeout: g.Timeout, Rise: g.Rise, Fall: g.Fall, HoldDown: g.HoldDown}
	if err := timing.validateTiming(); err != nil {
		return fmt.Errorf("gateway %v: %w", g.Addr, err)
	}
	if !g.Addr.Is4() {
		return fmt.Errorf("gateway %v is no IPv4 address to ping; write one", g.Addr)
	}
	c := NewChecker(g.Addr.String(), &timing, first)
	probe := &gateway{addr: g.Addr, ping: Ping, resolve: neighbour}
	t := &task{schedule: &c.Schedule}
	i := m.add(t, "gateway "+g.Addr.String())
	t.ask = func(ctx context.Context) answer { return answer{err: probe.probe(ctx, g.Timeout)} }
	t.finish = func(now time.Duration, a answer) {
		change, changed := c.Step(now, a.err)
		m.noteChecker(i, c, a.err)
		if changed && m.opts.OnGateway != nil {
			m.opts.OnGateway(change)
		}
	}
	return nil
}

func (m *Monitor) planUplinks(first func() time.Duration) error {
	o := &m.opts.Uplinks
	if len(o.Hosts) == 0 {
		return nil
	}
	if err := validateInterval(o.Interval, o.Timeout); err != nil {
		return fmt.Errorf("ping: %w", err)
	}
	for n, host := range o.Hosts {
		if !host.Is4() {
			return fmt.Errorf("%v is no IPv4 address to ping; write one", host)
		}
		u := NewUplink(o.Interval, first())
		t := &task{schedule: &u.Schedule}
		i := m.add(t, "uplink "+host.String())
		t.ask = func(ctx context.Context) answer {
			rtt, err := Ping(ctx, host, o.Timeout)
			return answer{rtt: rtt, err: err}
		}
		t.finish = func(now time.Duration, a answer) {
			u.Step(a.rtt, a.err != nil)
			text := fmt.Sprintf("%.0f%% lost, round trip %v, calm %v", 100*u.Loss(), u.RTT().Round(time.Microsecond), u.Calm().Round(time.Microsecond))
			m.note(i, Status{Percent: u.Weight(), Since: now, Text: text})
			m.weigher.Host(n, Weight{u.Weight(), "uplink to " + host.String() + ": " + text})
			m.weigh()
		}
	}
	return nil
}

func (m *Monitor) planAgent(n int, first time.Duration) {
	source := &m.opts.Agents[n]
	name := source.name()
	a := NewAgent(source.Interval, first)
	t := &task{schedule: &a.Schedule}
	i := m.add(t, "agent "+name)
	t.ask = source.ask
	t.finish = func(now time.Duration, got answer) {
		before := a.Trust()
		percent, err := a.Step(now, got.text, got.err)
		s := Status{Percent: percent, Since: now, Text: got.text}
		if err != nil {
			s.Text = err.Error()
		}
		m.note(i, s)
		if a.Trust() != before {
			m.warn(name, a.Trust(), err)
		}
		m.weigher.Agent(n, Weight{percent, fmt.Sprintf("agent %s says %d", name, percent)})
		m.weigh()
	}
}

// ask gets an agent's word.
func (s *Source) ask(ctx context.Context) answer {
	var a answer
	if s.File != "" {
		a.text, a.err = readHead(s.File)
		return a
	}
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	a.text, a.err = run(ctx, s.Program, s.Args)
	if errors.Is(a.err, context.DeadlineExceeded) {
		a.err = fmt.Errorf("no answer within %v", s.Timeout)
	}
	return a
}

func (m *Monitor) warn(name string, trust Trust, err error) {
	if m.opts.OnWarning == nil {
		return
	}
	switch trust {
	case Heard:
		m.opts.OnWarning(fmt.Sprintf("agent %s gives usable answers again", name))
	case Stands:
		m.opts.OnWarning(fmt.Sprintf("agent %s: %s; its last answer stands for %d intervals", name, oneLine(err.Error()), agentPatience))
	case GivenUp:
		m.opts.OnWarning(fmt.Sprintf("agent %s: %s; no usable answer for %d intervals, so it counts as %d", name, oneLine(err.Error()), agentPatience, FullWeight))
	}
}

func (m *Monitor) weigh() {
	if w, changed := m.weigher.Step(); changed && m.opts.OnWeight != nil {
		m.opts.OnWeight(w)
	}
}
