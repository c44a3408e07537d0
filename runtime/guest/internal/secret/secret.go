// Package secret holds keys in memory that is not swapped, not dumped and overwritten after use, and hands
// them from one boot step to the next through files of root alone in a tmpfs.
package secret

import (
	"crypto/rand"
	"fmt"
	"log/slog"
	"runtime"

	"golang.org/x/sys/unix"
)

// Buffer is a secret in memory of its own, outside of what Go collects and copies. It prints as "[secret]".
type Buffer struct{ data []byte }

// NewBuffer returns size zeroed bytes.
func NewBuffer(size int) (*Buffer, error) {
	data, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("cannot map memory for a key: %w", err)
	}
	if err := unix.Mlock(data); err != nil {
		_ = unix.Munmap(data)
		return nil, fmt.Errorf("cannot lock the memory of a key (RLIMIT_MEMLOCK, CAP_IPC_LOCK): %w", err)
	}
	if err := unix.Madvise(data, unix.MADV_DONTDUMP); err != nil {
		_ = unix.Munmap(data)
		return nil, fmt.Errorf("cannot keep a key out of core dumps: %w", err)
	}
	return &Buffer{data: data}, nil
}

// Random returns size bytes of getrandom(2).
func Random(size int) (*Buffer, error) {
	buffer, err := NewBuffer(size)
	if err != nil {
		return nil, err
	}
	if _, err := rand.Read(buffer.data); err != nil {
		buffer.Close()
		return nil, fmt.Errorf("the kernel gives no random bytes: %w", err)
	}
	return buffer, nil
}

// Take moves data into a buffer and overwrites data.
func Take(data []byte) (*Buffer, error) {
	defer Wipe(data)
	buffer, err := NewBuffer(len(data))
	if err != nil {
		return nil, err
	}
	copy(buffer.data, data)
	return buffer, nil
}

// Bytes is the secret itself, valid until Close.
func (b *Buffer) Bytes() []byte { return b.data }

// Len is the length in bytes.
func (b *Buffer) Len() int { return len(b.data) }

// Close overwrites the secret and gives the memory back.
func (b *Buffer) Close() {
	if b.data == nil {
		return
	}
	Wipe(b.data)
	_ = unix.Munmap(b.data)
	b.data = nil
}

func (b *Buffer) String() string { return "[secret]" }

// GoString keeps the secret out of %#v.
func (b *Buffer) GoString() string { return "[secret]" }

// Format keeps the secret out of every other verb, such as %x.
func (b *Buffer) Format(state fmt.State, _ rune) { _, _ = state.Write([]byte("[secret]")) }

// LogValue keeps the secret out of the journal.
func (b *Buffer) LogValue() slog.Value { return slog.StringValue("[secret]") }

// Wipe overwrites data with zeros.
func Wipe(data []byte) {
	clear(data)
	runtime.KeepAlive(&data)
}

// Harden keeps this process from leaving a core dump and from being read by a debugger of the same user.
func Harden() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("cannot forbid dumps of this process: %w", err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("cannot forbid core files: %w", err)
	}
	return nil
}
