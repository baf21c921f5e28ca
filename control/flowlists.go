package control

import (
	"cmp"
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"onevoice/cluster"
	"onevoice/node"
)

// A drainer lists the flows that it holds in buckets of others, so that their
// owners can reset the strays of which no drainer has a flow (OWNERSHIP.md R14,
// R17). Why a stray that is in no list has no flow:
//
//   - A list names the table's entry up to which it counts. It was taken by a
//     worker under rights that show that entry, in which the bucket is another's,
//     at the start of a turn. So all that the drainer has taken on before the
//     bucket went is in it, or has ended; half-open flows are in it, and while a
//     SYN cookie of the bucket may come back, the list is not complete.
//   - What the drainer takes on later it takes on as the owner, so that an entry
//     after the list's has made it that, and a still later one a drainer again.
//     That one is the row's Since, and the list is not current.
//   - A worker keeps what it was told of lists for the one generation of rights
//     that it was told for, and a row that gets a drainer makes another.
//
// So a list that is late, lost, or of long ago has flows too many, never too few;
// it counts for a second only lest ended flows stay in it when no others come.

// Bounds of lists. A message of one list is at most about 33 KB.
const (
	// listEvery is how often a drainer lists what it holds.
	listEvery = 250 * time.Millisecond
	// listTime is how long a list counts.
	listTime = time.Second
	// maxListMessage is where a message ends that has a list already, in bytes.
	maxListMessage = 16 << 10
	// maxBookHashes bounds the hashes of all lists that are kept, 8 bytes each.
	maxBookHashes = 1 << 20
)

// listKeyID names the key of the hashes: hashes under another key prove nothing.
type listKeyID [8]byte

// sentList is the flows that a drainer holds of a bucket.
type sentList struct {
	service string
	bucket  uint8
	// complete: the hashes are all that the drainer holds or may come to hold.
	complete bool
	hashes   []uint64
}

// listMessage is lists of one drainer, for one owner.
type listMessage struct {
	key          listKeyID
	epoch, index uint64
	lists        []sentList
}

// Sizes in bytes.
const (
	listHeaderBytes = 8 + 8 + 8
	listFixedBytes  = 1 + 1 + 1 + 2
)

// encodeLists makes the messages of any number of lists.
func encodeLists(key listKeyID, epoch, index uint64, lists []sentList) (messages [][]byte) {
	head := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(slices.Clone(key[:]), epoch), index)
	var b []byte
	for i := range lists {
		l := &lists[i]
		size := listFixedBytes + len(l.service) + 8*len(l.hashes)
		if len(b) > listHeaderBytes && len(b)+size > maxListMessage {
			messages, b = append(messages, b), nil
		}
		if b == nil {
			b = slices.Clone(head)
		}
		b = append(append(b, uint8(len(l.service))), l.service...)
		complete := uint8(0)
		if l.complete {
			complete = 1
		}
		b = binary.BigEndian.AppendUint16(append(b, l.bucket, complete), uint16(len(l.hashes)))
		for _, h := range l.hashes {
			b = binary.BigEndian.AppendUint64(b, h)
		}
	}
	if b != nil {
		messages = append(messages, b)
	}
	return messages
}

var errListMessage = errors.New("control: not a message of flow lists")

// decodeLists reads a message.
func decodeLists(b []byte) (*listMessage, error) {
	if len(b) < listHeaderBytes {
		return nil, errListMessage
	}
	m := &listMessage{key: listKeyID(b), epoch: binary.BigEndian.Uint64(b[8:]), index: binary.BigEndian.Uint64(b[16:])}
	for b = b[listHeaderBytes:]; len(b) > 0; {
		name := int(b[0])
		if len(b) < listFixedBytes+name {
			return nil, errListMessage
		}
		l := sentList{service: string(b[1 : 1+name]), bucket: b[1+name], complete: b[2+name] == 1}
		count := int(binary.BigEndian.Uint16(b[3+name:]))
		complete := b[2+name]
		if b = b[listFixedBytes+name:]; complete > 1 || count > node.MaxListed || len(b) < 8*count {
			return nil, errListMessage
		}
		for ; count > 0; count-- {
			l.hashes = append(l.hashes, binary.BigEndian.Uint64(b))
			b = b[8:]
		}
		m.lists = append(m.lists, l)
	}
	return m, nil
}

// listBook is the owner's side: the last list of each drainer of each bucket.
type listBook struct {
	key   listKeyID
	names []string // of the services, as the core numbers them
	// rows are the buckets that this node owns and others drain.
	rows   []cluster.DrainedRow
	lists  map[listOf]keptList
	hashes int
	counts ListCounts
}

type listOf struct {
	from    uint64
	service int
	bucket  uint8
}

type keptList struct {
	at           time.Duration
	epoch, index uint64
	complete     bool
	hashes       []uint64
}

// ListCounts counts lists of flows.
type ListCounts struct {
	// Sent and Heard are messages; Bad could not be read, OtherKey had hashes
	// under another key.
	Sent     uint64 `json:"sent"`
	Heard    uint64 `json:"heard"`
	Bad      uint64 `json:"bad"`
	OtherKey uint64 `json:"other_key"`
	// Unasked lists were of buckets that the sender does not drain for us, or no
	// more; Full ones found no room, so that they exclude nothing.
	Unasked uint64 `json:"unasked"`
	Full    uint64 `json:"full"`
	// Failed: the worker did not tell what it holds, or could not be told.
	Failed uint64 `json:"failed"`
}

func newListBook(key listKeyID, names []string) *listBook {
	return &listBook{key: key, names: names, lists: map[listOf]keptList{}}
}

// know sets the buckets that this node owns and others drain. Lists of others are
// let go.
func (k *listBook) know(rows []cluster.DrainedRow) {
	k.rows = rows
	for of, l := range k.lists {
		if k.drains(of) == nil {
			k.hashes -= len(l.hashes)
			delete(k.lists, of)
		}
	}
	if len(k.lists) == 0 {
		// A map keeps the room that it once needed.
		k.lists = map[listOf]keptList{}
	}
}

// drains is the row whose drainer has sent a list, nil for none.
func (k *listBook) drains(of listOf) *cluster.DrainedRow {
	i, ok := slices.BinarySearchFunc(k.rows, of, func(r cluster.DrainedRow, of listOf) int {
		return cmp.Or(cmp.Compare(r.Service, of.service), cmp.Compare(r.Bucket, of.bucket))
	})
	if !ok || !slices.ContainsFunc(k.rows[i].By, func(d cluster.Drainer) bool { return d.ID == of.from }) {
		return nil
	}
	return &k.rows[i]
}

// take takes a member's message in.
func (k *listBook) take(now time.Duration, from uint64, message []byte) {
	m, err := decodeLists(message)
	switch {
	case err != nil:
		k.counts.Bad++
		return
	case m.key != k.key:
		k.counts.OtherKey++
		return
	}
	k.counts.Heard++
	for i := range m.lists {
		l := &m.lists[i]
		of := listOf{from, slices.Index(k.names, l.service), l.bucket}
		if k.drains(of) == nil {
			k.counts.Unasked++
			continue
		}
		k.keep(of, keptList{now, m.epoch, m.index, l.complete, l.hashes})
	}
}

// keep keeps a list in place of the one before. What comes out of order is older,
// and right, unless it is of an older table.
func (k *listBook) keep(of listOf, l keptList) {
	was, ok := k.lists[of]
	if ok && cmp.Or(cmp.Compare(l.epoch, was.epoch), cmp.Compare(l.index, was.index)) < 0 {
		return
	}
	if !l.complete {
		l.hashes = nil
	}
	if k.hashes+len(l.hashes)-len(was.hashes) > maxBookHashes {
		k.counts.Full++
		l.complete, l.hashes = false, nil
	}
	slices.Sort(l.hashes)
	k.hashes += len(l.hashes) - len(was.hashes)
	k.lists[of] = l
}

// merge is what the lists say of each row, in order: complete when all of its
// drainers' are there, of this second, current and complete, with the hashes of
// them together. Service is as the core numbers it.
func (k *listBook) merge(now time.Duration) []FlowList {
	out := make([]FlowList, len(k.rows))
	for i := range k.rows {
		row := &k.rows[i]
		out[i] = FlowList{Service: row.Service, Bucket: row.Bucket, Complete: true}
		for _, d := range row.By {
			l, ok := k.lists[listOf{d.ID, row.Service, row.Bucket}]
			if !ok || !l.complete || l.epoch != d.Epoch || l.index < row.Since || now-l.at > listTime {
				out[i].Complete, out[i].Hashes = false, nil
				break
			}
			out[i].Hashes = append(out[i].Hashes, l.hashes...)
		}
	}
	return out
}
