// Package tpm seals a key to a TPM 2.0 under the values of its PCRs, and gets it back when they are the same.
//
// What is stored is public. The TPM guards its secrecy (only under those PCR values, only on this TPM) and a creation
// ticket its origin: it was made while the PCRs had these very values, that is, by this image. Without the ticket,
// whoever gets at the TPM with another system could seal a key of theirs under the same policy, and have the image
// encrypt its data with it.
//
// Nothing secret crosses the bus in the clear: sessions are salted to the primary key, and the first
// parameter of commands and responses is encrypted ("TPM 2.0 Library Specification", part 1, sections 19 and 21). An
// interposer that answers in the TPM's place from the first boot on is not found out this way.
package tpm

import (
	"bytes"
	"fmt"
	"io"
	"os"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"tdxvm/guest/internal/config"
	"tdxvm/guest/internal/fault"
)

// Device is a TPM.
type Device struct {
	connection transport.TPMCloser
}

// Open opens a character device of the kernel.
func Open(path string) (*Device, error) {
	const fix = "give the machine a TPM 2.0 (QEMU: -tpmdev emulator and -device tpm-crb), or choose another key strategy in the recipe"
	info, err := os.Stat(path)
	if err != nil {
		return nil, fault.Wrap(err, fix, "there is no TPM")
	}
	if info.Mode()&os.ModeCharDevice == 0 {
		return nil, fault.Refuse(fix, "%s is not a TPM: it is no character device", path)
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, fault.Wrap(err, fix, "the TPM cannot be opened")
	}
	return New(file), nil
}

// New speaks to a TPM over a connection that takes one command and gives one response at a time.
func New(connection io.ReadWriteCloser) *Device {
	return &Device{connection: transport.FromReadWriteCloser(connection)}
}

// Close lets go of the device.
func (d *Device) Close() { _ = d.connection.Close() }

// ReadPCRs returns the registers of a bank, in the order of pcrs.
func (d *Device) ReadPCRs(bank string, pcrs []int) ([][]byte, error) {
	values := make([][]byte, 0, len(pcrs))
	for _, pcr := range pcrs {
		response, err := tpm2.PCRRead{PCRSelectionIn: selection(bank, []int{pcr})}.Execute(d.connection)
		if err != nil {
			return nil, fmt.Errorf("the TPM does not tell PCR %d: %w", pcr, err)
		}
		if len(response.PCRValues.Digests) != 1 || len(response.PCRValues.Digests[0].Buffer) != config.DigestBytes(bank) {
			return nil, fault.Refuse("choose a bank that the TPM has (tpm2_getcap pcrs lists them)", "the TPM has no %s bank of PCRs", bank)
		}
		values = append(values, response.PCRValues.Digests[0].Buffer)
	}
	return values, nil
}

func selection(bank string, pcrs []int) tpm2.TPMLPCRSelection {
	hash := tpm2.TPMAlgSHA256
	if bank == "sha384" {
		hash = tpm2.TPMAlgSHA384
	}
	numbers := make([]uint, len(pcrs))
	for index, pcr := range pcrs {
		numbers[index] = uint(pcr)
	}
	return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{Hash: hash, PCRSelect: tpm2.PCClientCompatible.PCRs(numbers...)}}}
}

// primary is the storage root key: made anew from the TCG's template, and so the same each time.
type primary struct {
	handle tpm2.TPMHandle
	name   tpm2.TPM2BName
	public tpm2.TPMTPublic
}

// makePrimary makes the storage root key in the owner hierarchy; the caller flushes it.
func (d *Device) makePrimary() (*primary, error) {
	response, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}.Execute(d.connection)
	if err != nil {
		return nil, fault.Wrap(err, "clear the TPM where its owner hierarchy has a password", "the TPM makes no storage root key")
	}
	made := &primary{handle: response.ObjectHandle}
	public, err := response.OutPublic.Contents()
	if err != nil {
		d.flush(made.handle)
		return nil, fmt.Errorf("the TPM's storage root key is not understood: %w", err)
	}
	name, err := tpm2.ObjectName(public)
	if err != nil || !bytes.Equal(name.Buffer, response.Name.Buffer) || !isStorageKey(public) {
		d.flush(made.handle)
		return nil, fault.Refuse("", "the TPM's storage root key is not what was asked for")
	}
	made.public, made.name = *public, *name
	return made, nil
}

// isStorageKey says whether a public area is the template with another point.
func isStorageKey(public *tpm2.TPMTPublic) bool {
	plain := *public
	plain.Unique = tpm2.ECCSRKTemplate.Unique
	return bytes.Equal(tpm2.Marshal(plain), tpm2.Marshal(tpm2.ECCSRKTemplate))
}

func (d *Device) flush(handle tpm2.TPMHandle) {
	_, _ = tpm2.FlushContext{FlushHandle: handle}.Execute(d.connection)
}

// session is for one command: salted to the primary key, so that its HMAC authenticates both ways, with the
// first parameter encrypted in the given direction.
func (p *primary) session() tpm2.Session {
	return tpm2.HMAC(tpm2.TPMAlgSHA256, 16, tpm2.Salted(p.handle, p.public), tpm2.AESEncryption(128, tpm2.EncryptInOut))
}
