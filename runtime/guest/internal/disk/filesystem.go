package disk

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"tdxvm/guest/internal/config"
	"tdxvm/guest/internal/fault"
)

// mountFlags are those of mount(2) for the options that the configuration may have.
var mountFlags = map[string]uintptr{
	"noexec": unix.MS_NOEXEC, "noatime": unix.MS_NOATIME, "relatime": unix.MS_RELATIME, "ro": unix.MS_RDONLY, "sync": unix.MS_SYNCHRONOUS,
}

// makeMountPoint makes the directory where it is missing, and refuses one that a link leads away from.
func makeMountPoint(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fault.Wrap(err, "name a directory in the recipe that can be made", "there is no directory to mount at")
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil || real != dir {
		return fault.Refuse("name a directory in the recipe that is no link", "%s leads to %s", dir, real)
	}
	return nil
}

// mount mounts the file system, never with device nodes and set-user-id programs.
func (s *System) mount(disk *config.Disk) error {
	flags := uintptr(unix.MS_NODEV | unix.MS_NOSUID)
	for _, option := range disk.MountOptions {
		flags |= mountFlags[option]
	}
	if err := unix.Mount(mapped(disk.Name), disk.MountAt, disk.FS, flags, ""); err != nil {
		return mountRefusal(disk, err)
	}
	return nil
}

// mountInfoEscapes are the characters that the kernel writes in octal there (show_mountinfo in fs/proc_namespace.c).
var mountInfoEscapes = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`, `\043`, "#")

// mounted returns what is mounted at a directory, or "".
func mounted(mountInfo, dir string) string {
	source := ""
	for _, line := range strings.Split(mountInfo, "\n") {
		before, after, found := strings.Cut(line, " - ")
		fields, rest := strings.Split(before, " "), strings.Split(after, " ")
		if found && len(fields) > 4 && len(rest) > 1 && mountInfoEscapes.Replace(fields[4]) == dir {
			source = rest[1]
		}
	}
	return source
}

// openSized opens a device or a file to read it, and says how many bytes it has.
func openSized(path string) (*os.File, int64, error) {
	device, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	size, err := device.Seek(0, io.SeekEnd)
	if err != nil {
		device.Close()
		return nil, 0, err
	}
	return device, size, nil
}

// grow makes the file system as large as the mapping, which is as large as the device: the segment of the
// LUKS2 header is dynamic. ext4 grows while it is mounted.
func (s *System) grow(ctx context.Context, disk *config.Disk) error {
	device, size, err := openSized(mapped(disk.Name))
	if err != nil {
		return err
	}
	defer device.Close()
	used, err := ext4Bytes(device)
	if err != nil || size-used < growStep {
		return err
	}
	if err := run(ctx, nil, "resize2fs", mapped(disk.Name)); err != nil {
		return fault.Wrap(err, "", "the file system of disk %q cannot grow", disk.Name)
	}
	s.Log.Info("the file system has grown with its device", "disk", disk.Name, "from_bytes", used, "to_bytes", size)
	return nil
}

// growStep is the least growth worth the while; mke2fs itself may leave less than a group of blocks unused.
const growStep = 8 << 20

// ext4Bytes is the size of an ext4 file system, from its superblock (kernel documentation, "ext4 data
// structures and algorithms", section 4.1; little-endian).
func ext4Bytes(device io.ReaderAt) (int64, error) {
	block := make([]byte, superblockBytes)
	if _, err := device.ReadAt(block, superblockPlace); err != nil {
		return 0, err
	}
	if binary.LittleEndian.Uint16(block[superblockMagic:]) != ext4Magic {
		return 0, errors.New("there is no ext4 file system")
	}
	shift := binary.LittleEndian.Uint32(block[0x18:])
	if shift > 6 {
		return 0, fmt.Errorf("the ext4 file system has blocks of 2^%d KiB", shift)
	}
	count := uint64(binary.LittleEndian.Uint32(block[0x4:]))
	if wide := binary.LittleEndian.Uint32(block[0x60:])&0x80 != 0; wide {
		count |= uint64(binary.LittleEndian.Uint32(block[0x150:])) << 32
	}
	if count > 1<<46 {
		return 0, fmt.Errorf("the ext4 file system claims %d blocks", count)
	}
	return int64(count) * 1024 << shift, nil
}
