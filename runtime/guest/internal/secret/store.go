package secret

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// RunDir is where this program keeps what must not outlive the machine's run.
const RunDir = "/run/tdx-guest"

// Store is a directory of root alone in a tmpfs, with one file for each secret.
type Store struct{ dir string }

// OpenStore makes dir where it is missing. What is not a tmpfs or ramfs is refused, because a secret there
// would reach a disk.
func OpenStore(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	var found unix.Stat_t
	if err := unix.Lstat(dir, &found); err != nil {
		return nil, &fs.PathError{Op: "lstat", Path: dir, Err: err}
	}
	if found.Mode&unix.S_IFMT != unix.S_IFDIR || found.Uid != uint32(os.Geteuid()) || found.Mode&0o077 != 0 {
		return nil, fmt.Errorf("%s must be a directory that is its owner's alone (mode 0700)", dir)
	}
	var system unix.Statfs_t
	if err := unix.Statfs(dir, &system); err != nil {
		return nil, &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	if system.Type != unix.TMPFS_MAGIC && system.Type != unix.RAMFS_MAGIC {
		return nil, fmt.Errorf("%s is not in a tmpfs, and a key must not reach a disk", dir)
	}
	return &Store{dir: dir}, nil
}

// Path is the file of that name.
func (s *Store) Path(name string) string { return filepath.Join(s.dir, name) }

// Has says whether there is a file of that name.
func (s *Store) Has(name string) bool {
	_, err := os.Lstat(s.Path(name))
	return err == nil
}

// Write puts data into the file of that name, whole or not at all.
func (s *Store) Write(name string, data []byte) (err error) {
	fresh := s.Path("." + name + ".new")
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	file, err := os.OpenFile(fresh, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err = errors.Join(err, file.Close()); err != nil {
		return errors.Join(err, os.Remove(fresh))
	}
	return os.Rename(fresh, s.Path(name))
}

// Read returns the secret of that name, at most limit bytes.
func (s *Store) Read(name string, limit int) (*Buffer, error) {
	file, err := os.OpenFile(s.Path(name), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 || info.Size() == 0 || info.Size() > int64(limit) {
		return nil, fmt.Errorf("%s must be a plain file of 1 to %d bytes with mode 0600", s.Path(name), limit)
	}
	buffer, err := NewBuffer(int(info.Size()))
	if err != nil {
		return nil, err
	}
	if n, err := file.Read(buffer.data); err != nil || n != buffer.Len() {
		buffer.Close()
		return nil, fmt.Errorf("%s: read %d of %d bytes: %w", s.Path(name), n, info.Size(), err)
	}
	return buffer, nil
}

// Wipe overwrites the file of that name and removes it. There being none is fine.
func (s *Store) Wipe(name string) error {
	file, err := os.OpenFile(s.Path(name), os.O_WRONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err == nil {
		_, err = file.Write(make([]byte, info.Size()))
	}
	return errors.Join(err, file.Close(), os.Remove(s.Path(name)))
}
