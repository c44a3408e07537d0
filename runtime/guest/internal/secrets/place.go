package secrets

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"tdxvm/guest/internal/fault"
)

// place is where a file goes, and to whom it belongs.
type place struct {
	path     string
	mode     uint32
	uid, gid int
}

// staged is a file that is written and synced beside its place, and not yet there.
type staged struct {
	folder    *os.File
	temporary string
	place     place
}

// stage writes data beside its place: in the same folder, for root alone, under a name of its own. Until
// [staged.commit], no reader sees any of it, and after it all of it.
func stage(to place, data []byte) (*staged, error) {
	folder, err := openFolder(path.Dir(to.path))
	if err != nil {
		return nil, err
	}
	file := &staged{folder: folder, temporary: temporaryName(), place: to}
	if err := file.write(data); err != nil {
		file.discard()
		return nil, fmt.Errorf("cannot write %s: %w", to.path, err)
	}
	return file, nil
}

func (s *staged) write(data []byte) error {
	handle, err := unix.Openat(int(s.folder.Fd()), s.temporary,
		unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	file := os.NewFile(uintptr(handle), s.temporary)
	defer file.Close()
	if _, err := file.Write(data); err != nil {
		return err
	}
	if err := file.Chown(s.place.uid, s.place.gid); err != nil {
		return err
	}
	if err := unix.Fchmod(handle, s.place.mode); err != nil { // after chown, which may clear bits
		return err
	}
	return file.Sync()
}

// commit moves the file to its place, over what may be there.
func (s *staged) commit() error {
	defer s.folder.Close()
	handle := int(s.folder.Fd())
	if err := unix.Renameat(handle, s.temporary, handle, path.Base(s.place.path)); err != nil {
		_ = unix.Unlinkat(handle, s.temporary, 0)
		return fmt.Errorf("cannot write %s: %w", s.place.path, err)
	}
	return s.folder.Sync()
}

// discard forgets the file.
func (s *staged) discard() {
	_ = unix.Unlinkat(int(s.folder.Fd()), s.temporary, 0)
	_ = s.folder.Close()
}

// temporaryPrefix begins the names of files that are not in their place yet.
const temporaryPrefix = ".tdx-guest-"

func temporaryName() string {
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails, see crypto/rand
	return temporaryPrefix + hex.EncodeToString(random[:])
}

// discardLeftovers removes what an earlier run of this boot wrote and was killed before it could commit or discard: secrets that
// have not been accepted, in files that their owners could read.
func discardLeftovers(folder *os.File) error {
	names, err := folder.Readdirnames(-1)
	if err != nil {
		return fmt.Errorf("cannot list the folder %s: %w", folder.Name(), err)
	}
	for _, name := range names {
		if !strings.HasPrefix(name, temporaryPrefix) {
			continue
		}
		if err := unix.Unlinkat(int(folder.Fd()), name, 0); err != nil {
			return fmt.Errorf("cannot remove %s: %w", path.Join(folder.Name(), name), err)
		}
	}
	return nil
}

// openFolder opens a folder in memory that nobody but root can exchange, and makes it, and those above it, where
// they are missing. It goes down by one name at a time: openat2, which could refuse links by itself, is one of
// the calls that RestrictSUIDSGID= of systemd takes away.
func openFolder(name string) (*os.File, error) {
	handle, err := unix.Open("/", folderFlags, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open the folder /: %w", err)
	}
	folder := os.NewFile(uintptr(handle), "/")
	for _, part := range strings.Split(strings.Trim(name, "/"), "/") {
		below, err := descend(folder, part)
		folder.Close()
		if err != nil {
			return nil, err
		}
		folder = below
	}
	if err := checkVolatile(folder); err != nil {
		folder.Close()
		return nil, err
	}
	return folder, nil
}

const folderFlags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC

// descend opens one folder in another, and makes it where it is missing and may be made.
func descend(folder *os.File, part string) (*os.File, error) {
	name := path.Join(folder.Name(), part)
	handle, err := unix.Openat(int(folder.Fd()), part, folderFlags, 0)
	if errors.Is(err, unix.ENOENT) {
		if err := makeFolder(folder, part); err != nil {
			return nil, err
		}
		handle, err = unix.Openat(int(folder.Fd()), part, folderFlags, 0)
	}
	var about unix.Stat_t
	if err != nil && unix.Fstatat(int(folder.Fd()), part, &about, unix.AT_SYMLINK_NOFOLLOW) == nil && about.Mode&unix.S_IFMT == unix.S_IFLNK {
		return nil, fault.Refuse("name the folder itself, such as /run for /var/run", "a secret cannot go below %s, which is a symbolic link", name)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot open the folder %s: %w", name, err)
	}
	below := os.NewFile(uintptr(handle), name)
	if err := checkFolder(below); err != nil {
		below.Close()
		return nil, err
	}
	return below, nil
}

// makeFolder makes one folder, in memory alone. Mode 0711 lets the owner of a secret reach it, and does not list
// what else is there.
func makeFolder(folder *os.File, part string) error {
	if err := checkVolatile(folder); err != nil {
		return err
	}
	err := unix.Mkdirat(int(folder.Fd()), part, 0o711)
	if err == nil { // whatever the umask is
		err = unix.Fchmodat(int(folder.Fd()), part, 0o711, 0)
	}
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("cannot make the folder %s: %w", path.Join(folder.Name(), part), err)
	}
	return nil
}

// checkFolder refuses a folder in which somebody else could put another file, or folder, in our file's place.
func checkFolder(folder *os.File) error {
	var about unix.Stat_t
	if err := unix.Fstat(int(folder.Fd()), &about); err != nil {
		return fmt.Errorf("cannot look at the folder %s: %w", folder.Name(), err)
	}
	if about.Uid != 0 && int(about.Uid) != os.Geteuid() {
		return fault.Refuse("choose a folder of root", "a secret cannot go to %s, which belongs to user %d", folder.Name(), about.Uid)
	}
	if about.Mode&0o022 != 0 && about.Mode&unix.S_ISVTX == 0 {
		return fault.Refuse("choose a folder that only root writes to", "a secret cannot go to %s, which others can write to", folder.Name())
	}
	return nil
}

// checkVolatile refuses a file or folder that would outlive the machine.
func checkVolatile(file *os.File) error {
	var system unix.Statfs_t
	if err := unix.Fstatfs(int(file.Fd()), &system); err != nil {
		return fmt.Errorf("cannot look at the file system of %s: %w", file.Name(), err)
	}
	switch int64(system.Type) {
	case unix.TMPFS_MAGIC, unix.RAMFS_MAGIC:
		return nil
	}
	return fault.Refuse("choose a path on a tmpfs, such as below /run", "a secret cannot go to %s, which is not on a tmpfs", file.Name())
}

// account resolves a user or group, by name or number, in the image's own files.
func account(name string, lookup func(string) (string, error)) (int, error) {
	number, err := strconv.Atoi(name)
	if err == nil {
		return number, nil
	}
	text, err := lookup(name)
	if err != nil {
		return 0, fault.Wrap(err, "declare it in the recipe", "the image has no user or group %s, which a secret is for", name)
	}
	return strconv.Atoi(text)
}

func userID(name string) (int, error) {
	return account(name, func(name string) (string, error) {
		found, err := user.Lookup(name)
		if err != nil {
			return "", err
		}
		return found.Uid, nil
	})
}

func groupID(name string) (int, error) {
	return account(name, func(name string) (string, error) {
		found, err := user.LookupGroup(name)
		if err != nil {
			return "", err
		}
		return found.Gid, nil
	})
}
