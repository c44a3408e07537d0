package disk

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"tdxvm/guest/internal/config"
)

const fileSystemBytes = 64 << 20

// fileSystem makes an ext4 file system in a file, and does to it what a case says.
func fileSystem(t *testing.T, spoil func(t *testing.T, file *os.File)) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fs")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := file.Truncate(fileSystemBytes); err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), nil, "mke2fs", "-q", "-F", "-t", "ext4", "-E", "nodiscard", path); err != nil {
		t.Fatal(err)
	}
	spoil(t, file)
	return path
}

func overwrite(t *testing.T, file *os.File, offset int64, data []byte) {
	t.Helper()
	if _, err := file.WriteAt(data, offset); err != nil {
		t.Fatal(err)
	}
}

// inSuperblock changes a byte of the first superblock, and makes its checksum right.
func inSuperblock(t *testing.T, file *os.File, offset int64, value byte) {
	t.Helper()
	block := make([]byte, superblockBytes)
	if _, err := file.ReadAt(block, superblockPlace); err != nil {
		t.Fatal(err)
	}
	block[offset] = value
	sum := ^crc32.Checksum(block[:superblockChecksum], crc32.MakeTable(crc32.Castagnoli))
	binary.LittleEndian.PutUint32(block[superblockChecksum:], sum)
	overwrite(t, file, superblockPlace, block)
}

func noise(length int) []byte {
	data := make([]byte, length)
	for index := range data {
		data[index] = byte(index*7919>>3) | 1
	}
	return data
}

func TestFsckOfRealFileSystems(t *testing.T) {
	type result struct {
		repaired, failed, damaged bool
		say                       string
	}
	clean := result{}
	repaired := result{repaired: true}
	beyond := result{failed: true, damaged: true, say: "cannot be repaired"}
	cases := []struct {
		name           string
		spoil          func(t *testing.T, file *os.File)
		safely, forced result
	}{
		{"clean", func(*testing.T, *os.File) {}, clean, clean},
		{"not unmounted", func(t *testing.T, file *os.File) { // s_state
			inSuperblock(t, file, 0x3a, 0)
		}, repaired, repaired},
		{"first superblock has a wrong checksum", func(t *testing.T, file *os.File) {
			overwrite(t, file, superblockPlace+0x3a, []byte{0})
		}, beyond, repaired},
		{"first superblock is gone", func(t *testing.T, file *os.File) {
			overwrite(t, file, superblockPlace, make([]byte, superblockBytes))
		}, beyond, repaired},
		{"group descriptors and inodes are noise", func(t *testing.T, file *os.File) {
			overwrite(t, file, 2048, noise(2<<20))
		}, beyond, repaired},
		{"all is noise", func(t *testing.T, file *os.File) {
			overwrite(t, file, 0, noise(fileSystemBytes))
		}, beyond, beyond},
		{"all is zero", func(t *testing.T, file *os.File) {
			overwrite(t, file, 0, make([]byte, fileSystemBytes))
		}, beyond, beyond},
		{"the device was made smaller", func(t *testing.T, file *os.File) {
			if err := file.Truncate(fileSystemBytes / 2); err != nil {
				t.Fatal(err)
			}
		}, result{failed: true, say: "it was made smaller"}, result{failed: true, say: "it was made smaller"}},
		{"a feature that is not known", func(t *testing.T, file *os.File) { // s_feature_incompat
			inSuperblock(t, file, 0x63, 0x40)
		}, result{failed: true, say: "cannot be checked"}, result{failed: true, say: "cannot be checked"}},
	}
	for _, c := range cases {
		for name, how := range map[string]struct {
			with repair
			want result
		}{"safely": {repairSafely, c.safely}, "by force": {repairByForce, c.forced}} {
			t.Run(c.name+"/"+name, func(t *testing.T) {
				t.Parallel()
				path := fileSystem(t, c.spoil)
				again, err := fsck(t.Context(), path, how.with)
				got := result{repaired: again, failed: err != nil, damaged: errors.Is(err, errDamaged), say: how.want.say}
				if got != how.want || !strings.Contains(fmt.Sprint(err), how.want.say) {
					t.Errorf("got %+v, %v; want %+v", got, err, how.want)
				}
				if err == nil {
					if _, err := fsck(t.Context(), path, repairSafely); err != nil {
						t.Errorf("after that: %v", err)
					}
				}
			})
		}
	}
}

// TestWhatCountsAsDamage runs a shell in the place of e2fsck: nothing but its own word that the file system is damaged counts.
func TestWhatCountsAsDamage(t *testing.T) {
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	cases := []struct {
		name   string
		ctx    context.Context
		tool   string
		script string
		damage bool
	}{
		{"uncorrected", t.Context(), "sh", "exit 4", true},
		{"some corrected", t.Context(), "sh", "exit 5", true},
		{"some corrected, reboot", t.Context(), "sh", "exit 7", true},
		{"operational error", t.Context(), "sh", "exit 8", false},
		{"uncorrected and operational error", t.Context(), "sh", "exit 12", false},
		{"usage", t.Context(), "sh", "exit 16", false},
		{"cancelled", t.Context(), "sh", "exit 32", false},
		{"library", t.Context(), "sh", "exit 128", false},
		{"library, with all bits", t.Context(), "sh", "exit 255", false},
		{"killed", t.Context(), "sh", "kill -9 $$", false},
		{"no such tool", t.Context(), "no-such-tool", "", false},
		{"told to stop", stopped, "sh", "exit 4", false},
		{"cannot read", t.Context(), "sh", "echo 'Error reading block 33 (Input/output error).'; exit 4", false},
		{"cannot write", t.Context(), "sh", "echo 'Error writing block 33 (Input/output error).' >&2; exit 4", false},
		{"cannot read, long ago", t.Context(), "sh", "echo Error reading block 33; yes | head -c 300000; exit 4", false},
		{"much to say", t.Context(), "sh", "yes | head -c 300000; exit 4", true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			err := run(c.ctx, nil, c.tool, "-c", c.script)
			if err == nil || isDamage(err) != c.damage {
				t.Errorf("damage: %v, want %v (%.200v)", isDamage(err), c.damage, err)
			}
			if len(fmt.Sprint(err)) > outputLimit+200 {
				t.Errorf("the message has %d bytes", len(fmt.Sprint(err)))
			}
		})
	}
}

func TestWhatLeadsToFormatting(t *testing.T) {
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink("/", link); err != nil {
		t.Fatal(err)
	}
	damaged := fmt.Errorf("%w: %w", errDamaged, &toolError{tool: "e2fsck", status: 4})
	disk := testDisk(config.FormatOnFail)
	cases := []struct {
		name string
		err  error
		want bool
	}{
		{"nothing", nil, false},
		{"damage", damaged, true},
		{"e2fsck was killed", &toolError{tool: "e2fsck", status: -1}, false},
		{"structure needs cleaning", mountRefusal(disk, unix.EUCLEAN), true},
		{"bad checksum", mountRefusal(disk, unix.EBADMSG), true},
		{"a feature or an option", mountRefusal(disk, unix.EINVAL), false},
		{"no ext4 in the kernel", mountRefusal(disk, unix.ENODEV), false},
		{"no memory", mountRefusal(disk, unix.ENOMEM), false},
		{"device does not answer", mountRefusal(disk, unix.EIO), false},
		{"busy", mountRefusal(disk, unix.EBUSY), false},
		{"not allowed", mountRefusal(disk, unix.EPERM), false},
		{"no directory", makeMountPoint("/proc/nothing/can/be/made/here"), false},
		{"a file", makeMountPoint("/etc/hostname"), false},
		{"a link", makeMountPoint(link), false},
	}
	for _, c := range cases {
		if (c.err == nil) != (c.name == "nothing") {
			t.Errorf("%s: %v", c.name, c.err)
		}
		for _, format := range []string{config.FormatOnFail, config.FormatOnInitialize, config.FormatNever, config.FormatAlways} {
			for _, ours := range []bool{true, false} {
				if got := formatsOver(testDisk(format), &Plan{Ours: ours}, c.err); got != (c.want && ours && format == config.FormatOnFail) {
					t.Errorf("%s, %s, ours %v: formats: %v", c.name, format, ours, got)
				}
			}
		}
	}
	if dir := filepath.Join(t.TempDir(), "a/b"); makeMountPoint(dir) != nil {
		t.Errorf("%s cannot be made", dir)
	}
}

// TestPlacesOfSuperblocks holds the places against those where mke2fs puts them.
func TestPlacesOfSuperblocks(t *testing.T) {
	for _, block := range []string{"1024", "2048", "4096"} {
		path := filepath.Join(t.TempDir(), block)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, 1<<30); err != nil {
			t.Fatal(err)
		}
		if err := run(t.Context(), nil, "mke2fs", "-q", "-F", "-t", "ext4", "-b", block, "-E", "nodiscard", path); err != nil {
			t.Fatal(err)
		}
		device, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer device.Close()
		count := 0
		for _, place := range append(copiesOfSuperblock(1<<30), superblockPlace) {
			found := make([]byte, superblockBytes)
			if _, err := device.ReadAt(found, place); err != nil {
				t.Fatal(err)
			}
			if found[superblockMagic] == 0x53 && found[superblockMagic+1] == 0xef {
				count++
				overwrite(t, device, place, make([]byte, superblockBytes))
				if !hasSuperblock(path, true) {
					break
				}
			}
		}
		// e2fsck that finds none of them agrees: there is no other.
		if _, err := fsck(t.Context(), path, repairByForce); count < 4 || !errors.Is(err, errDamaged) {
			t.Errorf("blocks of %s bytes: %d superblocks; %v", block, count, err)
		}
	}
}
