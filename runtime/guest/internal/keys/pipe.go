package keys

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"tdxvm/guest/internal/fault"
	"tdxvm/guest/internal/secret"
)

// pollStep is how long to wait at a time, so that a signal is noticed.
const pollStep = 200 * time.Millisecond

// readPipe reads a key of exactly size bytes from a named pipe, up to its end.
func readPipe(ctx context.Context, path string, size int, timeout time.Duration) (*secret.Buffer, error) {
	pipe, err := openPipe(path)
	if err != nil {
		return nil, err
	}
	defer unix.Close(pipe)
	data := make([]byte, size+1)
	defer secret.Wipe(data)
	length, err := readToEnd(ctx, pipe, data, time.Now().Add(timeout))
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, fault.Refuse("write the key into the pipe from another boot step or service before the time is over, and close it",
			"no whole key came through %s within %s", path, timeout)
	case err != nil:
		return nil, err
	case length != size:
		return nil, fault.Refuse(fmt.Sprintf("write exactly %d bytes, without a line break, and close the pipe", size),
			"what came through %s is %s than the %d bytes of the key", path, shorterOrLonger(length, size), size)
	}
	return secret.Take(data[:size])
}

func shorterOrLonger(length, size int) string {
	if length > size {
		return "longer"
	}
	return "shorter"
}

// openPipe opens the pipe, and makes it, for its owner alone, where it is missing. Opening does not wait for
// somebody who writes.
func openPipe(path string) (int, error) {
	if err := unix.Mkfifo(path, 0o600); err != nil && !errors.Is(err, unix.EEXIST) {
		return -1, fault.Wrap(err, "name a path below /run in the recipe", "cannot make the pipe %s", path)
	}
	pipe, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fault.Wrap(err, "let tdx-guest make the pipe", "cannot open the pipe %s", path)
	}
	var found unix.Stat_t
	if err := unix.Fstat(pipe, &found); err != nil {
		return -1, errors.Join(err, unix.Close(pipe))
	}
	if found.Mode&unix.S_IFMT != unix.S_IFIFO || found.Uid != uint32(os.Geteuid()) || found.Mode&0o077 != 0 {
		refusal := fault.Refuse("let tdx-guest make the pipe, or make it with mode 0600", "%s must be a named pipe that is its owner's alone", path)
		return -1, errors.Join(refusal, unix.Close(pipe))
	}
	return pipe, nil
}

// readToEnd reads until the last writer closes the pipe, data is full, or the deadline is over. Until the first
// writer comes, poll(2) reports neither data nor an end (pipe(7), and pipe_poll in Linux).
func readToEnd(ctx context.Context, pipe int, data []byte, deadline time.Time) (int, error) {
	for length := 0; ; {
		if ctx.Err() != nil {
			return length, ctx.Err()
		}
		if time.Now().After(deadline) {
			return length, os.ErrDeadlineExceeded
		}
		ready, err := unix.Poll([]unix.PollFd{{Fd: int32(pipe), Events: unix.POLLIN}}, int(pollStep/time.Millisecond))
		if errors.Is(err, unix.EINTR) || err == nil && ready == 0 {
			continue
		}
		if err != nil {
			return length, err
		}
		n, err := unix.Read(pipe, data[length:])
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return length, err
		}
		if length += n; n == 0 || length == len(data) {
			return length, nil
		}
	}
}
