package journal

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// Bounds, in bytes.
const (
	// MaxBatchBytes bounds what one Append writes, and a snapshot.
	MaxBatchBytes = 64 << 20
	// MaxFileBytes bounds the file; Append fails at it and Replace is the mend.
	MaxFileBytes = 256 << 20
)

const (
	fileVersion  = 1
	fileMagic    = "1vJRNL\r\n"
	fileHeader   = 8 + 4 + 8 + 16 + 8 + 4
	batchMark    = "\xb1BAT"
	batchHeader  = 4 + 8 + 4 + 4
	batchTrailer = 4 + 1
	endMark      = 0xe5
	// sectorBytes is the least that a disk writes.
	sectorBytes = 512
)

func sum(before uint32, b []byte) uint32 {
	return crc32.Update(before, crc32.MakeTable(crc32.Castagnoli), b)
}

// tail is where a file ends: what the next batch goes on from.
type tail struct {
	end    int64
	number uint64
	sum    uint32
}

// appendBatch appends the batch that follows t, and returns the new tail.
func (t tail) appendBatch(b []byte, records [][]byte) ([]byte, tail) {
	body := 0
	for _, r := range records {
		body += 4 + len(r)
	}
	at := len(b)
	b = append(b, batchMark...)
	b = binary.BigEndian.AppendUint64(b, t.number)
	b = binary.BigEndian.AppendUint32(b, uint32(body))
	b = binary.BigEndian.AppendUint32(b, sum(t.sum, b[at:]))
	for _, r := range records {
		b = binary.BigEndian.AppendUint32(b, uint32(len(r)))
		b = append(b, r...)
	}
	s := sum(t.sum, b[at:])
	b = append(binary.BigEndian.AppendUint32(b, s), endMark)
	return b, tail{t.end + int64(len(b)-at), t.number + 1, s}
}

// batchBytes is how long a batch of these records is.
func batchBytes(records [][]byte) int {
	n := batchHeader + batchTrailer
	for _, r := range records {
		n += 4 + len(r)
	}
	return n
}

// makeFile makes a whole file and returns its tail.
func makeFile(generation uint64, id [16]byte, snapshot []byte, records [][]byte) ([]byte, tail) {
	first := [][]byte{snapshot}
	length := fileHeader + batchBytes(first)
	if len(records) > 0 {
		length += batchBytes(records)
	}
	b := append(make([]byte, 0, length), fileMagic...)
	b = binary.BigEndian.AppendUint32(b, fileVersion)
	b = binary.BigEndian.AppendUint64(b, generation)
	b = append(b, id[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(length))
	t := tail{end: fileHeader, sum: sum(0, b)}
	b = binary.BigEndian.AppendUint32(b, t.sum)
	b, t = t.appendBatch(b, first)
	if len(records) > 0 {
		b, t = t.appendBatch(b, records)
	}
	return b, t
}

// Damage is a file that cannot be what this program wrote, whatever crash there
// was.
type Damage struct {
	File   string
	Offset int64
	What   string
}

func (d *Damage) Error() string {
	return fmt.Sprintf("%s is damaged at byte %d: %s; what this node has promised cannot be known any more, so remove its directory and let the node join as a new one (and look at the disk)", d.File, d.Offset, d.What)
}

// contents is what a file holds. Its slices lie in the bytes that were parsed.
type contents struct {
	generation uint64
	snapshot   []byte
	records    [][]byte
	tail       tail
	// torn is how many bytes at the end were never acknowledged.
	torn int64
}

// parse reads a file, or tells why it cannot be read: a *Damage without its File,
// or another version.
func parse(b []byte) (contents, error) {
	var c contents
	if len(b) >= 12 && string(b[:8]) == fileMagic {
		if v := binary.BigEndian.Uint32(b[8:]); v != fileVersion && len(b) >= fileHeader && sum(0, b[:fileHeader-4]) == binary.BigEndian.Uint32(b[fileHeader-4:]) {
			return c, fmt.Errorf("it is of version %d and this program reads version %d; run the release that wrote it", v, fileVersion)
		}
	}
	if len(b) < fileHeader {
		return c, &Damage{Offset: int64(len(b)), What: "it ends within its header"}
	}
	s := binary.BigEndian.Uint32(b[fileHeader-4:])
	if string(b[:8]) != fileMagic || sum(0, b[:fileHeader-4]) != s {
		return c, &Damage{Offset: 0, What: "its header does not match its sum"}
	}
	c.generation = binary.BigEndian.Uint64(b[12:])
	made := binary.BigEndian.Uint64(b[36:])
	c.tail = tail{end: fileHeader, sum: s}
	if uint64(len(b)) < made {
		return c, &Damage{Offset: int64(len(b)), What: fmt.Sprintf("it had %d bytes when it was made", made)}
	}
	for c.tail.end < int64(len(b)) {
		records, next, fault := parseBatch(b, c.tail)
		if fault == torn && uint64(c.tail.end) >= made {
			c.torn = int64(len(b)) - c.tail.end
			return c, nil
		}
		if fault == torn {
			fault = "zeros where its first content was"
		}
		if fault == "" && c.tail.number == 0 && len(records) != 1 {
			fault = "no snapshot"
		}
		if fault != "" {
			return c, &Damage{Offset: c.tail.end, What: fault}
		}
		if c.tail.number == 0 {
			c.snapshot = records[0]
		} else {
			c.records = append(c.records, records...)
		}
		c.tail = next
	}
	return c, nil
}

// torn is the fault of a batch that a crash cut short.
const torn = "torn"

// parseBatch reads the batch at t.end and returns the tail after it, or its
// fault.
func parseBatch(b []byte, t tail) (records [][]byte, next tail, fault string) {
	rest := b[t.end:]
	if len(rest) < batchHeader {
		return nil, t, torn
	}
	number, length := binary.BigEndian.Uint64(rest[4:]), int(binary.BigEndian.Uint32(rest[12:]))
	if string(rest[:4]) != batchMark || number != t.number ||
		sum(t.sum, rest[:16]) != binary.BigEndian.Uint32(rest[16:]) {
		return nil, t, tornIf(endsInZeros(b, t.end), "a batch's header does not match its sum, or is another file's")
	}
	total := batchHeader + length + batchTrailer
	if total > len(rest) {
		return nil, t, torn
	}
	body, trailer := rest[batchHeader:batchHeader+length], rest[batchHeader+length:total]
	s := binary.BigEndian.Uint32(trailer)
	if trailer[4] != endMark || sum(t.sum, rest[:batchHeader+length]) != s {
		return nil, t, tornIf(total == len(rest) && endsInZeros(b, t.end), "a batch does not match its sum")
	}
	for len(body) > 0 {
		if len(body) < 4 || int(binary.BigEndian.Uint32(body)) > len(body)-4 {
			return nil, t, "a record is longer than its batch"
		}
		n := 4 + int(binary.BigEndian.Uint32(body))
		records = append(records, bytes.Clone(body[4:n]))
		body = body[n:]
	}
	return records, tail{t.end + int64(total), t.number + 1, s}, ""
}

func tornIf(yes bool, otherwise string) string {
	if yes {
		return torn
	}
	return otherwise
}

// endsInZeros tells whether all from some sector of the last batch on, or the
// whole of it, is zeros.
func endsInZeros(b []byte, batch int64) bool {
	last := len(bytes.TrimRight(b[batch:], "\x00"))
	if last == 0 {
		return true
	}
	sector := (batch + int64(last) + sectorBytes - 1) / sectorBytes * sectorBytes
	return sector < int64(len(b))
}
