package disk

import (
	"errors"
	"fmt"

	"tdxvm/guest/internal/config"
	"tdxvm/guest/internal/fault"
	"tdxvm/guest/internal/luks"
)

// Action is what is to be done with a device.
type Action int

const (
	// ActionOpen opens what is there.
	ActionOpen Action = iota + 1
	// ActionFinish opens what is there, and notes in the journal that formatting had ended.
	ActionFinish
	// ActionFormat formats.
	ActionFormat
)

// Plan is what is to be done with one disk, and why.
type Plan struct {
	Device string
	Bytes  int64
	Action Action
	Why    string
	Header *luks.Header
	// Ours says that the header is the one that formatting here made last, so what is behind it is a file system of ours.
	Ours bool
}

const dataUntouched = "The data is untouched"

// expected is what the header of a disk must be.
func expected(disk *config.Disk, key *config.Key, size int64) luks.Expected {
	want := expectedOf(disk, size)
	want.Tokens = key.Strategy == config.KeyTPM
	return want
}

// decide is the whole of the policy on formatting: what is on the device and what the recipe says determine
// what is done. It reads nothing and writes nothing.
func decide(disk *config.Disk, key *config.Key, found *content) (Action, string, error) {
	if found.size < minDeviceBytes {
		return 0, "", fault.Refuse("give the machine a larger disk", "the device has %d bytes, and %d are needed", found.size, minDeviceBytes)
	}
	if found.record != nil && found.record.Name != disk.Name {
		return 0, "", fault.Refuse("attach the disk that belongs to this machine, or wipe this one on another (blkdiscard --zeroout)",
			"the device was formatted as the disk %q, and is to be %q. %s", found.record.Name, disk.Name, dataUntouched)
	}
	if disk.Format == config.FormatAlways {
		return ActionFormat, "the recipe says to format on each boot", nil
	}
	if err := headerTrouble(found); err != nil {
		return 0, "", err
	}
	if found.record != nil && found.record.Stage != StageReady {
		return decideUnfinished(disk, key, found)
	}
	if found.header != nil {
		return decideExisting(disk, key, found)
	}
	return decideWithout(disk, found)
}

// headerTrouble is why nothing can be said about the header: it is one that is refused, or the disk does not answer.
func headerTrouble(found *content) error {
	var refusal *fault.Error
	switch {
	case found.headerErr == nil, errors.Is(found.headerErr, luks.ErrNone), errors.Is(found.headerErr, luks.ErrDamaged):
		return nil
	case errors.As(found.headerErr, &refusal):
		return found.headerErr
	}
	return fault.Wrap(found.headerErr, "check the disk and its connection. "+dataUntouched, "the disk cannot be read")
}

// decideUnfinished is for a disk whose formatting was cut off, by its journal.
func decideUnfinished(disk *config.Disk, key *config.Key, found *content) (Action, string, error) {
	if found.ours() {
		if _, _, err := decideExisting(disk, key, found); err != nil {
			return 0, "", err
		}
		return ActionFinish, "the machine stopped right after formatting; the file system was whole by then", nil
	}
	// Only on_fail begins over a whole header, and until that is cleared it is still there.
	replaced := disk.Format == config.FormatOnFail && found.record.Stage == StageClearing
	switch {
	case found.foreign, found.header != nil && !replaced:
		return 0, "", refuseForeign(found)
	case disk.Format == config.FormatNever:
		return 0, "", fault.Refuse("boot an image whose recipe says format=\"on_initialize\" once, or prepare the disk again",
			"formatting of the disk was cut off, and the recipe says never to format")
	}
	return ActionFormat, "an earlier boot was stopped while formatting, so there is no data yet", nil
}

func refuseForeign(found *content) error {
	return fault.Refuse("wipe the disk on another machine if what is on it may go (blkdiscard --zeroout), or attach another one. "+dataUntouched,
		"the disk was once formatted as %q, and something else was written to it since (byte %d is not zero): it is not formatted", found.record.Name, found.firstByte)
}

// decideExisting is for a disk with a well-formed header.
func decideExisting(disk *config.Disk, key *config.Key, found *content) (Action, string, error) {
	if err := found.header.Check(expected(disk, key, found.size)); err != nil {
		return 0, "", err
	}
	if key.Strategy == config.KeyTPM && found.header.Token() == nil {
		return 0, "", fault.Refuse("restore the header from a copy. "+dataUntouched,
			"the disk is encrypted, and there is no sealed key in its header: it was not made by this module, or its header was changed")
	}
	return ActionOpen, "there is an encrypted disk", nil
}

// decideWithout is for a disk without a header that can be read.
func decideWithout(disk *config.Disk, found *content) (Action, string, error) {
	ours := found.record != nil
	lost := ours || errors.Is(found.headerErr, luks.ErrDamaged)
	switch {
	case found.foreign:
		return 0, "", refuseForeign(found)
	case ours && disk.Format == config.FormatOnFail:
		return ActionFormat, fmt.Sprintf("the recipe says to format on failure, and %v", found.headerErr), nil
	case lost:
		return 0, "", fault.Wrap(found.headerErr, "restore the header from a copy (cryptsetup luksHeaderRestore), or wipe the disk on another machine (blkdiscard --zeroout). "+dataUntouched,
			"the disk was encrypted before, and cannot be opened any more")
	case found.firstByte >= 0:
		return 0, "", fault.Refuse("wipe the disk on another machine if it may go (blkdiscard --zeroout), or name another one in the recipe. "+dataUntouched,
			"the device is not empty (byte %d is not zero), and nothing on it says that it is ours: it is not formatted", found.firstByte)
	case disk.Format == config.FormatNever:
		return 0, "", fault.Refuse("attach the disk that was prepared, or say format=\"on_initialize\" in the recipe", "the device is empty, and the recipe says never to format")
	}
	return ActionFormat, "the device is empty", nil
}
