package disk

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strconv"

	"tdxvm/guest/internal/config"
	"tdxvm/guest/internal/fault"
	"tdxvm/guest/internal/luks"
	"tdxvm/guest/internal/secret"
)

// subsystem is written into the LUKS2 header, for people who look at the disk elsewhere.
const subsystem = "tdx-guest"

// format makes an empty encrypted file system, in the order that the package's description gives. token is
// nil where the key is not sealed.
func (s *System) format(ctx context.Context, disk *config.Disk, plan *Plan, key *secret.Buffer, token *luks.Token) error {
	uuid, err := newUUID()
	if err != nil {
		return err
	}
	if err := clearDevice(plan, uuid, disk.Name); err != nil {
		return err
	}
	header, err := s.makeHeader(ctx, disk, plan, key, uuid)
	if err != nil {
		return err
	}
	defer header.close()
	if err := s.makeFilesystem(ctx, disk, plan, key, header); err != nil {
		return err
	}
	return commitHeader(plan, header.data, token, uuid, disk.Name)
}

// newUUID is a random one (RFC 9562, version 4).
func newUUID() (string, error) {
	raw := make([]byte, 16)
	if _, err := rand.Read(raw); err != nil {
		return "", err
	}
	raw[6] = raw[6]&0x0f | 0x40
	raw[8] = raw[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", raw[:4], raw[4:6], raw[6:8], raw[8:10], raw[10:]), nil
}

// clearDevice overwrites what is at the start and at the end, and notes in the journal that formatting begins.
func clearDevice(plan *Plan, uuid, name string) (err error) {
	device, size, err := openExclusive(plan.Device, os.O_RDWR)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, device.Close()) }()
	if size != plan.Bytes {
		return fmt.Errorf("the device had %d bytes, and now has %d", plan.Bytes, size)
	}
	return clearLabels(device, size, uuid, name)
}

func clearLabels(device syncedDevice, size int64, uuid, name string) error {
	before, err := firstNonZero(device, size)
	if err != nil {
		return err
	}
	if before >= 0 {
		if err := writeJournal(device, StageClearing, uuid, name); err != nil {
			return err
		}
		if err := writeSynced(device, make([]byte, journalFirst), 0); err != nil {
			return err
		}
		if err := writeSynced(device, make([]byte, tailBytes), size-tailBytes); err != nil {
			return err
		}
	}
	return writeJournal(device, StageFormatting, uuid, name)
}

// commitHeader writes the header to the device: keyslots first, then the second copy, then the first. From the moment that
// one copy is whole, the disk counts as formatted.
func commitHeader(plan *Plan, detached []byte, token *luks.Token, uuid, name string) (err error) {
	device, _, err := openExclusive(plan.Device, os.O_RDWR)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, device.Close()) }()
	return writeHeader(device, detached, token, uuid, name)
}

func writeHeader(device syncedDevice, detached []byte, token *luks.Token, uuid, name string) error {
	header, err := luks.Read(readerOf(detached))
	if err != nil {
		return err
	}
	if token != nil {
		moved := *token
		moved.Keyslots = []string{"0"} // the one of the fresh header; it may come from a header with others
		header.Metadata.Tokens = map[string]luks.Token{"0": moved}
		header.SeqID++
	}
	copies, err := header.Encode()
	if err != nil {
		return err
	}
	if _, err := luks.Read(readerOf(copies)); err != nil {
		return fault.Wrap(err, "", "the next boot would refuse the header that was made")
	}
	if err := writeJournal(device, StageCommitting, uuid, name); err != nil {
		return err
	}
	parts := []struct {
		data   []byte
		offset int64
	}{
		{detached[len(copies):], int64(len(copies))},
		{copies[header.Size:], header.Size},
		{copies[:header.Size], 0},
	}
	for _, part := range parts {
		if err := writeSynced(device, part.data, part.offset); err != nil {
			return err
		}
	}
	return writeJournal(device, StageReady, uuid, name)
}

// detachedHeader is a header in a file of a tmpfs.
type detachedHeader struct {
	store *secret.Store
	name  string
	data  []byte
}

func (h *detachedHeader) path() string { return h.store.Path(h.name) }

func (h *detachedHeader) close() { _ = h.store.Wipe(h.name) }

// makeHeader has cryptsetup make a header in a tmpfs. The KDF is cheap on purpose: the key is random and as long as
// the cipher's, so guessing it is no easier than guessing the volume key.
func (s *System) makeHeader(ctx context.Context, disk *config.Disk, plan *Plan, key *secret.Buffer, uuid string) (*detachedHeader, error) {
	store, err := s.headers()
	if err != nil {
		return nil, err
	}
	header := &detachedHeader{store: store, name: disk.Name}
	header.close()
	arguments := []string{
		"luksFormat", "--batch-mode", "--type", "luks2", "--header", header.path(), "--uuid", uuid,
		"--label", disk.Name, "--subsystem", subsystem,
		"--cipher", disk.Cipher, "--key-size", strconv.Itoa(disk.KeyBits), "--hash", "sha256",
		"--sector-size", strconv.Itoa(disk.SectorBytes), "--offset", strconv.Itoa(dataOffset / sectorBytes),
		"--luks2-metadata-size", strconv.Itoa(headerBytes), "--luks2-keyslots-size", strconv.Itoa(keyslotsBytes),
		"--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--use-random",
		"--key-file", "-", "--keyfile-size", strconv.Itoa(key.Len()),
	}
	if disk.Integrity == config.IntegrityHMAC {
		arguments = append(arguments, "--integrity", "hmac-sha256")
	}
	if err := run(ctx, key.Bytes(), "cryptsetup", append(arguments, plan.Device)...); err != nil {
		header.close()
		return nil, fault.Wrap(err, "", "cannot make a LUKS2 header")
	}
	header.data, err = os.ReadFile(header.path())
	if err != nil {
		header.close()
		return nil, err
	}
	return header, nil
}

// makeFilesystem opens the encrypted part, makes the file system, and closes it again, so that all of it is on
// the device before the header is.
func (s *System) makeFilesystem(ctx context.Context, disk *config.Disk, plan *Plan, key *secret.Buffer, made *detachedHeader) error {
	header, err := luks.Read(readerOf(made.data))
	if err != nil {
		return err
	}
	want := expectedOf(disk, plan.Bytes)
	if err := header.Check(want); err != nil {
		return err
	}
	if err := s.mapDevice(ctx, disk, plan, key, header, made, want); err != nil {
		return err
	}
	err = run(ctx, nil, "mke2fs", "-q", "-F", "-t", "ext4", "-E", "nodiscard", mapped(disk.Name))
	if err == nil {
		err = syncDevice(mapped(disk.Name))
	}
	if err = errors.Join(err, s.unmap(ctx, disk.Name)); err != nil {
		return fault.Wrap(err, "", "cannot make the file system")
	}
	return nil
}

func syncDevice(path string) error {
	device, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(device.Sync(), device.Close())
}
