package disk

import (
	"bytes"
	"fmt"
	"io"

	"tdxvm/guest/internal/luks"
)

const (
	// probeBytes are read at the start and at the end of a disk. File systems, partition tables, RAID and
	// volume managers keep their labels there.
	probeBytes = 16 << 20
	// samples are read between start and end, where a file system whose label was wiped still has content.
	samples     = 512
	sampleBytes = 4096
)

// content is what is on a device.
type content struct {
	size   int64
	record *Record
	// header is nil where headerErr says why there is none.
	header    *luks.Header
	headerErr error
	// firstByte is where the first byte that is not zero was found, or -1: then the device is empty.
	firstByte int64
	// foreign says that the disk has a journal of ours, and that somebody has used it for something else since.
	foreign bool
}

// ours says that the header is the one that formatting here made last.
func (c *content) ours() bool {
	return c.record != nil && c.header != nil && c.record.UUID == c.header.UUID
}

// look reads what is on a device. Only bytes decide: a device is empty where all that was read of it is zero.
func look(device io.ReaderAt, size int64) (*content, error) {
	found := &content{size: size, firstByte: -1}
	var err error
	if found.record, err = readJournal(device); err != nil {
		return nil, err
	}
	found.header, found.headerErr = luks.Read(device)
	if found.firstByte, err = firstNonZero(device, size); err != nil {
		return nil, err
	}
	found.foreign, err = usedSince(device, found)
	return found, err
}

// usedSince says whether the start of the disk holds what was not left there by us: by formatting that was cut off at the stage of
// the journal, or by a header that has become unreadable.
func usedSince(device io.ReaderAt, found *content) (bool, error) {
	switch {
	case found.record == nil:
		return false, nil
	case found.header != nil: // while clearing it may be the one that is being replaced
		return !found.ours() && (found.record.Stage == StageFormatting || found.record.Stage == StageCommitting), nil
	case found.record.Stage == StageFormatting:
		return found.firstByte >= 0 && found.firstByte < journalFirst, nil
	}
	head := make([]byte, sampleBytes)
	if _, err := device.ReadAt(head, 0); err != nil {
		return false, fmt.Errorf("cannot read at byte 0: %w", err)
	}
	return !isPartOfHeader(head), nil
}

// isPartOfHeader says whether the first 4 KiB of a disk are those of a header, or zero where its sectors are not there. A header
// has one sector there and zeros behind it; partition tables and most file systems have their labels there.
func isPartOfHeader(head []byte) bool {
	first, rest := head[:sectorBytes], head[sectorBytes:]
	zero := len(bytes.Trim(first, "\x00")) == 0
	return len(bytes.Trim(rest, "\x00")) == 0 && (zero || bytes.HasPrefix(first, []byte("LUKS\xba\xbe\x00\x02")))
}

// firstNonZero returns where the first byte that is not zero is: at the start, at the end, or in one of the
// samples between them; -1 where there is none.
func firstNonZero(device io.ReaderAt, size int64) (int64, error) {
	head := min(size, probeBytes)
	tail := max(head, size-probeBytes)
	ranges := [][2]int64{{0, head}}
	for index := int64(1); index <= samples; index++ {
		begin := (head + (tail-head)/(samples+1)*index) &^ (sampleBytes - 1)
		if end := min(begin+sampleBytes, size); begin >= head {
			ranges = append(ranges, [2]int64{begin, end})
		}
	}
	ranges = append(ranges, [2]int64{tail, size})
	buffer, zeros := make([]byte, 1<<20), make([]byte, 1<<20)
	for _, bounds := range ranges {
		for begin := bounds[0]; begin < bounds[1]; begin += int64(len(buffer)) {
			part := buffer[:min(int64(len(buffer)), bounds[1]-begin)]
			if _, err := device.ReadAt(part, begin); err != nil {
				return 0, fmt.Errorf("cannot read at byte %d: %w", begin, err)
			}
			if !bytes.Equal(part, zeros[:len(part)]) {
				return begin + int64(len(part)-len(bytes.TrimLeft(part, "\x00"))), nil
			}
		}
	}
	return -1, nil
}
