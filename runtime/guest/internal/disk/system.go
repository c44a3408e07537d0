package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"tdxvm/guest/internal/fault"
	"tdxvm/guest/internal/secret"
)

// System is what this package needs of the machine.
type System struct {
	Log *slog.Logger
	// RunDir is a directory in a tmpfs, for root alone: keys, sealed keys and headers lie in directories below.
	RunDir string
	// SysBlock is /sys/block.
	SysBlock string
}

// NewSystem is the machine that this program runs on.
func NewSystem(log *slog.Logger) *System {
	return &System{Log: log, RunDir: secret.RunDir, SysBlock: "/sys/block"}
}

// Keys is where keys are handed from `key` to `disk`.
func (s *System) Keys() (*secret.Store, error) { return s.store("keys") }

// Sealed is where sealed keys wait for the disk that they are written to.
func (s *System) Sealed() (*secret.Store, error) { return s.store("sealed") }

func (s *System) headers() (*secret.Store, error) { return s.store("headers") }

func (s *System) store(name string) (*secret.Store, error) {
	if err := os.MkdirAll(s.RunDir, 0o755); err != nil {
		return nil, err
	}
	store, err := secret.OpenStore(filepath.Join(s.RunDir, name))
	if err != nil {
		return nil, fault.Wrap(err, "mount a tmpfs at /run before", "there is no safe place for keys")
	}
	return store, nil
}

// toolPath is where tools are looked for; the environment has no say in it.
const toolPath = "/usr/sbin:/usr/bin:/sbin:/bin"

// pipeBytes fit into a pipe without anybody reading it (PIPE_BUF).
const pipeBytes = 4096

// outputLimit is how much of what a tool says is kept for an error.
const outputLimit = 4096

// toolError is a tool that ended with another status than zero.
type toolError struct {
	tool   string
	status int
	said   string
	// ioTrouble says that it complained of the device.
	ioTrouble bool
}

func (e *toolError) Error() string {
	if e.said == "" {
		return fmt.Sprintf("%s ended with status %d", e.tool, e.status)
	}
	return fmt.Sprintf("%s ended with status %d and said: %s", e.tool, e.status, e.said)
}

// status is the exit status that an error of run stands for, or -1.
func status(err error) int {
	var failed *toolError
	if errors.As(err, &failed) {
		return failed.status
	}
	return -1
}

// run runs a tool to its end. stdin is written to its standard input, which is a pipe: a key goes that way,
// never through arguments, the environment or a file.
func run(ctx context.Context, stdin []byte, tool string, arguments ...string) error {
	path, err := findTool(tool)
	if err != nil {
		return err
	}
	command := exec.CommandContext(ctx, path, arguments...)
	command.Env = []string{"PATH=" + toolPath, "LC_ALL=C"}
	command.Dir = "/"
	var said transcript
	command.Stdout, command.Stderr = &said, &said // the same for both, so one writes at a time
	if stdin != nil {
		reader, writer, err := os.Pipe()
		if err != nil {
			return err
		}
		defer reader.Close()
		if len(stdin) > pipeBytes { // what is longer could block before anybody reads
			return errors.Join(errors.New("input is too long"), writer.Close())
		}
		_, err = writer.Write(stdin)
		if err = errors.Join(err, writer.Close()); err != nil {
			return err
		}
		command.Stdin = reader
	}
	err = command.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && ctx.Err() == nil {
		text := strings.ReplaceAll(strings.TrimSpace(string(said.tail)), "\n", "; ")
		return &toolError{tool: tool, status: exit.ExitCode(), said: text[max(0, len(text)-outputLimit):], ioTrouble: said.ioTrouble}
	}
	return errors.Join(err, ctx.Err())
}

// ioComplaints are the words of e2fsck for a device that does not answer (e2fsck/ehandler.c; LC_ALL is C).
var ioComplaints = [][]byte{[]byte("Error reading block"), []byte("Error writing block")}

// transcript keeps the end of what a tool says, and whether it ever complained of the device. A repair of a large disk
// may say more than the machine has memory for.
type transcript struct {
	tail      []byte
	ioTrouble bool
}

func (t *transcript) Write(part []byte) (int, error) {
	t.tail = append(t.tail, part...)
	for _, complaint := range ioComplaints {
		t.ioTrouble = t.ioTrouble || bytes.Contains(t.tail, complaint)
	}
	t.tail = t.tail[max(0, len(t.tail)-outputLimit):]
	return len(part), nil
}

func findTool(tool string) (string, error) {
	for _, dir := range strings.Split(toolPath, ":") {
		path := filepath.Join(dir, tool)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fault.Refuse("install cryptsetup-bin and e2fsprogs in the image; the module DiskEncryption does", "the image has no %s", tool)
}

// openExclusive opens a block device that nothing else uses: the kernel refuses where it, one of its
// partitions or what lies on top of it is mounted, mapped or swapped to.
func openExclusive(path string, flags int) (*os.File, int64, error) {
	file, err := os.OpenFile(path, flags|unix.O_EXCL|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.EBUSY) {
		return nil, 0, fault.Refuse("name a device in the recipe that nothing else uses. "+dataUntouched, "the device %s is in use", path)
	}
	if err != nil {
		return nil, 0, fault.Wrap(err, "", "the device %s cannot be opened", path)
	}
	info, err := file.Stat()
	if err == nil && (info.Mode()&os.ModeDevice == 0 || info.Mode()&os.ModeCharDevice != 0) {
		err = fault.Refuse("name a disk or a partition in the recipe", "%s is not a block device", path)
	}
	var size int64
	if err == nil {
		size, err = file.Seek(0, io.SeekEnd)
	}
	if err != nil {
		return nil, 0, errors.Join(err, file.Close())
	}
	return file, size, nil
}
