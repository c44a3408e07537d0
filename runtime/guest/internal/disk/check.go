package disk

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"golang.org/x/sys/unix"

	"tdxvm/guest/internal/config"
	"tdxvm/guest/internal/fault"
)

// errDamaged marks a file system that was found to be damaged, as against one that could not be checked or mounted for
// another reason: no memory, a tool that was killed, a disk that does not answer, a kernel that lacks a feature. Only damage
// ever leads to formatting.
var errDamaged = errors.New("the file system is damaged")

// Exit statuses of e2fsck (e2fsck(8)) are bits: 1 corrected, 2 corrected and a reboot is advised (which concerns a root file
// system), 4 left uncorrected, 8 and above could not do its work.
const (
	fsckHarmless    = 1 | 2
	fsckUncorrected = 4
	fsckNoWork      = 8
)

// formatsOver says whether a disk is formatted because its file system cannot be used. One that was made elsewhere is not:
// it may hold another file system than ours, which e2fsck takes for damage.
func formatsOver(disk *config.Disk, plan *Plan, err error) bool {
	return disk.Format == config.FormatOnFail && plan.Ours && errors.Is(err, errDamaged)
}

// checkAndMount checks, mounts and grows the file system. Where damage would have it formatted, it is first repaired as
// far as that goes, whatever that costs of what is in it: formatting would cost all.
func (s *System) checkAndMount(ctx context.Context, disk *config.Disk, plan *Plan) error {
	err := s.tryToMount(ctx, disk, repairSafely)
	if formatsOver(disk, plan, err) {
		s.Log.Warn("the file system is repaired by force", "disk", disk.Name, "error", err)
		err = s.tryToMount(ctx, disk, repairByForce)
	}
	if err != nil || !disk.Grow {
		return err
	}
	if err := s.grow(ctx, disk); err != nil { // a smaller file system than the device is no reason to stop
		s.Log.Warn("the file system keeps its size", "disk", disk.Name, "error", err)
	}
	return nil
}

func (s *System) tryToMount(ctx context.Context, disk *config.Disk, with repair) error {
	repaired, err := fsck(ctx, mapped(disk.Name), with)
	if err != nil {
		return fault.Wrap(err, "", "disk %q", disk.Name)
	}
	if repaired {
		s.Log.Warn("the file system was repaired", "disk", disk.Name, "by_force", with.force)
	}
	return s.mount(disk)
}

// repair is how e2fsck goes about it.
type repair struct {
	arguments []string
	force     bool
}

var (
	// repairSafely repairs what can be repaired without asking.
	repairSafely = repair{arguments: []string{"-p"}}
	// repairByForce looks at everything and says yes to everything; it also tries the copies of the superblock.
	repairByForce = repair{arguments: []string{"-f", "-y"}, force: true}
)

// fsck checks the file system at path, and says whether it was repaired. What it cannot repair is an error, and that is
// errDamaged only where nothing else explains it.
func fsck(ctx context.Context, path string, with repair) (repaired bool, err error) {
	if err := checkSize(path); err != nil {
		return false, err
	}
	err = run(ctx, nil, "e2fsck", append(with.arguments, path)...)
	code := status(err)
	switch {
	case err == nil:
		return false, nil
	case code > 0 && code&^fsckHarmless == 0:
		return true, nil
	case isDamage(err), code == fsckNoWork && !hasSuperblock(path, with.force):
		return false, fault.Wrap(fmt.Errorf("%w: %w", errDamaged, err), "run e2fsck by hand with the disk opened elsewhere. Nothing was formatted",
			"its file system cannot be repaired")
	}
	return false, fault.Wrap(err, "start the machine again; where that does not help, see what is wrong with its memory and its disk. Nothing was formatted",
		"its file system cannot be checked")
}

// isDamage says whether e2fsck ended because of what it found. Where the device does not answer, it ends with the same
// status as with damage, so there its words decide.
func isDamage(err error) bool {
	var failed *toolError
	code := status(err)
	return errors.As(err, &failed) && !failed.ioTrouble && code > 0 && code < fsckNoWork && code&fsckUncorrected != 0
}

// checkSize refuses a device that is smaller than its file system: e2fsck calls that damage, and repairs it by cutting off.
func checkSize(path string) error {
	device, size, err := openSized(path)
	if err != nil {
		return err
	}
	defer device.Close()
	if used, err := ext4Bytes(device); err == nil && used > size {
		return fault.Refuse("give the disk the size back that it had. "+dataUntouched,
			"its file system has %d bytes, and the device has room for %d: it was made smaller", used, size)
	}
	return nil
}

// Places of the ext4 superblock (kernel documentation, "ext4 Data Structures and Algorithms", sections 2.2 and 3.1): the
// first is 1024 bytes from the start, copies are at the start of the groups 1 and powers of 3, 5 and 7. A group has 8 times as many
// blocks as a block has bytes; with blocks of 1 KiB all groups begin one block later.
const (
	superblockPlace = 1024
	superblockBytes = 1024
	superblockMagic = 0x38
	ext4Magic       = 0xEF53
	// A file system with this bit in s_feature_ro_compat has a checksum in the last four bytes of its superblocks: CRC-32C of
	// the rest, which begins with all ones and is not inverted at the end.
	superblockFeatures = 0x64
	metadataChecksums  = 0x400
	superblockChecksum = 0x3fc
)

// hasSuperblock says whether the file system has its first superblock, or, with copies, any. What cannot be read may be one.
func hasSuperblock(path string, copies bool) bool {
	device, size, err := openSized(path)
	if err != nil {
		return true
	}
	defer device.Close()
	places := []int64{superblockPlace}
	if copies {
		places = append(places, copiesOfSuperblock(size)...)
	}
	for _, place := range places {
		block := make([]byte, superblockBytes)
		if _, err := device.ReadAt(block, place); err != nil || isSuperblock(block) {
			return true
		}
	}
	return false
}

// isSuperblock says whether a superblock is whole, as far as it can tell.
func isSuperblock(block []byte) bool {
	if binary.LittleEndian.Uint16(block[superblockMagic:]) != ext4Magic {
		return false
	}
	sum := ^crc32.Checksum(block[:superblockChecksum], crc32.MakeTable(crc32.Castagnoli))
	without := binary.LittleEndian.Uint32(block[superblockFeatures:])&metadataChecksums == 0
	return without || binary.LittleEndian.Uint32(block[superblockChecksum:]) == sum
}

// copiesOfSuperblock are the places where copies can be, for all sizes of blocks that mke2fs chooses.
func copiesOfSuperblock(size int64) []int64 {
	groups := []int64{1}
	for _, base := range []int64{3, 5, 7} {
		for group := base; group*8*1024*1024 < size; group *= base {
			groups = append(groups, group)
		}
	}
	var places []int64
	for _, block := range []int64{1024, 2048, 4096} {
		first := int64(0)
		if block == 1024 {
			first = block
		}
		for _, group := range groups {
			if place := first + group*8*block*block; place+superblockBytes <= size {
				places = append(places, place)
			}
		}
	}
	return places
}

// mountRefusal tells the errors of mount(2) by which ext4 says that it is damaged (EFSCORRUPTED and EFSBADCRC in
// fs/ext4/ext4.h) from all others; EINVAL is none of them, since a feature that the kernel lacks is EINVAL as well.
func mountRefusal(disk *config.Disk, err error) error {
	if errors.Is(err, unix.EUCLEAN) || errors.Is(err, unix.EBADMSG) {
		err = fmt.Errorf("%w: %w", errDamaged, err)
	}
	return fault.Wrap(err, "", "disk %q cannot be mounted at %s", disk.Name, disk.MountAt)
}
