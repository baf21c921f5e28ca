package sim

import "time"

// Defaults of a switch.
const (
	DefaultAgeing    = 300 * time.Second
	DefaultTableSize = 8192 // addresses
)

// Switch is the learning part of a LAN made by NewSwitch. It learns the port of
// each source address that is not a group's, sends a frame for a learned
// address to that port only, and floods all else: unknown addresses, and group
// addresses, broadcast among them. An address that spoke last longer ago than
// Ageing is unknown again. A full table learns nothing new until something in
// it has aged. Frames for 01:80:c2:00:00:00 to 0f are the switch's own and go
// nowhere (Linux: net/bridge/br_input.c, br_handle_frame).
type Switch struct {
	Ageing    time.Duration
	TableSize int

	w     *World
	table map[[6]byte]learned // looked up and emptied, never ranged over where order shows
}

type learned struct {
	port  int
	heard time.Duration
}

// NewSwitch makes a LAN with a learning switch. The Switch is for its settings
// and its table; frames go through the LAN.
func (w *World) NewSwitch() (*LAN, *Switch) {
	s := &Switch{Ageing: DefaultAgeing, TableSize: DefaultTableSize, w: w, table: map[[6]byte]learned{}}
	return w.newLAN(s), s
}

// PortOf is where the switch would send a frame for that address.
func (s *Switch) PortOf(mac [6]byte) (port int, known bool) {
	e, ok := s.table[mac]
	return e.port, ok && !s.aged(e)
}

// Forget empties the table, as a switch does that was restarted.
func (s *Switch) Forget() { clear(s.table) }

func (s *Switch) aged(e learned) bool { return s.w.now-e.heard >= s.Ageing }

func (s *Switch) forward(l *LAN, in int, frame []byte, out []int) []int {
	dst, src := [6]byte(frame[0:]), [6]byte(frame[6:])
	if !group(src) && !s.learn(src, in) {
		l.count(in, LearnedNot)
	}
	if dst[0] == 0x01 && dst[1] == 0x80 && dst[2] == 0xc2 && dst[3] == 0 && dst[4] == 0 && dst[5] < 0x10 {
		l.count(in, DroppedReserved)
		return out
	}
	if port, known := s.PortOf(dst); known && !group(dst) {
		if port == in {
			l.count(in, DroppedSamePort)
			return out
		}
		return append(out, port)
	}
	l.count(in, Flooded)
	return l.others(in, out)
}

// learn remembers where an address speaks and says whether there was room.
func (s *Switch) learn(mac [6]byte, port int) bool {
	if _, known := s.table[mac]; !known && len(s.table) >= s.TableSize {
		for old, e := range s.table {
			if s.aged(e) {
				delete(s.table, old)
			}
		}
		if len(s.table) >= s.TableSize {
			return false
		}
	}
	s.table[mac] = learned{port, s.w.now}
	return true
}

// group says whether an address names more than one receiver.
func group(mac [6]byte) bool { return mac[0]&1 != 0 }
