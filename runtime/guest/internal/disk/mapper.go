package disk

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"tdxvm/guest/internal/luks"
	"tdxvm/guest/internal/secret"
)

// Interface of the device mapper: linux/dm-ioctl.h. Fields are in the byte order of the machine.
const (
	mapperControl    = "/dev/mapper/control"
	mapperHeader     = 312 // sizeof(struct dm_ioctl)
	mapperSpec       = 40  // sizeof(struct dm_target_spec)
	mapperBuffer     = 16 << 10
	tableStatus      = 0xC138FD0C // DM_TABLE_STATUS: _IOWR(0xfd, 12, struct dm_ioctl)
	flagTable        = 1 << 4     // DM_STATUS_TABLE_FLAG: the table, not the status
	flagBufferFull   = 1 << 8
	flagSecure       = 1 << 15 // DM_SECURE_DATA_FLAG: the kernel wipes its copies
	fieldDataSize    = 12
	fieldDataStart   = 16
	fieldTargetCount = 20
	fieldFlags       = 28
	fieldName        = 48
	specLength       = 8
	specType         = 24
	tagBytes         = 32 // of HMAC-SHA-256
)

// target is a mapping that consists of one part.
type target struct {
	kind    string
	sectors uint64
	// options are the words of the table, with the key replaced by its length.
	options []string
}

// readTarget asks the kernel for the table of a mapping.
func readTarget(name string) (*target, error) {
	control, err := os.OpenFile(mapperControl, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	buffer := make([]byte, mapperBuffer)
	defer secret.Wipe(buffer) // where the kernel has no keyring, the table holds the volume key
	binary.NativeEndian.PutUint32(buffer, 4)
	binary.NativeEndian.PutUint32(buffer[fieldDataSize:], mapperBuffer)
	binary.NativeEndian.PutUint32(buffer[fieldDataStart:], mapperHeader)
	binary.NativeEndian.PutUint32(buffer[fieldFlags:], flagTable|flagSecure)
	copy(buffer[fieldName:fieldName+127], name)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, control.Fd(), tableStatus, uintptr(unsafe.Pointer(&buffer[0]))); errno != 0 {
		return nil, fmt.Errorf("the device mapper does not tell the table of %s: %w", name, errno)
	}
	return decodeTarget(buffer)
}

func decodeTarget(buffer []byte) (*target, error) {
	count := binary.NativeEndian.Uint32(buffer[fieldTargetCount:])
	start := int(binary.NativeEndian.Uint32(buffer[fieldDataStart:]))
	full := binary.NativeEndian.Uint32(buffer[fieldFlags:])&flagBufferFull != 0
	if count != 1 || full || start < mapperHeader || start+mapperSpec >= len(buffer) {
		return nil, fmt.Errorf("the mapping has %d parts, and one was expected", count)
	}
	spec := buffer[start:]
	kind, _, _ := bytes.Cut(spec[specType:mapperSpec], []byte{0})
	words, _, _ := bytes.Cut(spec[mapperSpec:], []byte{0})
	found := &target{kind: string(kind), sectors: binary.NativeEndian.Uint64(spec[specLength:])}
	for index, word := range bytes.Fields(words) {
		if found.kind == "crypt" && index == 1 {
			found.options = append(found.options, strconv.Itoa(keyLength(word)))
			continue
		}
		found.options = append(found.options, string(word))
	}
	return found, nil
}

// keyLength is the number of bytes of the key field of a crypt table: ":BYTES:TYPE:DESCRIPTION" for a key in
// the kernel's keyring, else hexadecimal digits.
func keyLength(field []byte) int {
	if rest, inKeyring := bytes.CutPrefix(field, []byte(":")); inKeyring {
		digits, _, _ := bytes.Cut(rest, []byte(":"))
		length, err := strconv.Atoi(string(digits))
		if err != nil {
			return 0
		}
		return length
	}
	return len(field) / 2
}

// checkTarget holds the mapping that the kernel has against what was asked for: cipher, length of the key,
// place on the device and sector size. It is the last word on whether anything is encrypted.
func checkTarget(found *target, device string, offset int64, want luks.Expected) error {
	cipher, options := want.Cipher, []string{}
	if want.SectorBytes != sectorBytes {
		options = append(options, "sector_size:"+strconv.Itoa(want.SectorBytes))
	}
	start := strconv.FormatInt(offset/sectorBytes, 10)
	if want.HMAC {
		cipher, start = "capi:authenc(hmac(sha256),xts(aes))-plain64", "0"
		options = append([]string{"integrity:32:aead"}, options...)
	}
	words := []string{cipher, strconv.Itoa(want.VolumeKeyBytes()), "0", device, start}
	if len(options) > 0 {
		words = append(append(words, strconv.Itoa(len(options))), options...)
	}
	got, wanted := strings.Join(found.options, " "), strings.Join(words, " ")
	if found.kind != "crypt" || got != wanted {
		return fmt.Errorf("the kernel maps %q with %q, and %q with %q was expected", found.kind, got, "crypt", wanted)
	}
	return nil
}

// checkIntegrityTarget holds the mapping of dm-integrity against what was asked for: the place on the device, the
// length of the tags, and a journal, so that a power cut leaves data and tags in agreement.
func checkIntegrityTarget(found *target, device string, offset int64) error {
	wanted := fmt.Sprintf("%s %d %d J", device, offset/sectorBytes, tagBytes)
	got := strings.Join(found.options[:min(4, len(found.options))], " ")
	if found.kind != "integrity" || got != wanted {
		return fmt.Errorf("the kernel maps %q with %q, and %q with %q was expected", found.kind, got, "integrity", wanted)
	}
	return nil
}

// numberOf is the device number of a block device as tables have it: "MAJOR:MINOR".
func numberOf(path string) (string, error) {
	var found unix.Stat_t
	if err := unix.Stat(path, &found); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return fmt.Sprintf("%d:%d", unix.Major(found.Rdev), unix.Minor(found.Rdev)), nil
}
