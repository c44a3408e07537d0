// Package luks reads and writes LUKS2 headers. A header on a disk is what the machine's host makes it, so it is
// read with a parser of our own, held against an allow-list, and written anew from what was understood:
// cryptsetup never sees a byte of the metadata that this package has not checked (CVE-2025-59054 and its kin, where a
// header with a null cipher made a disk of the attacker's open without the key).
//
// Format: "LUKS2 On-Disk Format Specification", version 1.1.3. All binary numbers are big-endian.
package luks

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"tdxvm/guest/internal/fault"
	"tdxvm/guest/internal/strictjson"
)

const (
	binaryBytes   = 4096
	offsetVersion = 6
	offsetSize    = 8
	offsetSeqID   = 16
	offsetLabel   = 24
	offsetAlg     = 72
	offsetSalt    = 104
	offsetUUID    = 168
	offsetSystem  = 208
	offsetOffset  = 256
	offsetSum     = 448
	sumBytes      = 64
	saltBytes     = 64
)

var (
	magicPrimary   = []byte("LUKS\xba\xbe")
	magicSecondary = []byte("SKUL\xba\xbe")
)

// headerSizes are the sizes of one copy that are taken, of those that the specification lists (section 2.1).
// 16 KiB is what cryptsetup makes unless told otherwise.
var headerSizes = []int64{16 << 10, 32 << 10, 64 << 10}

// maxKeyslots bounds the area of the keyslots, and so what is copied to a tmpfs.
const maxKeyslots = 16 << 20

// ErrNone says that there is no LUKS2 header at all: neither copy has its magic.
var ErrNone = errors.New("there is no LUKS2 header")

// ErrDamaged says that there was a header, and that the checksums of both copies are wrong.
var ErrDamaged = errors.New("both copies of the LUKS2 header are damaged (their checksums are wrong)")

// Header is one checked copy of the metadata.
type Header struct {
	Size             int64
	SeqID            uint64
	Label, Subsystem string
	UUID             string
	Metadata         Metadata
	// Recovered says that the other copy was damaged.
	Recovered bool
}

// Read finds the header at the start of a device. It returns [ErrNone], [ErrDamaged], or a refusal that says
// what is not allowed about the header. Nothing outside of it is read.
func Read(device io.ReaderAt) (*Header, error) {
	first, firstErr := readCopy(device, 0, magicPrimary)
	if isRefusal(firstErr) {
		return nil, firstErr
	}
	second, secondErr := readSecond(device, first)
	if isRefusal(secondErr) {
		return nil, secondErr
	}
	switch {
	case first != nil && second != nil:
		return agree(first, second)
	case first != nil:
		first.Recovered = true
		return first, nil
	case second != nil:
		second.Recovered = true
		return second, nil
	case errors.Is(firstErr, ErrNone) && errors.Is(secondErr, ErrNone):
		return nil, ErrNone
	case errors.Is(firstErr, ErrDamaged) || errors.Is(secondErr, ErrDamaged):
		return nil, ErrDamaged
	}
	return nil, errors.Join(firstErr, secondErr)
}

func isRefusal(err error) bool {
	var refusal *fault.Error
	return errors.As(err, &refusal)
}

// readSecond reads the copy behind the first one; without a first one it looks at each place where one may be.
func readSecond(device io.ReaderAt, first *Header) (*Header, error) {
	if first != nil {
		return readCopy(device, first.Size, magicSecondary)
	}
	result := ErrNone
	for _, offset := range headerSizes {
		header, err := readCopy(device, offset, magicSecondary)
		if header != nil || isRefusal(err) {
			return header, err
		}
		if !errors.Is(err, ErrNone) {
			result = err
		}
	}
	return nil, result
}

// agree takes the newer of both copies, as cryptsetup does: a power cut between two writes leaves them apart
// by one. Copies of two disks are refused.
func agree(first, second *Header) (*Header, error) {
	if first.UUID != second.UUID || first.Size != second.Size {
		return nil, refuse("its two copies belong to different disks (UUID %q and %q)", first.UUID, second.UUID)
	}
	if second.SeqID > first.SeqID {
		return second, nil
	}
	return first, nil
}

func readCopy(device io.ReaderAt, offset int64, magic []byte) (*Header, error) {
	head := make([]byte, binaryBytes)
	if _, err := device.ReadAt(head, offset); err == io.EOF {
		return nil, ErrNone
	} else if err != nil {
		return nil, fmt.Errorf("cannot read at byte %d: %w", offset, err)
	}
	if !bytes.Equal(head[:len(magic)], magic) {
		return nil, ErrNone
	}
	if version := binary.BigEndian.Uint16(head[offsetVersion:]); version != 2 {
		return nil, refuse("it has version %d, and only LUKS2 is taken", version)
	}
	size := binary.BigEndian.Uint64(head[offsetSize:])
	if !isHeaderSize(size) {
		return nil, refuse("a copy claims %d bytes, and only %v are taken", size, headerSizes)
	}
	whole := make([]byte, size)
	if _, err := device.ReadAt(whole, offset); err == io.EOF {
		return nil, refuse("it is cut off: a copy has %d bytes, and the device ends before", size)
	} else if err != nil {
		return nil, fmt.Errorf("cannot read at byte %d: %w", offset, err)
	}
	return parseCopy(whole, offset)
}

func isHeaderSize(size uint64) bool {
	for _, each := range headerSizes {
		if size == uint64(each) {
			return true
		}
	}
	return false
}

// parseCopy takes one whole copy, whose magic, version and size are right.
func parseCopy(whole []byte, offset int64) (*Header, error) {
	if alg := text(whole[offsetAlg : offsetAlg+32]); alg != "sha256" {
		return nil, refuse("its checksum is %q, and only sha256 is taken", alg)
	}
	if sum := checksum(whole); !bytes.Equal(sum, whole[offsetSum:offsetSum+len(sum)]) {
		return nil, ErrDamaged
	}
	if at := binary.BigEndian.Uint64(whole[offsetOffset:]); at != uint64(offset) {
		return nil, refuse("a copy at byte %d says that it is at byte %d", offset, at)
	}
	header := &Header{
		Size:      int64(len(whole)),
		SeqID:     binary.BigEndian.Uint64(whole[offsetSeqID:]),
		Label:     text(whole[offsetLabel : offsetLabel+48]),
		UUID:      text(whole[offsetUUID : offsetUUID+40]),
		Subsystem: text(whole[offsetSystem : offsetSystem+48]),
	}
	if !isUUID(header.UUID) {
		return nil, refuse("its UUID is %q", header.UUID)
	}
	area := whole[binaryBytes:]
	end := bytes.IndexByte(area, 0)
	if end < 0 {
		return nil, refuse("its JSON fills the whole area and does not end")
	}
	if len(bytes.Trim(area[end:], "\x00")) != 0 {
		return nil, refuse("there is something behind the end of its JSON")
	}
	limits := strictjson.Limits{Bytes: len(area), Depth: 8}
	if err := strictjson.Decode(area[:end], limits, &header.Metadata); err != nil {
		return nil, refuse("its JSON is not understood: %w", err)
	}
	if err := header.checkStructure(); err != nil {
		return nil, err
	}
	return header, nil
}

// text is a NUL-terminated field.
func text(field []byte) string {
	field, _, _ = bytes.Cut(field, []byte{0})
	return string(field)
}

func isUUID(value string) bool {
	if len(value) != 36 {
		return false
	}
	for index, char := range []byte(value) {
		dash := index == 8 || index == 13 || index == 18 || index == 23
		digit := char >= '0' && char <= '9' || char >= 'a' && char <= 'f'
		if dash != (char == '-') || !dash && !digit {
			return false
		}
	}
	return true
}

// checksum is SHA-256 over a copy whose own checksum field counts as zeros (section 2.1).
func checksum(whole []byte) []byte {
	hash := sha256.New()
	hash.Write(whole[:offsetSum])
	hash.Write(make([]byte, sumBytes))
	hash.Write(whole[offsetSum+sumBytes:])
	return hash.Sum(nil)
}

// Encode writes both copies of the metadata anew, with the given tokens. Keys of the JSON that
// this package does not know cannot be in it, since reading refuses them.
func (h *Header) Encode() ([]byte, error) {
	area, err := json.Marshal(&h.Metadata)
	if err != nil {
		return nil, err
	}
	if int64(len(area)) >= h.Size-binaryBytes {
		return nil, fmt.Errorf("the metadata has %d bytes, more than the %d that a copy of the header holds", len(area), h.Size-binaryBytes-1)
	}
	out := make([]byte, 2*h.Size)
	for index, magic := range [][]byte{magicPrimary, magicSecondary} {
		offset := int64(index) * h.Size
		one := out[offset : offset+h.Size]
		copy(one, magic)
		binary.BigEndian.PutUint16(one[offsetVersion:], 2)
		binary.BigEndian.PutUint64(one[offsetSize:], uint64(h.Size))
		binary.BigEndian.PutUint64(one[offsetSeqID:], h.SeqID)
		copy(one[offsetLabel:offsetLabel+47], h.Label)
		copy(one[offsetAlg:], "sha256")
		if _, err := rand.Read(one[offsetSalt : offsetSalt+saltBytes]); err != nil {
			return nil, err
		}
		copy(one[offsetUUID:], h.UUID)
		copy(one[offsetSystem:offsetSystem+47], h.Subsystem)
		binary.BigEndian.PutUint64(one[offsetOffset:], uint64(offset))
		copy(one[binaryBytes:], area)
		copy(one[offsetSum:], checksum(one))
	}
	return out, nil
}

// Detached returns a file for `cryptsetup --header`: the metadata written anew, without its tokens (so that
// no token decides how the disk is opened), and the keyslots as they are on the device.
func (h *Header) Detached(device io.ReaderAt) ([]byte, error) {
	bare := *h
	bare.Metadata.Tokens = map[string]Token{}
	head, err := bare.Encode()
	if err != nil {
		return nil, err
	}
	slots := make([]byte, h.Metadata.Config.KeyslotsSize)
	if _, err := device.ReadAt(slots, 2*h.Size); err != nil {
		return nil, fmt.Errorf("cannot read the keyslots: %w", err)
	}
	return append(head, slots...), nil
}

func refuse(format string, args ...any) error {
	const fix = "nothing was changed on the disk; if you trust its content, look at it on another machine; else replace the disk"
	return fault.Wrap(fmt.Errorf(format, args...), fix, "the LUKS2 header is refused")
}
