package sim

import "time"

// Defaults of a switch.
const (
	DefaultAgeing    = 300 * time.Second
	DefaultTableSize = 8192 // addresses
)

// Switch is the learning part of a LAN made by NewSwitch. It learns the port of
// each source address, sends a frame for a learned address to that port only,
// and floods all else: unknown addresses, and group addresses, broadcast among
// them. An address that spoke last longer ago than Ageing is unknown again. A
// full table learns nothing new until something in it has aged.
//
// As in Linux (net/bridge/br_input.c, br_handle_frame) a frame from a group
// address or from no address goes nowhere, and neither does one for
// 01:80:c2:00:00:01 to 0f, which the switch keeps; 00 it forwards, for there is
// no spanning tree here.
type Switch struct {
	Ageing    time.Duration
	TableSize int

	w     *World
	table map[MAC]learned // looked up and emptied, never ranged over where order shows
}

type learned struct {
	port  int
	heard time.Duration
}

// NewSwitch makes a LAN with a learning switch. The Switch is for its settings
// and its table; frames go through the LAN.
func (w *World) NewSwitch() (*LAN, *Switch) {
	s := &Switch{Ageing: DefaultAgeing, TableSize: DefaultTableSize, w: w, table: map[MAC]learned{}}
	return w.newLAN(s), s
}

// PortOf is where the switch would send a frame for that address.
func (s *Switch) PortOf(mac MAC) (port int, known bool) {
	e, ok := s.table[mac]
	return e.port, ok && !s.aged(e)
}

// Forget empties the table, as a switch does that was restarted.
func (s *Switch) Forget() { clear(s.table) }

func (s *Switch) aged(e learned) bool { return s.w.now-e.heard >= s.Ageing }

func (s *Switch) forward(l *LAN, in int, frame []byte, out []int) []int {
	dst, src := MAC(frame[0:]), MAC(frame[6:])
	if group(src) || src == (MAC{}) {
		l.count(in, DroppedSource)
		return out
	}
	if !s.learn(src, in) {
		l.count(in, LearnedNot)
	}
	if [5]byte(frame) == [5]byte{0x01, 0x80, 0xc2, 0, 0} && dst[5] >= 0x01 && dst[5] <= 0x0f {
		l.count(in, DroppedReserved)
		return out
	}
	if port, known := s.PortOf(dst); known {
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
func (s *Switch) learn(mac MAC, port int) bool {
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
func group(mac MAC) bool { return mac[0]&1 != 0 }
