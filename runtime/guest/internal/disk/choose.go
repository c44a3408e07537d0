package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"tdxvm/guest/internal/config"
	"tdxvm/guest/internal/fault"
)

// errAbsent says that there is no such device, or not yet.
var errAbsent = errors.New("there is no such device")

// poll is how often a device is looked for that is not there yet.
const poll = 200 * time.Millisecond

// Inspect finds the device of a disk and says what is to be done with it. It writes nothing.
func (s *System) Inspect(ctx context.Context, disk *config.Disk, key *config.Key) (*Plan, error) {
	path, err := s.await(ctx, disk)
	if err != nil {
		return nil, fault.Wrap(err, "", "disk %q", disk.Name)
	}
	found, err := lookAt(path)
	if err != nil {
		return nil, fault.Wrap(err, "", "disk %q", disk.Name)
	}
	action, why, err := decide(disk, key, found)
	if err != nil {
		return nil, fault.Wrap(err, "", "disk %q (%s)", disk.Name, path)
	}
	if found.header != nil && found.header.Recovered && action != ActionFormat {
		s.Log.Warn("one of the two copies of the LUKS2 header is damaged; the other one is used", "disk", disk.Name, "device", path)
	}
	return &Plan{Device: path, Bytes: found.size, Action: action, Why: why, Header: found.header, Ours: found.ours()}, nil
}

func lookAt(path string) (*content, error) {
	file, size, err := openExclusive(path, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if size < minDeviceBytes {
		return &content{size: size, firstByte: -1}, nil
	}
	return look(file, size)
}

// settle is how long the choice of the largest disk must stay the same before an empty one is taken: disks appear one
// after the other, and the one that is ours may be the last.
const settle = 2 * time.Second

// await chooses the device, and waits for it as long as the recipe says.
func (s *System) await(ctx context.Context, disk *config.Disk) (string, error) {
	wait := time.Duration(disk.Device.WaitS) * time.Second
	if disk.Device.Strategy == config.DeviceLargest {
		wait = max(wait, settle)
	}
	deadline := time.Now().Add(wait)
	for {
		path, sure, err := s.choose(disk)
		if err == nil && !sure {
			return s.settled(ctx, disk, path)
		}
		late := errors.Is(err, errAbsent) || err != nil && disk.Device.Strategy == config.DeviceLargest
		if !late || time.Now().After(deadline) {
			return path, err
		}
		if err := pause(ctx, poll); err != nil {
			return "", err
		}
	}
}

// settled returns the choice once it has not changed for a while.
func (s *System) settled(ctx context.Context, disk *config.Disk, path string) (string, error) {
	for {
		if err := pause(ctx, settle); err != nil {
			return "", err
		}
		again, sure, err := s.choose(disk)
		if err != nil || sure || again == path {
			return again, err
		}
		path = again
	}
}

func pause(ctx context.Context, length time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(length):
		return nil
	}
}

// choose returns the device as of now, and whether another look could find a better one.
func (s *System) choose(disk *config.Disk) (path string, sure bool, err error) {
	const fix = "attach the disk to the machine, or correct device= in the recipe"
	switch disk.Device.Strategy {
	case config.DevicePath:
		path, err = filepath.EvalSymlinks(disk.Device.Path)
		if err != nil {
			return "", true, fault.Wrap(errAbsent, fix, "%s", disk.Device.Path)
		}
		return path, true, nil
	case config.DeviceGlob:
		path, err = matching(disk.Device.Path, fix)
		return path, true, err
	}
	candidates, err := s.wholeDisks(disk.Name)
	if err != nil {
		return "", true, err
	}
	path, err = pick(candidates)
	ours := slices.ContainsFunc(candidates, func(each candidate) bool { return each.ours })
	return path, ours, err
}

// matching returns the one device that the pattern matches; several names of one device are one.
func matching(pattern, fix string) (string, error) {
	names, err := filepath.Glob(pattern)
	if err != nil {
		return "", err
	}
	var devices []string
	for _, name := range names {
		if real, err := filepath.EvalSymlinks(name); err == nil && !slices.Contains(devices, real) {
			devices = append(devices, real)
		}
	}
	switch len(devices) {
	case 0:
		return "", fault.Wrap(errAbsent, fix, "%s", pattern)
	case 1:
		return devices[0], nil
	}
	return "", fault.Refuse("make the pattern in the recipe narrower", "%s matches several devices: %s", pattern, strings.Join(devices, ", "))
}

// candidate is a whole disk.
type candidate struct {
	path  string
	size  int64
	ours  bool
	empty bool
	// unfit says why it cannot be taken, or "".
	unfit string
}

// wholeDisks are the whole disks of the machine. What has no device behind it (loop, ram,
// device mapper), cannot be written or can be taken out is not one.
func (s *System) wholeDisks(name string) ([]candidate, error) {
	entries, err := os.ReadDir(s.SysBlock)
	if err != nil {
		return nil, err
	}
	var candidates []candidate
	for _, entry := range entries {
		base := filepath.Join(s.SysBlock, entry.Name())
		if _, err := os.Stat(filepath.Join(base, "device")); err != nil || flag(base, "ro") || flag(base, "removable") {
			continue
		}
		path := "/dev/" + strings.ReplaceAll(entry.Name(), "!", "/")
		found, err := lookAt(path)
		if err != nil {
			candidates = append(candidates, candidate{path: path, unfit: err.Error()})
			continue
		}
		candidates = append(candidates, candidateOf(path, name, found))
	}
	return candidates, nil
}

func candidateOf(path, name string, found *content) candidate {
	return candidate{
		path: path, size: found.size,
		ours:  found.record != nil && found.record.Name == name && !found.foreign,
		empty: found.firstByte < 0 && found.size >= minDeviceBytes,
	}
}

func flag(base, name string) bool {
	data, err := os.ReadFile(filepath.Join(base, name))
	return err == nil && strings.TrimSpace(string(data)) != "0"
}

// pick takes the disk that is ours; else the largest that is empty. Where that leaves a choice it refuses, because on
// the next boot the choice could fall on another one.
func pick(candidates []candidate) (string, error) {
	var ours, empty []candidate
	var seen []string
	for _, each := range candidates {
		switch {
		case each.unfit != "":
			seen = append(seen, each.unfit)
			continue
		case each.ours:
			ours = append(ours, each)
		case each.empty:
			empty = append(empty, each)
		}
		seen = append(seen, fmt.Sprintf("%s (%d bytes) holds something else", each.path, each.size))
	}
	slices.SortFunc(empty, func(a, b candidate) int { return int(min(1, max(-1, b.size-a.size))) })
	switch {
	case len(ours) == 1:
		return ours[0].path, nil
	case len(ours) > 1:
		return "", fault.Refuse("detach the one that is not wanted", "several disks say that they are this one: %s and %s", ours[0].path, ours[1].path)
	case len(empty) > 1 && empty[0].size == empty[1].size:
		return "", fault.Refuse("name one in the recipe with device=", "%s and %s are both empty and of the same size", empty[0].path, empty[1].path)
	case len(empty) > 0:
		return empty[0].path, nil
	case len(seen) == 0:
		return "", fault.Wrap(errAbsent, "attach a disk to the machine", "the machine has no disk")
	}
	return "", fault.Refuse("attach an empty disk, or name one in the recipe with device=. "+dataUntouched,
		"no disk is unused and empty or ours: %s", strings.Join(seen, "; "))
}
