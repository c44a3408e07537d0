package disk

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strconv"

	"tdxvm/guest/internal/config"
	"tdxvm/guest/internal/fault"
	"tdxvm/guest/internal/luks"
	"tdxvm/guest/internal/secret"
)

// wrongKey is the status of cryptsetup for a key that opens no keyslot (cryptsetup(8), "RETURN CODES").
const wrongKey = 2

func mapped(name string) string { return "/dev/mapper/" + name }

func readerOf(data []byte) io.ReaderAt { return bytes.NewReader(data) }

// open maps an existing disk: its header is read once, checked, and written anew into a tmpfs; cryptsetup
// gets that copy, and no metadata of the device.
func (s *System) open(ctx context.Context, disk *config.Disk, plan *Plan, key *secret.Buffer, sealed bool) (err error) {
	device, size, err := openExclusive(plan.Device, os.O_RDONLY)
	if err != nil {
		return err
	}
	want := expectedOf(disk, size)
	want.Tokens = sealed
	header, data, err := detach(device, want)
	if err = errors.Join(err, device.Close()); err != nil {
		return err
	}
	store, err := s.headers()
	if err != nil {
		return err
	}
	copied := &detachedHeader{store: store, name: disk.Name, data: data}
	defer copied.close()
	if err := store.Write(disk.Name, data); err != nil {
		return err
	}
	return s.mapDevice(ctx, disk, plan, key, header, copied, want)
}

func detach(device io.ReaderAt, want luks.Expected) (*luks.Header, []byte, error) {
	header, err := luks.Read(device)
	if err != nil {
		return nil, nil, err
	}
	if err := header.Check(want); err != nil {
		return nil, nil, err
	}
	data, err := header.Detached(device)
	return header, data, err
}

// mapDevice has cryptsetup map the device with a detached header, and holds what the kernel made of it against
// what was asked for. A mapping that is something else is taken away again.
func (s *System) mapDevice(ctx context.Context, disk *config.Disk, plan *Plan, key *secret.Buffer, header *luks.Header, detached *detachedHeader, want luks.Expected) error {
	if err := s.unmap(ctx, disk.Name); err != nil {
		return err
	}
	err := run(ctx, key.Bytes(), "cryptsetup", "open", "--batch-mode", "--type", "luks2", "--header", detached.path(),
		"--disable-external-tokens", "--key-file", "-", "--keyfile-size", strconv.Itoa(key.Len()), plan.Device, disk.Name)
	switch {
	case status(err) == wrongKey:
		return fault.Wrap(err, "give the key that the disk was formatted with. "+dataUntouched, "the key does not open the disk")
	case err != nil:
		return fault.Wrap(err, "", "the disk cannot be opened")
	}
	if err := checkMapping(disk, plan, header, want); err != nil {
		return errors.Join(fault.Wrap(err, "", "the mapping is not what was asked for, and is taken away"), s.unmap(ctx, disk.Name))
	}
	return nil
}

func checkMapping(disk *config.Disk, plan *Plan, header *luks.Header, want luks.Expected) error {
	number, err := numberOf(plan.Device)
	if err != nil {
		return err
	}
	if want.HMAC { // the crypt mapping lies on a mapping of dm-integrity, which lies on the device
		lower := disk.Name + "_dif"
		found, err := readTarget(lower)
		if err != nil {
			return err
		}
		if err := checkIntegrityTarget(found, number, header.DataOffset()); err != nil {
			return err
		}
		if number, err = numberOf(mapped(lower)); err != nil {
			return err
		}
	}
	found, err := readTarget(disk.Name)
	if err != nil {
		return err
	}
	return checkTarget(found, number, header.DataOffset(), want)
}

// unmap takes a mapping away; there being none is fine. An earlier run of this boot may have left one.
func (s *System) unmap(ctx context.Context, name string) error {
	if _, err := os.Stat(mapped(name)); err != nil {
		return nil
	}
	if err := run(ctx, nil, "cryptsetup", "close", name); err != nil {
		return fault.Wrap(err, "", "the mapping %s is there already, and cannot be taken away", mapped(name))
	}
	return nil
}

// expectedOf is what the configuration says about a disk, apart from tokens.
func expectedOf(disk *config.Disk, size int64) luks.Expected {
	return luks.Expected{
		Cipher:      disk.Cipher,
		KeyBits:     disk.KeyBits,
		SectorBytes: disk.SectorBytes,
		HMAC:        disk.Integrity == config.IntegrityHMAC,
		DeviceBytes: size,
	}
}
