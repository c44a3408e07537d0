package disk

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
)

// Stage is how far formatting got.
type Stage uint32

const (
	// StageFormatting: the start of the disk is zero, and stays so while the file system is made behind it.
	StageFormatting Stage = 1
	// StageReady: formatting ended; the disk may hold data.
	StageReady Stage = 2
	// StageClearing: what was on the disk is being overwritten. A disk that was empty goes without.
	StageClearing Stage = 3
	// StageCommitting: the file system is whole; keyslots and header are being written.
	StageCommitting Stage = 4
)

// Record is one entry of the journal: a single sector, which disks write whole or not at all.
//
// Bytes, big-endian: magic 8, version 4, stage 4, sequence 8, UUID of the LUKS2 header 40, name of the disk 32,
// zeros, SHA-256 of all of it in the last 32.
type Record struct {
	Stage    Stage
	Sequence uint64
	UUID     string
	Name     string
}

var journalMagic = []byte("TDXGUEST")

const journalVersion = 1

func (r *Record) encode() []byte {
	sector := make([]byte, sectorBytes)
	copy(sector, journalMagic)
	binary.BigEndian.PutUint32(sector[8:], journalVersion)
	binary.BigEndian.PutUint32(sector[12:], uint32(r.Stage))
	binary.BigEndian.PutUint64(sector[16:], r.Sequence)
	copy(sector[24:64], r.UUID)
	copy(sector[64:96], r.Name)
	sum := sha256.Sum256(sector[:sectorBytes-sha256.Size])
	copy(sector[sectorBytes-sha256.Size:], sum[:])
	return sector
}

// decodeRecord returns nil for what is not a record, as after a write that was cut off.
func decodeRecord(sector []byte) *Record {
	sum := sha256.Sum256(sector[:sectorBytes-sha256.Size])
	stage := Stage(binary.BigEndian.Uint32(sector[12:]))
	switch {
	case !bytes.Equal(sector[:8], journalMagic),
		!bytes.Equal(sum[:], sector[sectorBytes-sha256.Size:]),
		binary.BigEndian.Uint32(sector[8:]) != journalVersion,
		stage < StageFormatting || stage > StageCommitting:
		return nil
	}
	return &Record{
		Stage:    stage,
		Sequence: binary.BigEndian.Uint64(sector[16:]),
		UUID:     string(bytes.TrimRight(sector[24:64], "\x00")),
		Name:     string(bytes.TrimRight(sector[64:96], "\x00")),
	}
}

// readJournal returns the latest record, or nil.
func readJournal(device io.ReaderAt) (*Record, error) {
	var latest *Record
	for _, offset := range []int64{journalFirst, journalSecond} {
		sector := make([]byte, sectorBytes)
		if _, err := device.ReadAt(sector, offset); err != nil {
			return nil, fmt.Errorf("cannot read at byte %d: %w", offset, err)
		}
		if record := decodeRecord(sector); record != nil && (latest == nil || record.Sequence > latest.Sequence) {
			latest = record
		}
	}
	return latest, nil
}

// writeJournal writes the record after the latest, into the slot that does not hold the latest, so that a
// write that is cut off leaves the latest as it is.
func writeJournal(device syncedDevice, stage Stage, uuid, name string) error {
	latest, err := readJournal(device)
	if err != nil {
		return err
	}
	next := Record{Stage: stage, Sequence: 1, UUID: uuid, Name: name}
	if latest != nil {
		next.Sequence = latest.Sequence + 1
	}
	offset := int64(journalFirst)
	if next.Sequence%2 == 0 {
		offset = journalSecond
	}
	return writeSynced(device, next.encode(), offset)
}

// syncedDevice is an [os.File], or what stands in for one in tests.
type syncedDevice interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
}

func writeSynced(device syncedDevice, data []byte, offset int64) error {
	if _, err := device.WriteAt(data, offset); err != nil {
		return fmt.Errorf("cannot write at byte %d: %w", offset, err)
	}
	if err := device.Sync(); err != nil {
		return fmt.Errorf("cannot sync: %w", err)
	}
	return nil
}
